"""Properties of an image by which it is compared with those of the training: light, stain, focus, cells, certainty.

All are measured on the image as it was taken, in a copy reduced to cells of `MEASURED_CELL` pixels, and on what any detector hands
on (boxes and probabilities), so that they are the same for every engine that runs the networks.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import supervision as sv

from malaria_cells.data import boxes
from malaria_cells.data.labels import LabelSet

MEASURED_CELL = 32.0  # pixels of the median cell in the reduced copy
MOST_SIDE = 640  # pixels of the longer side of that copy
CLEAR = 0.95  # quantile of each channel that is taken for the clear field between the cells
# Quantile of the optical density, and its least value, at which densities are cut off before stain is told from clear field: a leukocyte's
# nucleus is so dense that red cells would be counted as clear field beside it.
CUT_OFF = 0.75, 0.15
LEAST_DENSITY = 0.05  # mean optical density from which a pixel can be stained at all
IS_CELL = 0.5  # probability of being a cell from which a detection is taken for one here, whatever the model's own threshold
UNSURE = (0.1, 0.9)  # probabilities of being a cell between which the networks are not sure of a detection
AT_LEAST = 0.02  # added to fractions and entropies before their logarithm is taken
FEWEST_SEEN = 5  # detections: the fraction of the unsure ones among fewer says nothing

_OPTICAL_DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)


@dataclass(frozen=True)
class Signal:
    """One property, with the words for an image that differs in it.

    Attributes:
        name: key in the file of a model.
        least_width: distance from the centre of a data set that is never called different, in the signal's unit.
        of_networks: whether it depends on what the networks answered; else it is of the image and the places of its cells.
        only_high: whether low values are as good as usual ones.
    """

    name: str
    least_width: float
    of_networks: bool = False
    only_high: bool = False


SIGNALS = (
    Signal("light_red", 0.05),  # logarithm of the clear field's red by its green
    Signal("light_blue", 0.05),  # logarithm of the clear field's blue by its green
    Signal("stain", 0.2),  # logarithm of the stained pixels' mean optical density
    Signal("stain_red", 0.03),  # fraction of the red channel in the optical density
    Signal("stain_blue", 0.03),  # fraction of the blue channel
    Signal("focus", 0.3),  # logarithm of the variance of the Laplacian by that of the green channel
    Signal("size", 0.1),  # logarithm of the median cell size by the model's
    # Logarithm of the fraction of the stained area that lies in no red cell, `AT_LEAST` added.
    Signal("unexplained", 0.5, of_networks=True, only_high=True),
    Signal("unsure", 0.15, of_networks=True, only_high=True),  # fraction of detections that are neither surely a cell nor surely none
    # Logarithm of the mean entropy of the cells' classes in nats, `AT_LEAST` added.
    Signal("mixed", 0.5, of_networks=True, only_high=True),
)
NAMES = tuple(signal.name for signal in SIGNALS)
OF_NETWORKS = np.array([signal.of_networks for signal in SIGNALS])


def appearance(image: np.ndarray, cells_xyxy: np.ndarray, cell_size: float) -> np.ndarray:
    """The signals that need no network: float64 (len(SIGNALS),), NaN for the others.

    Args:
        image: uint8 RGB (H, W, 3).
        cells_xyxy: boxes of its cells, annotated or detected, (n, 4) pixels.
        cell_size: median longer side of a cell in the training images in pixels.
    """
    return _of_image(_Reduced.of(image, cells_xyxy, cell_size), cell_size)


def measure(image: np.ndarray, found: sv.Detections, labels: LabelSet, cell_size: float) -> np.ndarray:
    """All signals: float64 (len(SIGNALS),).

    Args:
        image: uint8 RGB (H, W, 3).
        found: the detections of `Detector.detect`, unsure ones included.
        labels: the classes.
        cell_size: as in `appearance`.
    """
    if len(found) == 0:
        values = appearance(image, np.zeros((0, 4), dtype=np.float32), cell_size)
        values[OF_NETWORKS] = np.log(1 + AT_LEAST), 0.0, np.log(AT_LEAST)
        return values
    objectness = np.asarray(found.data["objectness"])
    is_cell = objectness >= IS_CELL
    reduced = _Reduced.of(image, found.xyxy[is_cell], cell_size)
    values = _of_image(reduced, cell_size)
    p = np.asarray(found.data["probabilities"], dtype=np.float64)[is_cell, : len(labels)]
    p /= np.maximum(p.sum(axis=1, keepdims=True), 1e-9)
    is_red = labels.is_red_cell[p.argmax(axis=1)] if labels.is_red_cell.any() else np.ones(len(p), dtype=bool)
    seen = objectness[objectness >= UNSURE[0]]
    values[OF_NETWORKS] = (
        np.log(reduced.unexplained(found.xyxy[is_cell], is_red) + AT_LEAST),
        float((seen < UNSURE[1]).mean()) if len(seen) >= FEWEST_SEEN else 0.0,
        np.log((-(p * np.log(np.maximum(p, 1e-9))).sum(axis=1).mean() if len(p) else 0.0) + AT_LEAST),
    )
    return values


@dataclass(frozen=True)
class _Reduced:
    """The reduced copy of an image.

    Attributes:
        green: uint8 (h, w).
        clear: brightness of the clear field by channel, float (3,).
        stain: mean optical density of the stained pixels by channel, float (3,).
        stained: uint8 (h, w), 1 where stain absorbs light.
        scale: of its pixels by the image's.
        size: median longer side of the cells in the image's pixels; the model's where there are too few cells.
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
        factor = min(MEASURED_CELL / size, MOST_SIDE / max(image.shape[:2]))
        height, width = (max(round(n * factor), 8) for n in image.shape[:2])
        small = image
        while small.shape[0] >= 2 * height and small.shape[1] >= 2 * width:  # halves, which OpenCV is fast at
            small = cv2.resize(small, (small.shape[1] // 2, small.shape[0] // 2), interpolation=cv2.INTER_AREA)
        small = cv2.resize(small, (width, height), interpolation=cv2.INTER_AREA)
        clear = np.array([_quantile(small[..., channel], CLEAR) for channel in range(3)], dtype=np.float64)
        clear = np.maximum(clear, 1)
        table = np.maximum(_OPTICAL_DENSITY[:, None] + np.log10(clear / 255), 0).astype(np.float32)
        density = cv2.LUT(small, table[None])
        mean = cv2.transform(density, np.full((1, 3), 1 / 3, dtype=np.float32))
        levels = cv2.convertScaleAbs(mean, alpha=200)
        levels = np.minimum(levels, max(_quantile(levels, CUT_OFF[0]), round(200 * CUT_OFF[1]))).astype(np.uint8)
        otsu, _ = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        stained = (levels > max(otsu, 200 * LEAST_DENSITY)).astype(np.uint8)
        stain = np.array(cv2.mean(density, stained)[:3])
        scale = np.array([width / image.shape[1], height / image.shape[0]] * 2)
        return _Reduced(np.ascontiguousarray(small[..., 1]), clear, stain, stained, scale, size)

    def unexplained(self, cells_xyxy: np.ndarray, is_red: np.ndarray) -> float:
        """Fraction of the stained area outside other cells that lies in no red cell; 1 where hardly anything is stained."""
        stained = self.stained.copy()
        for x0, y0, x1, y1 in self._places(cells_xyxy[~is_red]):
            stained[y0:y1, x0:x1] = 0
        area = int(stained.sum())
        for x0, y0, x1, y1 in self._places(cells_xyxy[is_red]):
            stained[y0:y1, x0:x1] = 0
        one_cell = (self.size * self.scale[0]) ** 2 / 2
        return int(stained.sum()) / area if area >= one_cell else 1.0

    def _places(self, cells_xyxy: np.ndarray) -> list[list[int]]:
        return np.rint(cells_xyxy * self.scale).astype(int).tolist()


def _of_image(reduced: _Reduced, cell_size: float) -> np.ndarray:
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
    """A quantile of uint8 values by their histogram, which takes a fraction of the time of sorting."""
    counts = np.cumsum(cv2.calcHist([np.ascontiguousarray(values)], [0], None, [256], [0, 256]))
    return int(np.searchsorted(counts, fraction * counts[-1]))
