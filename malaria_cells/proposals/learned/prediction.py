"""Learned proposals: a network predicts a heat map of cell centres for the whole image (see `centre_network`)."""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.data.boxes import WORKING_CELL_SIZE
from malaria_cells.data.patches import rescale
from malaria_cells.proposals.learned.settings import ProposalSettings
from malaria_cells.proposals.tiles import in_tiles

MAX_WORKING_PIXELS = 1_000_000_000  # pixels of an image at the working scale: 3 GB
STRIDE = 4  # pixels of a grid cell of the output
MULTIPLE = 16  # pixels; the sides of the input are multiples of it
# Pixels of black around the network's input. They tell a cell that the edge of the image cuts off, which annotators mark only if most of
# it is visible, from one that is whole.
PADDING = 16
# Pixels that a grid cell depends on in each direction, rounded up to `MULTIPLE`: those of the centres, and those of the screening head.
RECEPTIVE_RADIUS, SCREENING_RADIUS = 64, 96
PLACE_CHANNELS, SCREENING_CHANNELS = 5, 3  # channels of the output grid of `centre_network`, and those that a screening head adds
MAX_LOG_SIZE = 1.5  # logarithm of the largest width and height in cell sizes: 4.5 times

# From uint8 pixels (1, H, W, 3) to the output grid (1, H/4, W/4, 5), or (1, H/4, W/4, 8) with a screening head.
CentreNetwork = Callable[[np.ndarray], np.ndarray]


class ScoredBoxes(NamedTuple):
    """Candidates of an image.

    Attributes:
        boxes_xyxy: float32 (n, 4), pixels.
        scores: proposal scores, float32 (n,), 0 to 1.
        screening: probabilities of a cell of the common class, of background, and of another class, by the network's screening head,
            float32 (n, 3); None if it has none.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    screening: np.ndarray | None = None


# Mirrored axes of (1, h, w, c) of each view. The view with both axes mirrored is second, so that two views differ most.
_MIRRORS: tuple[tuple[int, ...], ...] = ((), (1, 2), (1,), (2,))
_FLIPS = {(1, 2): -1, (1,): 0, (2,): 1}  # the same axes as a flip code of OpenCV


def seen_mirrored(network: CentreNetwork, views: int) -> CentreNetwork:
    """Test-time augmentation: the mean output of a network for an image and its mirror images.

    Args:
        network: the network for one view.
        views: number of views: 1, 2 or 4.
    """

    def mirrored(pixels: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        seen = pixels if not axes else cv2.flip(pixels[0], _FLIPS[axes])[None]  # a tenth of the time of NumPy's flip
        grid = np.flip(network(seen), axes).copy()
        for axis, offset in ((2, 1), (1, 2)):
            if axis in axes:
                grid[..., offset] = 1 - grid[..., offset]
        return grid

    if views == 1:
        return network
    return lambda pixels: np.mean([mirrored(pixels, axes) for axes in _MIRRORS[:views]], axis=0)


def to_working_scale(image: np.ndarray, cell_size: float) -> np.ndarray:
    """Rescale an image, uint8 RGB (H, W, 3), to the working scale, at which the median cell has `WORKING_CELL_SIZE` pixels.

    Args:
        image: the image.
        cell_size: longer side of its median cell in pixels.

    Raises:
        InputError: the result would have more than `MAX_WORKING_PIXELS` pixels.
    """
    factor = WORKING_CELL_SIZE / cell_size
    height, width = image.shape[:2]
    if height * width * factor**2 > MAX_WORKING_PIXELS * 1.01:  # with a margin for rounding
        raise InputError(
            f"{width} x {height} pixels with cells of {cell_size:.0f} pixels would be enlarged {factor:.1f} times, to more than "
            f"{MAX_WORKING_PIXELS:,} pixels; correct the cell size, or cut the image into parts"
        )
    return rescale(image, factor)


def learned_boxes(
    network: CentreNetwork,
    image: np.ndarray,
    cell_size: float,
    min_score: float = ProposalSettings.min_score,
    to_scale: Callable[[np.ndarray, float], np.ndarray] = to_working_scale,
) -> ScoredBoxes:
    """Find the candidates in an image.

    Args:
        network: the trained network.
        image: uint8 RGB (H, W, 3).
        cell_size: longer side of the median cell in pixels of the image.
        min_score: minimum proposal score of a candidate.
        to_scale: what rescales the image, as `to_working_scale` does.

    Returns:
        The candidates, in pixels of the image.
    """
    small = to_scale(image, cell_size)
    height, width = small.shape[:2]
    grid = in_tiles(network, padded(small), STRIDE, MULTIPLE, SCREENING_RADIUS)
    found = decode(grid, (height, width), min_score)
    return found._replace(boxes_xyxy=found.boxes_xyxy * np.array([image.shape[1] / width, image.shape[0] / height] * 2, dtype=np.float32))


def padded(small: np.ndarray) -> np.ndarray:
    """Pad an image at the working scale with black, so that its sides are multiples of `MULTIPLE`."""
    below, right = (PADDING + -(n + 2 * PADDING) % MULTIPLE for n in small.shape[:2])
    return cv2.copyMakeBorder(small, PADDING, below, PADDING, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))


def decode(grid: np.ndarray, shape_hw: tuple[int, int], min_score: float = ProposalSettings.min_score) -> ScoredBoxes:
    """Decode the boxes at the local maxima of the heat map.

    Args:
        grid: output of the network for a padded image, (h, w, 5) or (h, w, 8).
        shape_hw: height and width of the image without the padding, in pixels of the network's input.
        min_score: minimum heat-map score of a candidate.

    Returns:
        The candidates, in pixels of that image.
    """
    heat = np.ascontiguousarray(grid[..., 0])
    local_maximum = cv2.dilate(heat, np.ones((3, 3), dtype=np.uint8))
    rows, columns = np.nonzero((heat >= local_maximum) & (heat >= min_score))
    offset, size = grid[rows, columns, 1:3], grid[rows, columns, 3:5]
    centre = (np.stack([columns, rows], axis=1) + offset) * STRIDE - PADDING
    half = np.exp(np.clip(size, -MAX_LOG_SIZE, MAX_LOG_SIZE)) * WORKING_CELL_SIZE / 2
    inside = ((centre >= 0) & (centre < [shape_hw[1], shape_hw[0]])).all(axis=1)
    boxes = np.concatenate([centre - half, centre + half], axis=1)[inside]
    screening = grid[rows, columns, PLACE_CHANNELS:][inside].astype(np.float32) if grid.shape[-1] > PLACE_CHANNELS else None
    return ScoredBoxes(boxes.astype(np.float32), heat[rows, columns][inside].astype(np.float32), screening)
