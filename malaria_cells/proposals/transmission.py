"""What the classical methods share: a working scale, and the image seen as light let through by each pixel."""

from dataclasses import dataclass

import cv2
import numpy as np

from malaria_cells.data.patches import rescale

# The image is worked on at a scale that makes the median cell this many pixels wide: 60 gained nothing over 40 on
# IML-Malaria's training part and took twice as long.
WORKING_CELL_SIZE = 40.0
LAMP_ROUNDS = 5
FOREGROUND = (0.65, 0.94)  # transmission at which cells may begin, at least and at most


@dataclass(frozen=True)
class Field:
    """An image at the working scale.

    Attributes:
        image: uint8 RGB (h, w, 3).
        cell: median longer side of a cell in pixels of it.
        shape_hw: height and width of the image as given.
        transmission: float32 (h, w), 1 in the empty field, less where stain absorbs.
        threshold: transmission under which a pixel belongs to a cell.
    """

    image: np.ndarray
    cell: float
    shape_hw: tuple[int, int]
    transmission: np.ndarray
    threshold: float

    @staticmethod
    def of(image: np.ndarray, cell_size: float) -> "Field":
        """Bring uint8 RGB (H, W, 3), whose cells are `cell_size` pixels wide, to the working scale."""
        scale = min(1.0, WORKING_CELL_SIZE / cell_size)
        small = rescale(image, scale) if scale < 1 else image
        cell = cell_size * scale
        # Cells are darker than the empty field in green (stain) or in all channels (unstained, out of focus): the smaller
        # of green and the mean sees both.
        light = np.minimum(small[..., 1].astype(np.float32), small.astype(np.float32).mean(axis=2))
        through = transmission(light, cell, 0.02)
        return Field(small, cell, (image.shape[0], image.shape[1]), through, _otsu(through))

    def to_image(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Boxes of the working scale in pixels of the image as given, clipped to it: float32 (n, 4)."""
        height, width = self.shape_hw
        small_height, small_width = self.transmission.shape
        found = boxes_xyxy.reshape(-1, 4) * np.array([width / small_width, height / small_height] * 2)
        return np.clip(found, 0, [width, height] * 2).astype(np.float32)


def transmission(light: np.ndarray, cell: float, smoothing: float) -> np.ndarray:
    """Fraction of the lamp's light that comes through: float32 (h, w).

    Args:
        light: brightness, float32 (h, w).
        cell: median size of a cell in pixels.
        smoothing: standard deviation of a first smoothing, in cell sizes.
    """
    light = cv2.GaussianBlur(light, (0, 0), max(smoothing * cell, 0.5))
    return light / np.maximum(_empty_field(light, cell), 1)


def _otsu(through: np.ndarray) -> float:
    """Otsu's threshold (IEEE Trans. SMC 9(1), 1979), kept out of the noise of the field and out of the dark of nuclei."""
    levels = np.clip(through * 200, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(np.clip(threshold / 200, *FOREGROUND))


def _empty_field(light: np.ndarray, cell: float) -> np.ndarray:
    """Brightness that the image would have without cells: a high percentile of coarse blocks, smoothed."""
    block = max(round(4 * cell), 8)
    rows, columns = (max(1, round(n / block)) for n in light.shape)
    strips = np.array_split(light, rows, axis=0)
    bright = np.array([[np.percentile(b, 97) for b in np.array_split(strip, columns, axis=1)] for strip in strips])
    # Blocks packed with cells have no empty pixel: never let the field fall far under what the image's other blocks say.
    bright = np.maximum(bright, 0.94 * _lamp(bright)).astype(np.float32)
    return cv2.resize(bright, light.shape[::-1], interpolation=cv2.INTER_CUBIC if min(bright.shape) > 3 else cv2.INTER_LINEAR)


def _lamp(bright: np.ndarray) -> np.ndarray:
    """Light of the lamp at each block: a quadratic surface fitted to the blocks, those that lie under it counting little."""
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) if n > 2 else np.zeros(n) for n in bright.shape), indexing="ij")
    terms = np.stack([np.ones(bright.shape), rows, columns, rows**2, columns**2, rows * columns], axis=-1).reshape(-1, 6)
    weights: np.ndarray = np.ones(bright.size)
    for _ in range(LAMP_ROUNDS):
        fitted = terms @ np.linalg.lstsq(terms * weights[:, None], bright.ravel() * weights, rcond=None)[0]
        weights = np.where(bright.ravel() < 0.97 * fitted, 0.2, 1.0)
    return fitted.reshape(bright.shape)
