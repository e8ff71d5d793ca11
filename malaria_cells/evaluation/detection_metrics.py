"""Metrics of detections in whole images: the content of ``metrics.json``."""

from dataclasses import dataclass
from typing import Any

from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation.average_precision import AveragePrecision, as_one_class, average_precision, cell_figures, mean_present
from malaria_cells.evaluation.matches import cell_matches, infected_figures, micro_f1, parasitemia_errors


@dataclass(frozen=True)
class Score:
    """Metrics of detections.

    Attributes:
        metrics: the content of ``metrics.json``.
        by_class: average precision and precision-recall curve of each class.
    """

    metrics: dict[str, Any]
    by_class: AveragePrecision


def detection_metrics(
    images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet, seconds_per_image: float | None
) -> dict[str, Any]:
    """Metrics of detections, compared with annotated images: the content of ``metrics.json``.

    Args:
        images: annotated images.
        detections: detections of each image, in the same order.
        labels: the classes.
        seconds_per_image: measured time, or None.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> box, ids = np.array([[10, 10, 50, 50]], dtype=np.float32), np.array([0])
        >>> truth = AnnotatedImage("a.png", Path("a.png"), (100, 80), "a.png", box, ids, np.array([False]))
        >>> detections = Detections.from_boxes(box + 2, ids, np.array([0.9]))
        >>> detection_metrics([truth], [detections], LabelSet(("cell",)), None)["mAP50"]
        1.0
    """
    return score(images, detections, labels, seconds_per_image).metrics


def score(images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet, seconds_per_image: float | None) -> Score:
    """Metrics of detections, with the average precision of each class; arguments as in `detection_metrics`.

    Args:
        images: annotated images.
        detections: detections of each image, in the same order.
        labels: the classes.
        seconds_per_image: measured time, or None.
    """
    by_class = average_precision(images, detections, labels)
    cell = cell_figures(images, detections, labels)
    metrics: dict[str, Any] = {
        "images": len(images),
        "seconds_per_image": seconds_per_image,
        "mAP": mean_present(by_class.ap),
        "mAP50": mean_present(by_class.ap50),
        "mAP75": mean_present(by_class.ap75),
        "per_class": {name: {"AP": by_class.ap[i], "AP50": by_class.ap50[i], "n": by_class.n[i]} for i, name in enumerate(labels.names)},
        "cell": {"AP50": cell.ap50[0], "recall50": cell.recall50[0], **cell_matches(images, detections)},
        "micro_f1": micro_f1(images, detections, labels),
    }
    if labels.is_infected.any():
        ap50 = as_one_class(images, detections, labels.is_infected).ap50[0]
        metrics["infected"] = infected_figures(images, detections, labels) | {"AP50": ap50}
        metrics["parasitemia"] = parasitemia_errors(images, detections, labels)
    return Score(metrics, by_class)
