"""Detectors that find and name cells in one go (see `models.one_stage`), in use."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.detector import Detector, Predictions

LEAST_SCORE = 0.02
# Cap on candidates: an undertrained network scores almost every location above LEAST_SCORE, and no input holds 5,000 cells of 14 pixels.
MOST_PLACES = 5000


@dataclass(frozen=True)
class OneStageDetector(Detector):
    """One network for the whole image.

    Attributes:
        network: from uint8 pixels (1, H, W, 3) of `size_hw` to (1, n, 4 + n_labels): xyxy in its pixels and scores.
        size_hw: of its input.
        label_set: the classes.
    """

    network: Callable[[np.ndarray], np.ndarray]
    size_hw: tuple[int, int]
    label_set: LabelSet

    @property
    def labels(self) -> LabelSet:
        """The classes."""
        return self.label_set

    def predict(self, image: np.ndarray) -> Predictions:
        """The best boxes, `MOST_PLACES` at most, with a score of `LEAST_SCORE` or more, scores as probabilities; see `Detector.predict`."""
        canvas, scale = letterbox(image, self.size_hw)
        answer = self.network(canvas[None])[0]
        scores = answer[:, 4:].max(axis=1)
        best = np.argsort(-scores, kind="stable")[:MOST_PLACES]
        answer = answer[best[scores[best] >= LEAST_SCORE]]
        found = boxes.clip(answer[:, :4] / scale, (image.shape[1], image.shape[0]))
        has_area = (found[:, 2:] - found[:, :2] >= 1).all(axis=1)
        return Predictions(found[has_area], as_probabilities(answer[has_area, 4:]))


def letterbox(image: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Scale an image to fit and fill up with black on the right and below: uint8 (*size_hw, 3), and the scale."""
    scale = min(size_hw[0] / image.shape[0], size_hw[1] / image.shape[1])
    width, height = (min(max(round(n * scale), 1), limit) for n, limit in zip(image.shape[1::-1], size_hw[::-1], strict=True))
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = np.zeros((*size_hw, 3), dtype=np.uint8)
    canvas[:height, :width] = small
    return canvas, scale


def as_probabilities(scores: np.ndarray) -> np.ndarray:
    """Independent scores (n, n_labels) as fractions of 1 with what is no cell last: float32 (n, n_labels + 1).

    The highest score is the probability that there is a cell; it is divided among the labels by their scores.
    """
    highest = scores.max(axis=1, keepdims=True, initial=0)
    fractions = highest * scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-9)
    return np.concatenate([fractions, 1 - highest], axis=1).astype(np.float32)
