"""One look for every plot and overlay: colours that colour-blind readers can tell apart, readable type."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base import files
from malaria_cells.base.file_names import printable
from malaria_cells.data.labels import LabelSet

# Okabe and Ito (jfly.uni-koeln.de/color, 2008), strong ones first; black and the pale yellow are left out.
PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7B3294", "#8C510A", "#4D4D4D", "#1B7837")
LONGEST_DRAWN = 48  # letters of a name
QUIET = "#6F7C85"  # healthy red cells: seen, but not looked at


def class_colours(labels: LabelSet, quiet: np.ndarray) -> dict[str, str]:
    """A colour for each label; quiet ones, bool (n_labels,), get the quiet one."""
    strong = iter(PALETTE * (len(labels) // len(PALETTE) + 1))
    return {name: QUIET if quiet[i] else next(strong) for i, name in enumerate(labels.names)}


def short(name: str) -> str:
    """A name as it is drawn: one that would leave no room for the drawing loses its middle.

    >>> short("red blood cell"), len(short("a" * 300))
    ('red blood cell', 48)
    """
    name = printable(name)
    half = LONGEST_DRAWN // 2
    return name if len(name) <= LONGEST_DRAWN else f"{name[:half]}\u2026{name[len(name) - half + 1 :]}"


@contextmanager
def figure(path: Path, width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any) -> Iterator:
    """Yield axes to draw on; the image is written to `path`, whole or not at all.

    Args:
        path: ends in .png, .jpg or .svg.
        width: in inches, at 150 dots an inch.
        height: likewise.
        rows: of axes.
        columns: of axes.
        grid: further arguments of `Figure.subplots`.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    look: Any = {
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": False,
        "legend.frameon": False,
        "text.parse_math": False,  # a name with two dollar signs is no formula
        "svg.hashsalt": "malaria_cells",  # same image, same bytes
    }
    with mpl.rc_context(look):
        drawing = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawing)
        yield drawing.subplots(rows, columns, **grid)
        with files.replacing(path) as beside:
            drawing.savefig(beside, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
