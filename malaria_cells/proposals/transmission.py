"""Light transmission of an image at a working scale, which the classical methods use."""

from dataclasses import dataclass

import cv2
import numpy as np

from malaria_cells.data.boxes import WORKING_CELL_SIZE
from malaria_cells.data.patches import rescale

LAMP_ROUNDS = 5  # iterations of the robust fit of the lamp's brightness
FOREGROUND = (0.65, 0.94)  # smallest and largest threshold of transmission below which a pixel belongs to a cell


@dataclass(frozen=True)
class Field:
    """An image at the working scale.

    Attributes:
        image: uint8 RGB (h, w, 3).
        cell: median longer side of a cell in pixels of the working scale.
        shape_hw: height and width of the original image in pixels.
        transmission: float32 (h, w), 1 in the empty field, less where stain absorbs light.
        threshold: transmission below which a pixel belongs to a cell.
    """

    image: np.ndarray
    cell: float
    shape_hw: tuple[int, int]
    transmission: np.ndarray
    threshold: float

    @staticmethod
    def of(image: np.ndarray, cell_size: float) -> "Field":
        """Create the field from an image, uint8 RGB (H, W, 3), whose median cell has `cell_size` pixels."""
        scale = min(1.0, WORKING_CELL_SIZE / cell_size)
        small = rescale(image, scale) if scale < 1 else image
        cell = cell_size * scale
        # Stained cells are darker than the empty field in green, unstained or unfocused cells in all channels. The minimum of green and
        # the mean of the channels shows both.
        light = np.minimum(small[..., 1].astype(np.float32), small.astype(np.float32).mean(axis=2))
        through = transmission(light, cell, 0.02)
        return Field(small, cell, (image.shape[0], image.shape[1]), through, _otsu(through))

    def to_image(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Convert boxes (n, 4) from the working scale to pixels of the original image, clipped to it: float32 (n, 4)."""
        height, width = self.shape_hw
        small_height, small_width = self.transmission.shape
        boxes = boxes_xyxy.reshape(-1, 4) * np.array([width / small_width, height / small_height] * 2)
        return np.clip(boxes, 0, [width, height] * 2).astype(np.float32)


def transmission(light: np.ndarray, cell: float, smoothing: float) -> np.ndarray:
    """Fraction of the lamp's light that each pixel transmits: float32 (h, w).

    Args:
        light: brightness, float32 (h, w).
        cell: median size of a cell in pixels.
        smoothing: standard deviation of the Gaussian blur that is applied first, in cell sizes.
    """
    light = cv2.GaussianBlur(light, (0, 0), max(smoothing * cell, 0.5))
    return light / np.maximum(_empty_field(light, cell), 1)


def _otsu(through: np.ndarray) -> float:
    """Otsu's threshold (IEEE Trans. SMC 9(1), 1979), clipped to `FOREGROUND`: above nuclei and below the noise of the empty field."""
    levels = np.clip(through * 200, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(np.clip(threshold / 200, *FOREGROUND))


def _empty_field(light: np.ndarray, cell: float) -> np.ndarray:
    """Estimated brightness of the image without cells: a high percentile of coarse blocks, interpolated."""
    block = max(round(4 * cell), 8)
    rows, columns = (max(1, round(n / block)) for n in light.shape)
    strips = np.array_split(light, rows, axis=0)
    bright = np.array([[np.percentile(b, 97) for b in np.array_split(strip, columns, axis=1)] for strip in strips])
    # Blocks that are full of cells have no empty pixel, so the estimate has a lower limit from the other blocks.
    bright = np.maximum(bright, 0.94 * _lamp(bright)).astype(np.float32)
    return cv2.resize(bright, light.shape[::-1], interpolation=cv2.INTER_CUBIC if min(bright.shape) > 3 else cv2.INTER_LINEAR)


def _lamp(bright: np.ndarray) -> np.ndarray:
    """Brightness of the lamp at each block: a quadratic surface fitted to the blocks, in which blocks below the surface have low weight."""
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) if n > 2 else np.zeros(n) for n in bright.shape), indexing="ij")
    terms = np.stack([np.ones(bright.shape), rows, columns, rows**2, columns**2, rows * columns], axis=-1).reshape(-1, 6)
    weights: np.ndarray = np.ones(bright.size)
    for _ in range(LAMP_ROUNDS):
        fitted = terms @ np.linalg.lstsq(terms * weights[:, None], bright.ravel() * weights, rcond=None)[0]
        weights = np.where(bright.ravel() < 0.97 * fitted, 0.2, 1.0)
    return fitted.reshape(bright.shape)
