"""Boxes from threshold, distance transform and watershed: one box per segment of the stained foreground.

Holes (central pallor) are filled. Touching cells are separated by a watershed on the distance transform (Beucher and Lantuejoul 1979)
that starts from its maxima.
"""

import cv2
import numpy as np
from scipy import ndimage

from malaria_cells.proposals.methods import proposal_method
from malaria_cells.proposals.outlines import nucleus_boxes, round_boxes
from malaria_cells.proposals.transmission import Field

# Criteria by which holes are pallor (see `_fill_pallor`). On IML-Malaria's training part the recall is 0.93 with them, and 0.79 if all
# holes are filled.
MAX_PALLOR_AREA = 0.08  # squared cell sizes
MAX_PALLOR_BRIGHTNESS = 0.90  # fraction of the brightness of the empty field
MIN_PALLOR_EXTENT = 0.62  # area divided by that of the bounding box: a disc has 0.785, a triangle 0.5
SMOOTHING = 0.045  # cell sizes; standard deviation of the blur of the distance map; a larger value separates fewer cells
SPACING = 0.2  # cell sizes; minimum distance between the centres of two cells
MAX_SIZE = 2.0  # cell sizes; longer side of a segment: larger ones are clusters, whose cells are found by their outlines
FALLBACK_CELL_FRACTION = 1 / 14  # cell size as a fraction of the image's shorter side, if no cell is found: as with a 100x oil objective


@proposal_method("watershed", rank=10)
def stained_boxes(image: np.ndarray, cell_size: float) -> dict[str, np.ndarray]:
    """Return boxes of what is stained: segments of the foreground, round outlines, dark nuclei."""
    field = Field.of(image, cell_size)
    return {"regions": watershed_boxes(field), "outlines": round_boxes(field), "nuclei": nucleus_boxes(field)}


def watershed_boxes(field: Field) -> np.ndarray:
    """Return the boxes of the segments: float32 (n, 4), xyxy in pixels of the original image."""
    return field.to_image(_region_boxes(part(foreground(field), field.cell), field.cell))


def foreground(field: Field) -> np.ndarray:
    """Return the mask of the cells: bool (h, w) at the working scale."""
    mask = _fill_pallor(field.transmission < field.threshold, field.transmission, field.cell)
    opening = max(round(0.12 * field.cell), 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * (opening // 2) + 1,) * 2)
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel).astype(bool)


def part(mask: np.ndarray, cell: float) -> np.ndarray:
    """Segment the foreground into cells: int32 (h, w); 0 is background, cells are numbered from 1."""
    from skimage.feature import peak_local_max  # slow to import, and learned proposals do not need it
    from skimage.segmentation import watershed

    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    smooth = cv2.GaussianBlur(distance, (0, 0), max(SMOOTHING * cell, 0.5))
    peaks = peak_local_max(
        smooth, min_distance=max(int(SPACING * cell), 1), threshold_abs=0.12 * cell, labels=mask.astype(np.int32), exclude_border=False
    )
    seeds = np.zeros(mask.shape, dtype=np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-smooth, seeds, mask=mask)


def estimate_cell_size(image: np.ndarray) -> float:
    """Estimate the median cell size of an image in pixels: twice the median of the maxima of the distance map.

    Args:
        image: uint8 RGB (H, W, 3).
    """
    from skimage.feature import peak_local_max

    shorter = min(image.shape[:2])
    field = Field.of(image, FALLBACK_CELL_FRACTION * shorter)
    distance = cv2.distanceTransform(foreground(field).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    smooth = cv2.GaussianBlur(distance, (0, 0), 1)
    peaks = peak_local_max(smooth, min_distance=max(int(field.cell / 4), 1), threshold_abs=2, exclude_border=True)
    if len(peaks) == 0:
        return FALLBACK_CELL_FRACTION * shorter
    return float(2 * np.median(distance[tuple(peaks.T)]) * shorter / min(distance.shape))


def _fill_pallor(mask: np.ndarray, transmission: np.ndarray, cell: float) -> np.ndarray:
    """Fill holes that are the central pallor of a cell, but not gaps between touching cells.

    Pallor is small, round and still tinted; a gap between cells is pointed or as bright as the empty field.
    """
    count, holes, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    area = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    extent = area / np.maximum(stats[:, cv2.CC_STAT_WIDTH] * stats[:, cv2.CC_STAT_HEIGHT], 1)
    brightness = np.bincount(holes.ravel(), weights=transmission.ravel(), minlength=count) / np.maximum(area, 1)
    fill = (area < MAX_PALLOR_AREA * cell**2) & ((brightness < MAX_PALLOR_BRIGHTNESS) | (extent > MIN_PALLOR_EXTENT)) | (
        area < 0.004 * cell**2
    )
    fill[0] = False  # component 0 is the mask itself
    return mask | fill[holes]


def _region_boxes(regions: np.ndarray, cell: float) -> np.ndarray:
    slices = [s for s in ndimage.find_objects(regions) if s is not None]
    boxes = np.array([[x.start, y.start, x.stop, y.stop] for y, x in slices], dtype=np.float32).reshape(-1, 4)
    # Segments below 0.3 cell sizes are platelets or dirt, unless the edge of the image cuts them off.
    size = np.min(boxes[:, 2:] - boxes[:, :2], axis=1, initial=np.inf)
    at_border = (boxes[:, :2] <= 1).any(axis=1) | (boxes[:, 2:] >= np.array(regions.shape[::-1]) - 1).any(axis=1)
    is_cluster = np.max(boxes[:, 2:] - boxes[:, :2], axis=1, initial=0) > MAX_SIZE * cell
    return boxes[(size >= np.where(at_border, 0.12, 0.3) * cell) & ~is_cluster]
