"""Candidate boxes: a picture in, boxes (n, 4) out. A method is made of one or more sources, each a function of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from malaria_cells.proposals.outlines import nucleus_boxes, round_boxes
from malaria_cells.proposals.sliding import sliding_boxes
from malaria_cells.proposals.transmission import Field
from malaria_cells.proposals.watershed import estimate_cell_size, watershed_boxes

Margins = tuple[float, float, float, float]

METHODS = ("watershed", "sliding")
_NO_MARGINS: Margins = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Proposer:
    """Finds candidates.

    Attributes:
        method: ``watershed`` (regions by watershed, round outlines, dark nuclei) or ``sliding`` (a window of several sizes).
        cell_size: usual longer side of a cell in pixels; None: estimated from each picture.
        margins: by source, correction of the left, top, right and bottom edges in cell sizes, fitted to how the annotators
            of the training pictures draw.
    """

    method: str = "watershed"
    cell_size: float | None = None
    margins: Mapping[str, Margins] = field(default_factory=dict)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Candidates of uint8 RGB (H, W, 3): float32 (n, 4), xyxy in pixels, inside the picture, with area."""
        cell_size = self.cell_size or estimate_cell_size(picture)
        sources = find_sources(self.method, picture, cell_size)
        moved = [found + np.asarray(self.margins.get(name, _NO_MARGINS), dtype=np.float32) * cell_size for name, found in sources.items()]
        height, width = picture.shape[:2]
        inside = np.clip(np.concatenate(moved), 0, np.array([width, height] * 2, dtype=np.float32))
        return inside[(inside[:, 2:] - inside[:, :2] >= 1).all(axis=1)]


def find_sources(method: str, picture: np.ndarray, cell_size: float) -> dict[str, np.ndarray]:
    """Boxes as each source of a method finds them, without margins: float32 (n, 4) each."""
    if method == "sliding":
        return {"window": sliding_boxes(picture.shape, cell_size)}
    seen = Field.of(picture, cell_size)
    by_name: dict[str, Callable[[Field], np.ndarray]] = {"regions": watershed_boxes, "outlines": round_boxes, "nuclei": nucleus_boxes}
    return {name: find(seen) for name, find in by_name.items()}


__all__ = ["METHODS", "Margins", "Proposer", "estimate_cell_size", "find_sources"]
