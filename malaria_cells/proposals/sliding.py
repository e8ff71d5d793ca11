"""Sliding window: squares of several sizes on a regular grid. It is slow but needs no stain contrast."""

import numpy as np

from malaria_cells.proposals.methods import proposal_method

SIZES = (0.8, 1.0, 1.25)  # cell sizes; sides of the squares
STEP = 0.25  # distance between neighbouring squares as a fraction of their side


@proposal_method("sliding", rank=20)
def windows(image: np.ndarray, cell_size: float) -> dict[str, np.ndarray]:
    """Return the squares of a sliding window over an image."""
    return {"window": sliding_boxes(image.shape, cell_size)}


def sliding_boxes(shape_hw: tuple[int, ...], cell_size: float) -> np.ndarray:
    """Return squares on a grid that covers the image up to its edges.

    Args:
        shape_hw: height and width of the image in pixels.
        cell_size: median longer side of a cell in pixels.

    Returns:
        float32 (n, 4), xyxy in pixels, inside the image.
    """
    height, width = shape_hw[:2]
    return np.concatenate([_grid(width, height, s * cell_size) for s in SIZES])


def _grid(width: int, height: int, side: float) -> np.ndarray:
    side = min(side, width, height)
    xs, ys = (np.linspace(0, n - side, max(int(np.ceil((n - side) / (STEP * side))) + 1, 1)) for n in (width, height))
    x, y = (a.ravel() for a in np.meshgrid(xs, ys))
    return np.stack([x, y, x + side, y + side], axis=1).astype(np.float32)
