"""The result of a training, from which reports are written."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from malaria_cells.config import Config
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.dataset import DataSet
from malaria_cells.data.detections import Detections
from malaria_cells.evaluation import DetectionMetrics, classification_metrics
from malaria_cells.inference.calibration import calibration_figures
from malaria_cells.inference.error_rates import ErrorRates


@dataclass(frozen=True)
class LearningCurve:
    """The metrics of one training by epoch.

    Attributes:
        history: one row per epoch, with Keras' names as keys.
        best_epoch: index of the epoch whose weights are used.
    """

    history: list[dict[str, float]]
    best_epoch: int


@dataclass(frozen=True)
class ClassifiedPart:
    """The patches of a part and the classifier's predictions for them.

    Attributes:
        part: name of the part.
        names: class names, including the background class.
        class_ids: true classes, int (n,).
        probabilities: calibrated probabilities, float (n, n_classes).
        metrics: `evaluation.classification_metrics` and `calibration.calibration_figures`.
        is_infected: bool (n_classes,), the infected classes.
    """

    part: str
    names: tuple[str, ...]
    class_ids: np.ndarray
    probabilities: np.ndarray
    metrics: dict[str, Any]
    is_infected: np.ndarray

    @classmethod
    def scored(
        cls, part: str, names: tuple[str, ...], class_ids: np.ndarray, probabilities: np.ndarray, is_infected: np.ndarray
    ) -> "ClassifiedPart":
        """Compute the metrics and return the part with them."""
        metrics = classification_metrics(class_ids, probabilities, names) | calibration_figures(probabilities, class_ids, is_infected)
        return cls(part, names, class_ids, probabilities, metrics, is_infected)


@dataclass(frozen=True)
class DetectedPart:
    """The images of a part and the trained detector's detections in them.

    Attributes:
        part: name of the part.
        annotations: the images.
        detections: one entry per image.
        errors: the detector's error rates.
        metrics: `evaluation.detection_metrics`; None: the report shows only the images.
    """

    part: str
    annotations: AnnotationSet
    detections: list[Detections]
    errors: ErrorRates | None
    metrics: DetectionMetrics | None = None


@dataclass
class TrainingResult:
    """Everything that a training reports.

    Attributes:
        config: the resolved config.
        data: the parts.
        curves: learning curves of the classifier and, if there is one, of the refiner; or that of a one-stage detector.
        metrics: the content of ``metrics.json``.
        panels: columns of the history to plot, title by key; None: those of a classifier.
        classified: the classified patches of a two-stage detector, or the classified whole images; None for a one-stage detector.
        detected: the detections; None where whole images are classified.
        fine_tuned: learning curves of the fine-tuning on train + validation; empty without `refit`.
        command: command that repeats the training; None: ``train.py`` with the config in the model folder.
        examples: training patches, uint8 (n, H, W, 3) by class; None: the config does not ask for them.
    """

    config: Config
    data: DataSet
    curves: list[LearningCurve]
    metrics: dict[str, Any]
    panels: dict[str, str] | None = None
    classified: ClassifiedPart | None = None
    detected: DetectedPart | None = None
    fine_tuned: list[LearningCurve] = field(default_factory=list)
    command: str | None = None
    examples: dict[str, np.ndarray] | None = None

    def size_of(self, part: str) -> int:
        """Return the number of images of a part; of all parts, if `part` names none of them (cross-validation over all images)."""
        return len(self.data.parts[part]) if part in self.data.parts else len(self.data.all_images)
