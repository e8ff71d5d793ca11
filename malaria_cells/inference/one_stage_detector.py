"""Inference with one-stage detectors (see `models.one_stage`)."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.images import LargeImage
from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.detector import Detector, Predictions

MIN_SCORE = 0.02  # minimum score of a candidate
# Number of candidates: an undertrained network scores almost every location above MIN_SCORE, and no input holds 5,000 cells of 14 pixels.
MAX_CANDIDATES = 5000


@dataclass(frozen=True)
class OneStageDetector(Detector):
    """One network for the whole image.

    Attributes:
        network: from uint8 pixels (1, H, W, 3) of `size_hw` to (1, n, 4 + n_labels): boxes xyxy in pixels of the input, and scores.
        size_hw: height and width of the network's input in pixels.
        label_set: the classes.
    """

    network: Callable[[np.ndarray], np.ndarray]
    size_hw: tuple[int, int]
    label_set: LabelSet

    @property
    def labels(self) -> LabelSet:
        """The classes."""
        return self.label_set

    def predict(self, image: np.ndarray | LargeImage) -> Predictions:
        """Up to `MAX_CANDIDATES` best boxes with a score of at least `MIN_SCORE`, scores as probabilities; see `Detector.predict`."""
        pixels = image if isinstance(image, np.ndarray) else image.overview.reduced
        letterboxed, scale = letterbox(pixels, self.size_hw)
        scale *= pixels.shape[1] / image.shape[1]
        output = self.network(letterboxed[None])[0]
        scores = output[:, 4:].max(axis=1)
        best = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
        output = output[best[scores[best] >= MIN_SCORE]]
        boxes_xyxy = boxes.clip(output[:, :4] / scale, (image.shape[1], image.shape[0]))
        has_area = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] >= 1).all(axis=1)
        return Predictions(boxes_xyxy[has_area], as_probabilities(output[has_area, 4:]))


def letterbox(image: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Scale an image to fit, padded with black on the right and below: uint8 (*size_hw, 3), and the scale factor."""
    scale = min(size_hw[0] / image.shape[0], size_hw[1] / image.shape[1])
    width, height = (min(max(round(n * scale), 1), limit) for n, limit in zip(image.shape[1::-1], size_hw[::-1], strict=True))
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    letterboxed = np.zeros((*size_hw, 3), dtype=np.uint8)
    letterboxed[:height, :width] = small
    return letterboxed, scale


def as_probabilities(scores: np.ndarray) -> np.ndarray:
    """Convert independent scores (n, n_labels) to class probabilities, background last: float32 (n, n_labels + 1).

    The highest score is taken as the probability of a cell, which is divided among the labels in proportion to their scores.
    """
    highest = scores.max(axis=1, keepdims=True, initial=0)
    fractions = highest * scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-9)
    return np.concatenate([fractions, 1 - highest], axis=1).astype(np.float32)
