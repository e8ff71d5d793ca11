"""What a training hands on to whatever reports it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import supervision as sv

from malaria_cells.config import Config
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.dataset import DataSet
from malaria_cells.evaluation import classification_metrics
from malaria_cells.inference.calibration import calibration_figures
from malaria_cells.inference.counting import ErrorRates


@dataclass(frozen=True)
class LearningCurve:
    """How one training went.

    Attributes:
        history: one row an epoch, with keys as Keras names them.
        best_epoch: index of the epoch whose weights were kept.
    """

    history: list[dict[str, float]]
    best_epoch: int


@dataclass(frozen=True)
class ClassifiedPart:
    """Patches of a part with what the classifier makes of them.

    Attributes:
        part: its name.
        names: of the classes, including the background class.
        class_ids: true classes, int (n,).
        probabilities: calibrated, float (n, n_classes).
        metrics: `evaluation.classification_metrics` and `calibration.calibration_figures`.
        is_infected: which of the classes are infected, bool (n_classes,).
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
        """Return the part with its figures."""
        metrics = classification_metrics(class_ids, probabilities, names) | calibration_figures(probabilities, class_ids, is_infected)
        return cls(part, names, class_ids, probabilities, metrics, is_infected)


@dataclass(frozen=True)
class DetectedPart:
    """Images of a part with what the trained detector finds in them.

    Attributes:
        part: its name.
        annotations: the images.
        found: detections, one entry an image.
        errors: of the detector.
        metrics: `evaluation.detection_metrics`, or None where only the images are shown.
    """

    part: str
    annotations: AnnotationSet
    found: list[sv.Detections]
    errors: ErrorRates | None
    metrics: dict[str, Any] | None = None


@dataclass
class TrainingResult:
    """What a training has to tell.

    Attributes:
        config: as resolved.
        data: the parts.
        courses: of the trainings: of the first classifier and, if there is one, of the second.
        metrics: the content of ``metrics.json``.
        panels: columns of the history that are drawn, title by key; None: those of a classifier.
        classified: of the classifier of a two-stage detector or of whole images, else None.
        detected: None where whole images are classified.
        further: of the trainings further with the validation images, if there were any.
        command: how to make it again; None: by ``train.py`` and the folder's config.
        examples: patches that were trained on, uint8 (n, H, W, 3) by class, if the config asks for them.
    """

    config: Config
    data: DataSet
    courses: list[LearningCurve]
    metrics: dict[str, Any]
    panels: dict[str, str] | None = None
    classified: ClassifiedPart | None = None
    detected: DetectedPart | None = None
    further: list[LearningCurve] = field(default_factory=list)
    command: str | None = None
    examples: dict[str, np.ndarray] | None = None

    def size_of(self, part: str) -> int:
        """Number of images of a part, or of all parts for one that is made of folds of them."""
        return len(self.data.parts[part]) if part in self.data.parts else len(self.data.all_images)
