"""Signals: properties by which an image is compared with the training images, of its light, stain, focus, cells and certainty.

They are measured on the original image, reduced to cells of `MEASURED_CELL` pixels, and on the detections' boxes and probabilities, so
that they do not depend on the inference engine.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet

MEASURED_CELL = 32.0  # pixels: longer side of the median cell in the reduced image
MAX_SIDE = 640  # pixels: longer side of the reduced image
CLEAR = 0.95  # quantile of each channel that is taken for the clear field between the cells
# Cap on optical densities before Otsu's threshold separates stain from clear field: a quantile, and the minimum of the cap. A leukocyte's
# nucleus is so dense that without a cap red cells would be assigned to the clear field.
DENSITY_CAP = 0.75, 0.15
MIN_DENSITY = 0.05  # mean optical density of a stained pixel
IS_CELL = 0.5  # objectness from which a detection is taken for a cell here, independent of the model's thresholds
UNSURE = (0.1, 0.9)  # objectness between which a detection is uncertain
LOG_OFFSET = 0.02  # added to fractions and entropies before the logarithm
MIN_DETECTIONS = 5  # detections that the fraction of uncertain ones needs

_OPTICAL_DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)


@dataclass(frozen=True)
class Signal:
    """One property of an image.

    Attributes:
        name: key in ``model.yaml``.
        min_width: minimum width of a data set's usual range on either side of the centre, in the signal's unit.
        of_networks: whether it depends on the networks' probabilities, not only on pixels and boxes.
        only_high: whether only high values are unusual.
    """

    name: str
    min_width: float
    of_networks: bool = False
    only_high: bool = False


SIGNALS = (
    Signal("light_red", 0.05),  # logarithm of red / green of the clear field
    Signal("light_blue", 0.05),  # logarithm of blue / green of the clear field
    Signal("stain", 0.2),  # logarithm of the stained pixels' mean optical density
    Signal("stain_red", 0.03),  # fraction of the red channel in the optical density
    Signal("stain_blue", 0.03),  # fraction of the blue channel in the optical density
    Signal("focus", 0.3),  # logarithm of variance of the Laplacian / variance, of the green channel
    Signal("size", 0.1),  # logarithm of median cell size / the model's
    # Logarithm of the fraction of the stained area that lies in no red cell, plus `LOG_OFFSET`.
    Signal("unexplained", 0.5, of_networks=True, only_high=True),
    Signal("unsure", 0.15, of_networks=True, only_high=True),  # fraction of uncertain detections
    # Logarithm of the mean entropy of the cells' class probabilities in nats, plus `LOG_OFFSET`.
    Signal("mixed", 0.5, of_networks=True, only_high=True),
)
NAMES = tuple(signal.name for signal in SIGNALS)
OF_NETWORKS = np.array([signal.of_networks for signal in SIGNALS])


def appearance(image: np.ndarray, cells_xyxy: np.ndarray, cell_size: float) -> np.ndarray:
    """The signals that need no network: float64 (n_signals,), NaN for the others.

    Args:
        image: uint8 RGB (H, W, 3).
        cells_xyxy: boxes of its cells, annotated or detected, (n, 4) in pixels.
        cell_size: median longer side of a cell in the training images in pixels.
    """
    return _image_signals(_Reduced.of(image, cells_xyxy, cell_size), cell_size)


def measure(image: np.ndarray, detections: Detections, labels: LabelSet, cell_size: float) -> np.ndarray:
    """All signals: float64 (n_signals,).

    Args:
        image: uint8 RGB (H, W, 3).
        detections: those that `Detector.detect` returns, including those below the operating thresholds.
        labels: the classes.
        cell_size: as in `appearance`.
    """
    if len(detections) == 0:
        values = appearance(image, np.zeros((0, 4), dtype=np.float32), cell_size)
        values[OF_NETWORKS] = np.log(1 + LOG_OFFSET), 0.0, np.log(LOG_OFFSET)
        return values
    objectness = detections.objectness
    is_cell = objectness >= IS_CELL
    reduced = _Reduced.of(image, detections.xyxy[is_cell], cell_size)
    values = _image_signals(reduced, cell_size)
    p = np.asarray(detections.probabilities, dtype=np.float64)[is_cell, : len(labels)]
    p /= np.maximum(p.sum(axis=1, keepdims=True), 1e-9)
    is_red = labels.is_red_cell[p.argmax(axis=1)] if labels.is_red_cell.any() else np.ones(len(p), dtype=bool)
    candidates = objectness[objectness >= UNSURE[0]]
    values[OF_NETWORKS] = (
        np.log(reduced.unexplained(detections.xyxy[is_cell], is_red) + LOG_OFFSET),
        float((candidates < UNSURE[1]).mean()) if len(candidates) >= MIN_DETECTIONS else 0.0,
        np.log((-(p * np.log(np.maximum(p, 1e-9))).sum(axis=1).mean() if len(p) else 0.0) + LOG_OFFSET),
    )
    return values


@dataclass(frozen=True)
class _Reduced:
    """An image reduced to cells of `MEASURED_CELL` pixels.

    Attributes:
        green: green channel, uint8 (h, w).
        clear: grey value of the clear field by channel, float (3,).
        stain: mean optical density of the stained pixels by channel, float (3,).
        stained: mask of the stained pixels, uint8 (h, w), 0 or 1.
        scale: factor from boxes xyxy in the image to boxes in the reduced image, float (4,).
        size: median longer side of the cells in pixels of the image; the model's if there are too few cells.
    """

    green: np.ndarray
    clear: np.ndarray
    stain: np.ndarray
    stained: np.ndarray
    scale: np.ndarray
    size: float

    @staticmethod
    def of(image: np.ndarray, cells_xyxy: np.ndarray, cell_size: float) -> "_Reduced":
        size = boxes.median_size(cells_xyxy) or cell_size
        factor = min(MEASURED_CELL / size, MAX_SIDE / max(image.shape[:2]))
        height, width = (max(round(n * factor), 8) for n in image.shape[:2])
        small = image
        while small.shape[0] >= 2 * height and small.shape[1] >= 2 * width:  # repeated halving, which OpenCV is fast at
            small = cv2.resize(small, (small.shape[1] // 2, small.shape[0] // 2), interpolation=cv2.INTER_AREA)
        small = cv2.resize(small, (width, height), interpolation=cv2.INTER_AREA)
        clear = np.array([_quantile(small[..., channel], CLEAR) for channel in range(3)], dtype=np.float64)
        clear = np.maximum(clear, 1)
        table = np.maximum(_OPTICAL_DENSITY[:, None] + np.log10(clear / 255), 0).astype(np.float32)
        density = cv2.LUT(small, table[None])
        mean = cv2.transform(density, np.full((1, 3), 1 / 3, dtype=np.float32))
        levels = cv2.convertScaleAbs(mean, alpha=200)
        levels = np.minimum(levels, max(_quantile(levels, DENSITY_CAP[0]), round(200 * DENSITY_CAP[1]))).astype(np.uint8)
        otsu, _ = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        stained = (levels > max(otsu, 200 * MIN_DENSITY)).astype(np.uint8)
        stain = np.array(cv2.mean(density, stained)[:3])
        scale = np.array([width / image.shape[1], height / image.shape[0]] * 2)
        return _Reduced(np.ascontiguousarray(small[..., 1]), clear, stain, stained, scale, size)

    def unexplained(self, cells_xyxy: np.ndarray, is_red: np.ndarray) -> float:
        """Fraction of the stained area outside other cells that lies in no red cell; 1 if almost nothing is stained."""
        stained = self.stained.copy()
        for x0, y0, x1, y1 in self._scaled(cells_xyxy[~is_red]):
            stained[y0:y1, x0:x1] = 0
        area = int(stained.sum())
        for x0, y0, x1, y1 in self._scaled(cells_xyxy[is_red]):
            stained[y0:y1, x0:x1] = 0
        one_cell = (self.size * self.scale[0]) ** 2 / 2
        return int(stained.sum()) / area if area >= one_cell else 1.0

    def _scaled(self, cells_xyxy: np.ndarray) -> list[list[int]]:
        return np.rint(cells_xyxy * self.scale).astype(int).tolist()


def _image_signals(reduced: _Reduced, cell_size: float) -> np.ndarray:
    clear, stain = reduced.clear, reduced.stain
    total = max(float(stain.sum()), 1e-2)
    sharp = cv2.meanStdDev(cv2.Laplacian(reduced.green, cv2.CV_16S))[1].item() ** 2
    contrast = cv2.meanStdDev(reduced.green)[1].item() ** 2
    values = {
        "light_red": np.log(clear[0] / clear[1]),
        "light_blue": np.log(clear[2] / clear[1]),
        "stain": np.log(total),
        "stain_red": stain[0] / total,
        "stain_blue": stain[2] / total,
        "focus": np.log(max(sharp, 1e-2) / max(contrast, 1.0)),
        "size": np.log(reduced.size / cell_size),
    }
    return np.array([values.get(name, np.nan) for name in NAMES], dtype=np.float64)


def _quantile(values: np.ndarray, fraction: float) -> int:
    """A quantile of uint8 values by their histogram, which is much faster than sorting."""
    counts = np.cumsum(cv2.calcHist([np.ascontiguousarray(values)], [0], None, [256], [0, 256]))
    return int(np.searchsorted(counts, fraction * counts[-1]))
