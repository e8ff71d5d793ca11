"""Measures what a model stores for inference: the appearance of its images, and error rates in known and in other laboratories."""

import math
from typing import Any

import numpy as np

from malaria_cells.base.progress import progress
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import read_image
from malaria_cells.evaluation import interval_coverage
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.error_rates import ErrorRates
from malaria_cells.inference.familiarity import FamiliarityLimits, FamiliarityModel, appearance, fit, measure
from malaria_cells.inference.familiarity.signals import SIGNALS
from malaria_cells.training.errors_elsewhere import read_elsewhere

MAX_IMAGES = 100  # training images measured per data set; more did not change the result


def fit_familiarity(
    train: AnnotationSet,
    validation: AnnotationSet,
    detections: list[Detections],
    cell_size: float | None,
    limits: FamiliarityLimits | None = None,
) -> FamiliarityModel | None:
    """Fit the familiarity model to the images of a training.

    Light, stain, focus and cell size are measured on the annotated cells of training and validation images. The networks' responses are
    measured on validation images only, since the networks were trained on the others.

    Args:
        train: the training part; may be empty if all images were cross-validated.
        validation: the validation part.
        detections: the trained detector's detections in each validation image.
        cell_size: the model's cell size in pixels; None for a classifier of whole images.
        limits: see `familiarity.fit`.

    Returns:
        The familiarity model; None if the labels are of whole images or there is no validation image.
    """
    if cell_size is None or validation.whole or not len(validation):
        return None
    train_images = [p for subset in train.by_data_set().values() for p in subset.images[:: math.ceil(len(subset) / MAX_IMAGES)]]
    total = len(train_images) + len(validation)
    all_images = iter(progress([*train_images, *validation.images], total, "measuring what images look like", "image"))
    appearances = [appearance(read_image(next(all_images).path), p.cells_xyxy, cell_size) for p in train_images]
    labels = validation.labels
    validated = [measure(read_image(p.path), d, labels, cell_size) for p, d in zip(all_images, detections, strict=True)]
    sets, validated_sets = [p.data_set for p in train_images], [p.data_set for p in validation.images]
    healthy_sets = sets_without_infected(train, validation)
    measured = np.array(appearances).reshape(len(train_images), len(SIGNALS))
    return fit(measured, sets, np.array(validated), validated_sets, healthy_sets, limits)


def sets_without_infected(*parts: AnnotationSet) -> set[str]:
    """Return the names of data sets without an infected cell in any part; empty if no data set has infected cells."""
    infected_by_set: dict[str, int] = {}
    for part in parts:
        for name, subset in part.by_data_set().items():
            infected_by_set[name] = infected_by_set.get(name, 0) + int(subset.class_counts[subset.labels.is_infected].sum())
    return {name for name, count in infected_by_set.items() if not count} if any(infected_by_set.values()) else set()


def learned_from(
    detector: Detector, train: AnnotationSet, validation: AnnotationSet, detections: list[Detections], elsewhere: str | None
) -> dict[str, Any]:
    """Return the fields of a `ModelDescription` that are measured with the trained detector, by name.

    Args:
        detector: the detector with its thresholds and error rates.
        train: the training part.
        validation: the validation part.
        detections: the detector's detections in each validation image.
        elsewhere: see `elsewhere.read_elsewhere`.
    """
    familiarity = fit_familiarity(train, validation, detections, detector.measured_cell_size)
    return {
        "settings": detector.settings,
        "errors": detector.errors,
        "familiarity": familiarity,
        **read_elsewhere(elsewhere),
    }


def validated_coverage(validation: AnnotationSet, detections: list[Detections], errors: ErrorRates | None) -> dict[str, Any]:
    """Return `evaluation.interval_coverage` of the validation part for ``metrics.json``; empty without infected labels."""
    if not validation.labels.is_infected.any():
        return {}
    images = list(validation.images)
    return {"interval_coverage": interval_coverage(images, detections, validation.labels, [errors] * len(images))}
