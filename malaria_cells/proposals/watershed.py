"""Threshold, distance transform, watershed: one box for each part of the stained foreground.

Holes (central pallor) are filled; touching cells are parted by a watershed on the distance transform (Beucher and
Lantuejoul 1979) grown from its maxima.
"""

import cv2
import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from malaria_cells.proposals.transmission import Field

# Which holes are pallor (see `_fill_pallor`); recall on IML-Malaria's training part: 0.79 with all holes filled, 0.93 so.
PALLOR_AREA = 0.08  # at most, in squared cell sizes
PALLOR_BRIGHTNESS = 0.90  # at most, of the empty field
PALLOR_EXTENT = 0.62  # at least, area by bounding box: a disc has 0.785, a triangle 0.5
SMOOTHING = 0.045  # of the distance map, standard deviation in cell sizes: more parts less
SPACING = 0.2  # least distance of two cells' centres, in cell sizes
LARGEST = 2.0  # longer side of a part, in cell sizes: a larger one is a cluster, whose cells have outlines of their own
FALLBACK_CELL_SHARE = 1 / 14  # of the shorter side, where an image shows no cell: a 100x oil field


def watershed_boxes(field: Field) -> np.ndarray:
    """Boxes of the parts: float32 (n, 4), xyxy in pixels of the field's image."""
    return field.to_image(_region_boxes(part(foreground(field), field.cell), field.cell))


def foreground(field: Field) -> np.ndarray:
    """Where cells are: bool (h, w) at the working scale."""
    mask = _fill_pallor(field.transmission < field.threshold, field.transmission, field.cell)
    opening = max(round(0.12 * field.cell), 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * (opening // 2) + 1,) * 2)
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel).astype(bool)


def part(mask: np.ndarray, cell: float) -> np.ndarray:
    """Part the foreground into cells: int32 (h, w), 0 is background, cells count from 1."""
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    smooth = cv2.GaussianBlur(distance, (0, 0), max(SMOOTHING * cell, 0.5))
    peaks = peak_local_max(
        smooth, min_distance=max(int(SPACING * cell), 1), threshold_abs=0.12 * cell, labels=mask.astype(np.int32), exclude_border=False
    )
    seeds = np.zeros(mask.shape, dtype=np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-smooth, seeds, mask=mask)


def estimate_cell_size(image: np.ndarray) -> float:
    """Usual diameter of the cells of an image in pixels: twice the median height of the distance map's maxima.

    Args:
        image: uint8 RGB (H, W, 3).
    """
    shorter = min(image.shape[:2])
    field = Field.of(image, FALLBACK_CELL_SHARE * shorter)
    distance = cv2.distanceTransform(foreground(field).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    smooth = cv2.GaussianBlur(distance, (0, 0), 1)
    peaks = peak_local_max(smooth, min_distance=max(int(field.cell / 4), 1), threshold_abs=2, exclude_border=True)
    if len(peaks) == 0:
        return FALLBACK_CELL_SHARE * shorter
    return float(2 * np.median(distance[tuple(peaks.T)]) * shorter / min(distance.shape))


def _fill_pallor(mask: np.ndarray, transmission: np.ndarray, cell: float) -> np.ndarray:
    """Fill holes that are a cell's central pallor, not the empty field showing between touching cells.

    Pallor is small, round and still tinted; a gap between cells is pointed or as bright as the field.
    """
    count, holes, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    area = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    extent = area / np.maximum(stats[:, cv2.CC_STAT_WIDTH] * stats[:, cv2.CC_STAT_HEIGHT], 1)
    brightness = np.bincount(holes.ravel(), weights=transmission.ravel(), minlength=count) / np.maximum(area, 1)
    fill = (area < PALLOR_AREA * cell**2) & ((brightness < PALLOR_BRIGHTNESS) | (extent > PALLOR_EXTENT)) | (area < 0.004 * cell**2)
    fill[0] = False  # component 0 is the mask itself
    return mask | fill[holes]


def _region_boxes(regions: np.ndarray, cell: float) -> np.ndarray:
    slices = [s for s in ndimage.find_objects(regions) if s is not None]
    found = np.array([[x.start, y.start, x.stop, y.stop] for y, x in slices], dtype=np.float32).reshape(-1, 4)
    # Under a third of the usual size it is a platelet or dirt, unless the image's border cuts it.
    size = np.min(found[:, 2:] - found[:, :2], axis=1, initial=np.inf)
    at_border = (found[:, :2] <= 1).any(axis=1) | (found[:, 2:] >= np.array(regions.shape[::-1]) - 1).any(axis=1)
    is_cluster = np.max(found[:, 2:] - found[:, :2], axis=1, initial=0) > LARGEST * cell
    return found[(size >= np.where(at_border, 0.12, 0.3) * cell) & ~is_cluster]
