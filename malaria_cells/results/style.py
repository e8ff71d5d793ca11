"""The style of all plots and overlays: a colour-blind-safe palette and readable type."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base import files
from malaria_cells.base.file_names import printable
from malaria_cells.data.labels import LabelSet

# Colours of Okabe and Ito (jfly.uni-koeln.de/color, 2008) without black and yellow, strongest first, and four others.
PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7B3294", "#8C510A", "#4D4D4D", "#1B7837")
MAX_LETTERS = 48  # characters of a name in a plot
QUIET = "#6F7C85"  # colour of healthy red cells, which should not stand out


def class_colours(labels: LabelSet, quiet: np.ndarray) -> dict[str, str]:
    """Return a colour for each label; labels that are `quiet`, bool (n_labels,), get `QUIET`."""
    colours = iter(PALETTE * (len(labels) // len(PALETTE) + 1))
    return {name: QUIET if quiet[i] else next(colours) for i, name in enumerate(labels.names)}


def short(name: str) -> str:
    """Return a name for a plot; the middle of a name longer than `MAX_LETTERS` is left out.

    >>> short("red blood cell"), len(short("a" * 300))
    ('red blood cell', 48)
    """
    name = printable(name)
    half = MAX_LETTERS // 2
    return name if len(name) <= MAX_LETTERS else f"{name[:half]}\u2026{name[len(name) - half + 1 :]}"


@contextmanager
def figure(path: Path, width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any) -> Iterator[Any]:
    """Yield axes to draw on; the image is then written to `path`, and an interrupted call leaves no incomplete file.

    Args:
        path: file to write; its suffix is .png, .jpg or .svg.
        width: width in inches, at 150 dots per inch.
        height: height in inches.
        rows: number of rows of axes.
        columns: number of columns of axes.
        grid: further arguments of `Figure.subplots`.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = {
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": False,
        "legend.frameon": False,
        "text.parse_math": False,  # names with two dollar signs are not formulas
        "svg.hashsalt": "malaria_cells",  # same image, same bytes
    }
    with mpl.rc_context(settings):
        drawing = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawing)
        yield drawing.subplots(rows, columns, **grid)
        with files.replacing(path) as temporary:
            drawing.savefig(temporary, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
