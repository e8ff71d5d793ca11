"""Metrics of each data set: for ``metrics.json`` of a training on several data sets, its report, and cross-validation."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from malaria_cells.base.progress import progress
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import read_image
from malaria_cells.evaluation import detection_metrics, error_rates
from malaria_cells.inference.detector import Detector

# Columns of tables: the heading, and the path of keys to the value in the metrics.
DETECTION: dict[str, tuple[str, ...]] = {
    "mAP50": ("mAP50",),
    "cell AP50": ("cell", "AP50"),
    "cell recall": ("cell", "recall50"),
    "infected F1": ("infected", "f1"),
    "infected AP50": ("infected", "AP50"),
    "false alarms per 1,000": ("infected", "false_alarms_per_1000_red_cells"),
    "parasitemia error": ("parasitemia", "mean_absolute_error"),
}


def at(metrics: Any, path: tuple[str, ...]) -> float | None:
    """The value at a path of keys; None if it is missing."""
    for key in path:
        metrics = None if metrics is None else metrics.get(key)
    return metrics


def has_named_sets(annotations: AnnotationSet | None) -> bool:
    """Whether the images come from named data sets, the config key `data_sets`."""
    return annotations is not None and any(image.data_set for image in annotations.images)


def detected_by_data_set(detector: Detector, annotations: AnnotationSet) -> dict[str, dict[str, Any]]:
    """Detect the cells of images of several data sets, and compute the metrics of each data set by its name."""
    images = progress(annotations.images, len(annotations), "test", "image")
    return figures_by_data_set(annotations, {image.key: detector.detect(read_image(image.path)) for image in images})


def figures_by_data_set(annotations: AnnotationSet, detections: Mapping[str, Detections]) -> dict[str, dict[str, Any]]:
    """The metrics of each data set by its name.

    Args:
        annotations: annotated images.
        detections: detections by the key of their image.

    Returns:
        For each data set `DetectionMetrics.to_json` and, if there are infected labels, `ErrorRates` as ``counts``, from which
        rates over several data sets can be computed.
    """
    return {name: _figures(one_set, detections) for name, one_set in annotations.by_data_set().items()}


def _figures(annotations: AnnotationSet, detections_by_key: Mapping[str, Detections]) -> dict[str, Any]:
    images, labels = list(annotations.images), annotations.labels
    detections = [detections_by_key[image.key] for image in images]
    counts = {"counts": asdict(error_rates(images, detections, labels))} if labels.is_infected.any() else {}
    return detection_metrics(images, detections, labels, None).to_json() | counts
