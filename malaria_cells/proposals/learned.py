"""Learned proposals: a network sees the whole picture once and says where cells are (see `models.centres`)."""

from collections.abc import Callable

import cv2
import numpy as np

from malaria_cells.errors import InputError
from malaria_cells.patches import rescale
from malaria_cells.tiles import in_tiles

WORKING_CELL_SIZE = 40.0  # pixels of the usual cell in the network's input
MOST_PIXELS = 1_000_000_000  # of a picture that is enlarged to it: 3 GB
STRIDE = 4
MULTIPLE = 16
# Black around a picture, in pixels of the network's input: it tells a cell that the picture's edge cuts off, which
# annotators mark only if most of it is there, from one that goes on.
FRAME = 16
SIGHT = 64  # pixels that a place depends on in each direction, rounded up to `MULTIPLE`
# Of a centre to be a candidate. On IML-Malaria's validation part 0.1 finds 98.7 % of the cells by 139 candidates a photograph,
# 0.2 98.5 % by 123, 0.05 98.8 % by 177.
LEAST_HEAT = 0.1
LARGEST_LOG_SIZE = 1.5  # of width and height in cell sizes: 4.5 times

# from uint8 pixels (1, H, W, 3) to places (1, H/4, W/4, 5)
CentreNetwork = Callable[[np.ndarray], np.ndarray]


# Axes of (1, h, w, c) that a look mirrors: both come second, so that two looks differ much.
_MIRRORS: tuple[tuple[int, ...], ...] = ((), (1, 2), (1,), (2,))


def seen_mirrored(network: CentreNetwork, views: int) -> CentreNetwork:
    """The mean of what a network sees in a picture and in its mirror images.

    Args:
        network: of one look.
        views: looks: 1, 2 or 4.
    """

    def look(pixels: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        places = np.flip(network(np.ascontiguousarray(np.flip(pixels, axes))), axes).copy()
        for axis, offset in ((2, 1), (1, 2)):
            if axis in axes:
                places[..., offset] = 1 - places[..., offset]
        return places

    if views == 1:
        return network
    return lambda pixels: np.mean([look(pixels, axes) for axes in _MIRRORS[:views]], axis=0)


def to_working_scale(picture: np.ndarray, cell_size: float) -> np.ndarray:
    """Resize uint8 RGB so that the usual cell has `WORKING_CELL_SIZE`; enlarges small cells too.

    Raises:
        InputError: it would have over `MOST_PIXELS`.
    """
    factor = WORKING_CELL_SIZE / cell_size
    height, width = picture.shape[:2]
    if height * width * factor**2 > MOST_PIXELS * 1.01:  # what rounding adds
        raise InputError(
            f"{width} x {height} pixels with cells of {cell_size:.0f} would be enlarged {factor:.1f} times, to over {MOST_PIXELS:,}; "
            "put the cell size right, or cut the picture into parts"
        )
    return rescale(picture, factor)


def learned_boxes(network: CentreNetwork, picture: np.ndarray, cell_size: float) -> tuple[np.ndarray, np.ndarray]:
    """Candidates of a picture.

    Args:
        network: the trained network.
        picture: uint8 RGB (H, W, 3).
        cell_size: usual longer side of a cell in its pixels.

    Returns:
        float32 (n, 4), xyxy in pixels of the picture, and float32 (n,), their proposal scores, 0 to 1.
    """
    small = to_working_scale(picture, cell_size)
    height, width = small.shape[:2]
    places = in_tiles(network, framed(small), STRIDE, MULTIPLE, SIGHT)
    found, scores = decode(places, (height, width))
    return found * np.array([picture.shape[1] / width, picture.shape[0] / height] * 2, dtype=np.float32), scores


def framed(small: np.ndarray) -> np.ndarray:
    """Put a picture at the working scale into its black frame; sizes become multiples of `MULTIPLE`."""
    below, right = (FRAME + -(n + 2 * FRAME) % MULTIPLE for n in small.shape[:2])
    return cv2.copyMakeBorder(small, FRAME, below, FRAME, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))


def decode(places: np.ndarray, shape_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes at the peaks of the heat map.

    Args:
        places: (h, w, 5) from the network for a framed picture.
        shape_hw: height and width of the picture in the frame, in pixels of the network's input.

    Returns:
        float32 (n, 4), xyxy in pixels of that picture, and float32 (n,).
    """
    heat = np.ascontiguousarray(places[..., 0])
    highest = cv2.dilate(heat, np.ones((3, 3), dtype=np.uint8))
    rows, columns = np.nonzero((heat >= highest) & (heat >= LEAST_HEAT))
    offset, size = places[rows, columns, 1:3], places[rows, columns, 3:5]
    centre = (np.stack([columns, rows], axis=1) + offset) * STRIDE - FRAME
    half = np.exp(np.clip(size, -LARGEST_LOG_SIZE, LARGEST_LOG_SIZE)) * WORKING_CELL_SIZE / 2
    inside = ((centre >= 0) & (centre < [shape_hw[1], shape_hw[0]])).all(axis=1)
    found = np.concatenate([centre - half, centre + half], axis=1)[inside]
    return found.astype(np.float32), heat[rows, columns][inside].astype(np.float32)
