"""Training targets and loss of the learned proposal network (see `centre_network`).

A cell has one centre, but all grid cells near it are trained to predict its offset and size. This gives about nine examples per cell
instead of one, which improves rare sizes (TTFNet, Liu et al. 2020, arXiv:1909.00700, section 3.2).
"""

import numpy as np
from keras import KerasTensor, ops

from malaria_cells.data.boxes import WORKING_CELL_SIZE
from malaria_cells.proposals.learned.prediction import STRIDE

SPREAD = 0.11  # standard deviation of the Gaussian around a centre, as a fraction of the cell's size: 1.1 grid cells at the median size
NEAR = 0.3  # minimum heat of a grid cell that is trained to predict offset and size

# Channels of a target: heat; 1 at a centre, else 0; offset from the grid cell to the centre of the cell in grid cells (0 to 1 at the centre
# only); logarithms of width and height in cell sizes; weight of non-centres in the loss; weight of offset and size in the loss.
CHANNELS = 8
HEAT, CENTRE, X, Y, WIDTH, HEIGHT, WEIGHT, NEARNESS = range(CHANNELS)
SHAPE = slice(X, HEIGHT + 1)
_TRANSPOSED = [HEAT, CENTRE, Y, X, HEIGHT, WIDTH, WEIGHT, NEARNESS]


def centre_targets(boxes_xyxy: np.ndarray, importance: np.ndarray, ignored_xyxy: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Compute the targets of a square crop.

    Args:
        boxes_xyxy: boxes of the cells, float32 (n, 4), in pixels of the crop; centres may lie outside.
        importance: float (n,), weight of each cell's offset and size in the loss; 1 by default.
        ignored_xyxy: ignore regions, float32 (k, 4).
        weight: float32 (s, s), weight of each grid cell in the loss if it is not a centre.

    Returns:
        float32 (s, s, `CHANNELS`); the sum of `NEARNESS` over the grid cells of a cell is the importance of the cell.
    """
    side = len(weight)
    target = np.zeros((side, side, CHANNELS), dtype=np.float32)
    target[..., WEIGHT] = weight
    for left, top, right, bottom in np.clip(np.rint(ignored_xyxy / STRIDE), 0, side).astype(int):
        target[top:bottom, left:right, WEIGHT] = 0
    centre = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 / STRIDE
    inside = ((centre >= 0) & (centre < side)).all(axis=1)
    centre, size, importance = centre[inside], (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2])[inside], importance[inside]
    if len(centre) == 0:
        return target
    grid_cell = np.floor(centre).astype(int)
    heat = _gaussians(grid_cell, np.maximum(SPREAD * np.sqrt(size.prod(axis=1)) / STRIDE, 0.6), side)
    owner = heat.argmax(axis=0)
    columns, rows = grid_cell.T
    owner[rows, columns] = np.arange(len(grid_cell))
    target[..., HEAT] = heat.max(axis=0)
    target[rows, columns, CENTRE] = 1
    near = np.where(target[..., HEAT] >= NEAR, target[..., HEAT], 0)
    sum_of_cell = np.bincount(owner.ravel(), near.ravel())
    rows, columns = np.nonzero(near)
    cell = owner[rows, columns]
    offset = centre[cell] - np.stack([columns, rows], axis=1)
    target[rows, columns, SHAPE] = np.concatenate([offset, np.log(np.maximum(size[cell], 2) / WORKING_CELL_SIZE)], axis=1)
    target[rows, columns, NEARNESS] = near[rows, columns] / sum_of_cell[cell] * importance[cell]
    return target


def _gaussians(grid_cell: np.ndarray, spread: np.ndarray, side: int) -> np.ndarray:
    """Gaussians of height 1 around grid cells (n, 2), x and y, with standard deviations (n,) in grid cells: (n, side, side)."""
    axis = np.arange(side)
    across, down = (np.exp(-((axis - grid_cell[:, [i]]) ** 2) / (2 * spread[:, None] ** 2)) for i in (0, 1))
    return down[:, :, None] * across[:, None, :]


def random_dihedral(pixels: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Apply one of the eight flips and 90-degree rotations at random to a square (side, side, 3) and its targets."""
    if rng.uniform() < 0.5:
        pixels, target = pixels[:, ::-1], _mirrored(target[:, ::-1], X)
    if rng.uniform() < 0.5:
        pixels, target = pixels[::-1], _mirrored(target[::-1], Y)
    if rng.uniform() < 0.5:
        pixels, target = pixels.transpose(1, 0, 2), target.transpose(1, 0, 2)[..., _TRANSPOSED]
    return np.ascontiguousarray(pixels), np.ascontiguousarray(target)


def _mirrored(target: np.ndarray, offset: int) -> np.ndarray:
    target = target.copy()
    target[..., offset] = np.where(target[..., NEARNESS] > 0, 1 - target[..., offset], 0)
    return target


def centre_loss(y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
    """Penalty-reduced focal loss of the heat map (CenterNet, eq. 1) plus L1 loss of offset and size near centres, per cell.

    Args:
        y_true: (b, h, w, `CHANNELS`), see `centre_targets`.
        y_pred: (b, h, w, 5), the output of the network.
    """
    heat = ops.clip(y_pred[..., 0], 1e-4, 1 - 1e-4)
    centre = y_true[..., CENTRE]
    hit = -centre * (1 - heat) ** 2 * ops.log(heat)
    miss = -(1 - centre) * y_true[..., WEIGHT] * (1 - y_true[..., HEAT]) ** 4 * heat**2 * ops.log(1 - heat)
    shape = y_true[..., NEARNESS, None] * ops.abs(y_true[..., SHAPE] - y_pred[..., 1:])
    return (ops.sum(hit) + ops.sum(miss) + ops.sum(shape)) / ops.maximum(ops.sum(centre), 1)
