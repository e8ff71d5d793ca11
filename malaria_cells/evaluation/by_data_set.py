"""Figures of each data set by itself: in ``metrics.json`` of a training on several, in its report, and in cross-validation."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import supervision as sv

from malaria_cells.base.progress import progress
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.images import read_image
from malaria_cells.evaluation import detection_metrics, error_rates
from malaria_cells.inference.detector import Detector

# What tables show: a heading, and where it lies in the figures of a part.
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
    """The figure at a path of keys; None where it is not."""
    for key in path:
        metrics = None if metrics is None else metrics.get(key)
    return metrics


def has_named_sets(annotations: AnnotationSet | None) -> bool:
    """Whether the images come from sets with names, which a config lists as `data_sets`."""
    return annotations is not None and any(p.data_set for p in annotations.images)


def detected_by_data_set(detector: Detector, annotations: AnnotationSet) -> dict[str, dict[str, Any]]:
    """Detect in images of several data sets, and score each set by itself."""
    images = progress(annotations.images, len(annotations), "test", "image")
    return figures_by_data_set(annotations, {p.key: detector.detect(read_image(p.path)) for p in images})


def figures_by_data_set(annotations: AnnotationSet, found: Mapping[str, sv.Detections]) -> dict[str, dict[str, Any]]:
    """The figures of each data set by its name.

    Args:
        annotations: the truth.
        found: detections by the key of their image.

    Returns:
        As `detection_metrics`, and ``counts``: infected cells, those found, healthy cells and false alarms, from which rates of several
        sets can be made.
    """
    return {name: _figures(own, found) for name, own in annotations.by_data_set().items()}


def _figures(annotations: AnnotationSet, found: Mapping[str, sv.Detections]) -> dict[str, Any]:
    images, labels = list(annotations.images), annotations.labels
    own = [found[p.key] for p in images]
    counts = {"counts": asdict(error_rates(images, own, labels))} if labels.is_infected.any() else {}
    return detection_metrics(images, own, labels, None) | counts
