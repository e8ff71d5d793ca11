"""The plain sliding window: every square of several sizes, on a regular grid. Slow, needs no stain contrast at all."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sliding:
    """Proposes squares on a grid.

    Attributes:
        cell_size: usual longer side of a cell in pixels.
        sizes: sides of the squares, in cell sizes.
        step: distance of two squares, as a share of the side.
    """

    cell_size: float
    sizes: tuple[float, ...] = (0.8, 1.0, 1.25)
    step: float = 0.25

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Propose squares: float32 (n, 4), xyxy in pixels, inside the picture, the border reached on every side."""
        height, width = picture.shape[:2]
        return np.concatenate([_grid(width, height, s * self.cell_size, self.step) for s in self.sizes])


def _grid(width: int, height: int, side: float, step: float) -> np.ndarray:
    side = min(side, width, height)
    xs, ys = (np.linspace(0, n - side, max(int(np.ceil((n - side) / (step * side))) + 1, 1)) for n in (width, height))
    x, y = (a.ravel() for a in np.meshgrid(xs, ys))
    return np.stack([x, y, x + side, y + side], axis=1).astype(np.float32)
