"""What the network of learned proposals is to answer (see `models.centres`), and what a wrong answer costs.

A cell has one centre, but every place near it learns where that is and how large the cell: about nine lessons a cell instead
of one, which sizes that are rare need (TTFNet, Liu et al. 2020, arXiv:1909.00700, section 3.2).
"""

import numpy as np
from keras import ops

from malaria_cells.proposals.learned import STRIDE, WORKING_CELL_SIZE

# Standard deviation of the heat around a centre, as a share of the cell's size: at the usual size 1.1 places.
SPREAD = 0.11
NEAR = 0.3  # heat from which a place learns the offset and size of the cell

# Channels of a target: heat; is it a centre; offset from the place to the cell's centre in places, beyond 0 to 1 beside the
# centre; logarithms of width and height in cell sizes; share in the loss of what is no centre; in that of offset and size.
CHANNELS = 8
HEAT, CENTRE, X, Y, WIDTH, HEIGHT, WEIGHT, NEARNESS = range(CHANNELS)
SHAPE = slice(X, HEIGHT + 1)
_TRANSPOSED = [HEAT, CENTRE, Y, X, HEIGHT, WIDTH, WEIGHT, NEARNESS]


def centre_targets(boxes_xyxy: np.ndarray, importance: np.ndarray, ignored_xyxy: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Targets of a square crop.

    Args:
        boxes_xyxy: cells, float32 (n, 4), in its pixels; centres may lie outside.
        importance: float (n,), share of each cell's offset and size in the loss; 1 is usual.
        ignored_xyxy: float32 (k, 4).
        weight: float32 (places, places), of each place in the loss where there is no centre.

    Returns:
        float32 (places, places, `CHANNELS`); `NEARNESS` of the places of one cell sums to its importance.
    """
    places = len(weight)
    target = np.zeros((places, places, CHANNELS), dtype=np.float32)
    target[..., WEIGHT] = weight
    for left, top, right, bottom in np.clip(np.rint(ignored_xyxy / STRIDE), 0, places).astype(int):
        target[top:bottom, left:right, WEIGHT] = 0
    centre = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 / STRIDE
    inside = ((centre >= 0) & (centre < places)).all(axis=1)
    centre, size, importance = centre[inside], (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2])[inside], importance[inside]
    if len(centre) == 0:
        return target
    place = np.floor(centre).astype(int)
    heat = _bells(place, np.maximum(SPREAD * np.sqrt(size.prod(axis=1)) / STRIDE, 0.6), places)
    owner = heat.argmax(axis=0)
    columns, rows = place.T
    owner[rows, columns] = np.arange(len(place))
    target[..., HEAT] = heat.max(axis=0)
    target[rows, columns, CENTRE] = 1
    near = np.where(target[..., HEAT] >= NEAR, target[..., HEAT], 0)
    of_cell = np.bincount(owner.ravel(), near.ravel())
    rows, columns = np.nonzero(near)
    cell = owner[rows, columns]
    offset = centre[cell] - np.stack([columns, rows], axis=1)
    target[rows, columns, SHAPE] = np.concatenate([offset, np.log(np.maximum(size[cell], 2) / WORKING_CELL_SIZE)], axis=1)
    target[rows, columns, NEARNESS] = near[rows, columns] / of_cell[cell] * importance[cell]
    return target


def _bells(place: np.ndarray, spread: np.ndarray, places: int) -> np.ndarray:
    """A Gaussian of height 1 around each place (n, 2), x and y, with a spread (n,) in places: (n, places, places)."""
    axis = np.arange(places)
    across, down = (np.exp(-((axis - place[:, [i]]) ** 2) / (2 * spread[:, None] ** 2)) for i in (0, 1))
    return down[:, :, None] * across[:, None, :]


def turned(pixels: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One of the eight ways to lay a square (side, side, 3); its targets, offsets and sizes, turn with it."""
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


def centre_loss(y_true, y_pred):  # type: ignore[no-untyped-def]
    """Penalty-reduced focal loss of the heat map (CenterNet, eq. 1), and L1 of offset and size around centres, by cell.

    Args:
        y_true: (b, h, w, `CHANNELS`), see `centre_targets`.
        y_pred: (b, h, w, 5): what the network gives.
    """
    heat = ops.clip(y_pred[..., 0], 1e-4, 1 - 1e-4)
    centre = y_true[..., CENTRE]
    hit = -centre * (1 - heat) ** 2 * ops.log(heat)
    miss = -(1 - centre) * y_true[..., WEIGHT] * (1 - y_true[..., HEAT]) ** 4 * heat**2 * ops.log(1 - heat)
    shape = y_true[..., NEARNESS, None] * ops.abs(y_true[..., SHAPE] - y_pred[..., 1:])
    return (ops.sum(hit) + ops.sum(miss) + ops.sum(shape)) / ops.maximum(ops.sum(centre), 1)
