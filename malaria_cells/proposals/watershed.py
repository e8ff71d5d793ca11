"""Classical proposals: background-corrected threshold, distance transform, watershed.

Stained cells absorb green light, so the green channel, divided by a smooth estimate of the empty field, is thresholded
after Otsu (IEEE Trans. SMC 9(1), 1979); holes (central pallor) are filled; touching cells are parted by a watershed on
the distance transform (Beucher and Lantuejoul 1979) grown from its maxima.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

# The picture is worked on at a scale that makes the usual cell this many pixels wide: 60 gained nothing over 40 on
# IML-Malaria's training part and took twice as long.
WORKING_CELL_SIZE = 40.0
# Which holes are pallor (see `_fill_pallor`); recall on IML-Malaria's training part: 0.79 with all holes filled, 0.93 so.
PALLOR_AREA = 0.08  # at most, in squared cell sizes
PALLOR_BRIGHTNESS = 0.90  # at most, of the empty field
PALLOR_EXTENT = 0.62  # at least, area by bounding box: a disc has 0.785, a triangle 0.5
LAMP_ROUNDS = 5
FALLBACK_CELL_SHARE = 1 / 14  # of the shorter side, where no cell size is known: a 100x oil field


@dataclass(frozen=True)
class Watershed:
    """Proposes one box for each part of the stained foreground.

    Attributes:
        cell_size: usual longer side of a cell in pixels of the picture; None: estimated from each picture.
        smoothing: standard deviation of the smoothing of the distance map, as a share of the cell size; more parts less.
        spacing: least distance of two cells' centres, as a share of the cell size.
    """

    cell_size: float | None = None
    smoothing: float = 0.045
    spacing: float = 0.2

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Propose cells.

        Args:
            picture: uint8 RGB (H, W, 3).

        Returns:
            float32 (n, 4), xyxy in pixels of the picture.
        """
        cell_size = self.cell_size or estimate_cell_size(picture)
        scale = min(1.0, WORKING_CELL_SIZE / cell_size)
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
        cell = cell_size * scale
        mask = foreground(small, cell)
        regions = part(mask, cell, self.smoothing, self.spacing)
        return _region_boxes(regions, picture.shape[:2], cell)


def foreground(picture: np.ndarray, cell: float) -> np.ndarray:
    """Where the stain is: bool (H, W).

    Args:
        picture: uint8 RGB (H, W, 3).
        cell: usual size of a cell in pixels of this picture.
    """
    # Cells are darker than the empty field in green (stain) or in all channels (unstained, out of focus): the smaller
    # of green and the mean sees both.
    light = np.minimum(picture[..., 1].astype(np.float32), picture.astype(np.float32).mean(axis=2))
    light = cv2.GaussianBlur(light, (0, 0), max(0.02 * cell, 0.5))
    ratio = light / np.maximum(_empty_field(light, cell), 1)
    levels = np.clip(ratio * 200, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    # A field with few or pale cells pulls Otsu's level into the noise of the background or into the dark stain of nuclei.
    mask = levels < np.clip(threshold, 130, 188)
    mask = _fill_pallor(mask, ratio, cell)
    opening = max(round(0.12 * cell), 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * (opening // 2) + 1,) * 2)
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel).astype(bool)


def part(mask: np.ndarray, cell: float, smoothing: float, spacing: float) -> np.ndarray:
    """Part the foreground into cells: int32 (H, W), 0 is background, cells count from 1."""
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    smooth = cv2.GaussianBlur(distance, (0, 0), max(smoothing * cell, 0.5))
    peaks = peak_local_max(
        smooth, min_distance=max(int(spacing * cell), 1), threshold_abs=0.12 * cell, labels=mask.astype(np.int32), exclude_border=False
    )
    seeds = np.zeros(mask.shape, dtype=np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-smooth, seeds, mask=mask)


def estimate_cell_size(picture: np.ndarray) -> float:
    """Usual diameter of the cells of a picture in pixels: twice the median height of the distance map's maxima.

    Args:
        picture: uint8 RGB (H, W, 3).
    """
    shorter = min(picture.shape[:2])
    scale = min(1.0, 480 / shorter)
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    guess = FALLBACK_CELL_SHARE * min(small.shape[:2])
    distance = cv2.distanceTransform(foreground(small, guess).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    peaks = peak_local_max(cv2.GaussianBlur(distance, (0, 0), 1), min_distance=max(int(guess / 4), 1), threshold_abs=2, exclude_border=True)
    if len(peaks) == 0:
        return FALLBACK_CELL_SHARE * shorter
    return float(2 * np.median(distance[tuple(peaks.T)]) / scale)


def _empty_field(light: np.ndarray, cell: float) -> np.ndarray:
    """Brightness that the picture would have without cells: a high percentile of coarse blocks, smoothed."""
    block = max(round(4 * cell), 8)
    rows, columns = (max(1, round(n / block)) for n in light.shape)
    bright = np.array(
        [[np.percentile(b, 97) for b in np.array_split(strip, columns, axis=1)] for strip in np.array_split(light, rows, axis=0)]
    )
    # Blocks packed with cells have no empty pixel: never let the field fall far under what the picture's other blocks say.
    bright = np.maximum(bright, 0.94 * _lamp(bright)).astype(np.float32)
    return cv2.resize(bright, light.shape[::-1], interpolation=cv2.INTER_CUBIC if min(bright.shape) > 3 else cv2.INTER_LINEAR)


def _lamp(bright: np.ndarray) -> np.ndarray:
    """Light of the lamp at each block: a quadratic surface fitted to the blocks, those that lie under it counting little."""
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) if n > 2 else np.zeros(n) for n in bright.shape), indexing="ij")
    terms = np.stack([np.ones(bright.shape), rows, columns, rows**2, columns**2, rows * columns], axis=-1).reshape(-1, 6)
    weights = np.ones(bright.size)
    for _ in range(LAMP_ROUNDS):
        fitted = terms @ np.linalg.lstsq(terms * weights[:, None], bright.ravel() * weights, rcond=None)[0]
        weights = np.where(bright.ravel() < 0.97 * fitted, 0.2, 1.0)
    return fitted.reshape(bright.shape)


def _fill_pallor(mask: np.ndarray, ratio: np.ndarray, cell: float) -> np.ndarray:
    """Fill holes that are a cell's central pallor, not the empty field showing between touching cells.

    Pallor is small, round and still tinted; a gap between cells is pointed or as bright as the field.
    """
    count, holes, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    area = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    extent = area / np.maximum(stats[:, cv2.CC_STAT_WIDTH] * stats[:, cv2.CC_STAT_HEIGHT], 1)
    brightness = np.bincount(holes.ravel(), weights=ratio.ravel(), minlength=count) / np.maximum(area, 1)
    fill = (area < PALLOR_AREA * cell**2) & ((brightness < PALLOR_BRIGHTNESS) | (extent > PALLOR_EXTENT)) | (area < 0.004 * cell**2)
    fill[0] = False  # component 0 is the mask itself
    return mask | fill[holes]


def _region_boxes(regions: np.ndarray, shape_hw: tuple[int, int], cell: float) -> np.ndarray:
    slices = [s for s in ndimage.find_objects(regions) if s is not None]
    found = np.array([[x.start, y.start, x.stop, y.stop] for y, x in slices], dtype=np.float32).reshape(-1, 4)
    # Under a third of the usual size it is a platelet or dirt, unless the picture's border cuts it.
    size = found[:, 2:] - found[:, :2]
    at_border = (found[:, 0] <= 1) | (found[:, 1] <= 1) | (found[:, 2] >= regions.shape[1] - 1) | (found[:, 3] >= regions.shape[0] - 1)
    found = found[(size.min(axis=1) >= np.where(at_border, 0.12, 0.3) * cell)] if len(found) else found
    height, width = shape_hw
    return found * np.array([width / regions.shape[1], height / regions.shape[0]] * 2, dtype=np.float32)
