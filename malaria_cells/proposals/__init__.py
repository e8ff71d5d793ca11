"""Candidate boxes, one file a method; each is called with a picture and returns boxes (n, 4)."""

from collections.abc import Callable

import numpy as np

from malaria_cells.proposals.sliding import Sliding
from malaria_cells.proposals.watershed import Watershed, estimate_cell_size

Proposer = Callable[[np.ndarray], np.ndarray]

METHODS = ("watershed", "sliding")


def make_proposer(method: str, cell_size: float | None) -> Proposer:
    """Build a proposer by name.

    Args:
        method: one of `METHODS`.
        cell_size: usual longer side of a cell in pixels, or None to estimate it from each picture.
    """
    if method == "watershed":
        return Watershed(cell_size)
    if cell_size is None:
        return lambda picture: Sliding(estimate_cell_size(picture))(picture)
    return Sliding(cell_size)


__all__ = ["METHODS", "Proposer", "Sliding", "Watershed", "estimate_cell_size", "make_proposer"]
