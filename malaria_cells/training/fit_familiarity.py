"""What a training stores for later: what its images look like, and how often the detector errs at home and elsewhere."""

import math
from typing import Any

import numpy as np
import supervision as sv

from malaria_cells.base.progress import progress
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.images import read_image
from malaria_cells.evaluation import interval_coverage
from malaria_cells.inference.counting import ErrorRates
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.familiarity import FamiliarityModel, appearance, fit, measure
from malaria_cells.inference.familiarity.signals import SIGNALS
from malaria_cells.training.elsewhere import read_elsewhere

MOST_IMAGES = 100  # training images of each data set that are measured: more tell no more


def fit_familiarity(
    train: AnnotationSet, validation: AnnotationSet, found: list[sv.Detections], cell_size: float | None
) -> FamiliarityModel | None:
    """What the images of a training look like; None where labels are of whole images.

    Light, stain, focus and size are those of training and validation images, whose cells are annotated; what the networks make of a
    image is measured on validation images alone, since they know the others.

    Args:
        train: the training part; may be empty where all images were cross-validated.
        validation: the validation part.
        found: what the trained detector finds in each validation image.
        cell_size: of the model.
    """
    if cell_size is None or validation.whole or not len(validation):
        return None
    seen = [p for own in train.by_data_set().values() for p in own.images[:: math.ceil(len(own) / MOST_IMAGES)]]
    total = len(seen) + len(validation)
    reading = iter(progress([*seen, *validation.images], total, "measuring what images look like", "image"))
    appearances = [appearance(read_image(next(reading).path), p.cells_xyxy, cell_size) for p in seen]
    labels = validation.labels
    validated = [measure(read_image(p.path), detected, labels, cell_size) for p, detected in zip(reading, found, strict=True)]
    sets, validated_sets = [p.data_set for p in seen], [p.data_set for p in validation.images]
    without = sets_without_infected(train, validation)
    return fit(np.array(appearances).reshape(len(seen), len(SIGNALS)), sets, np.array(validated), validated_sets, without)


def sets_without_infected(*parts: AnnotationSet) -> set[str]:
    """Names of the data sets that have no infected cell in any part, though others have."""
    found: dict[str, int] = {}
    for part in parts:
        for name, own in part.by_data_set().items():
            found[name] = found.get(name, 0) + int(own.class_counts[own.labels.is_infected].sum())
    return {name for name, infected in found.items() if not infected} if any(found.values()) else set()


def learned_from(
    detector: Detector, train: AnnotationSet, validation: AnnotationSet, found: list[sv.Detections], elsewhere: str | None
) -> dict[str, Any]:
    """The parts of a `ModelDescription` that are measured with the trained detector, by name.

    Args:
        detector: with its thresholds and error rates.
        train: the training part.
        validation: the validation part.
        found: what it finds in each validation image.
        elsewhere: see `elsewhere.read_elsewhere`.
    """
    familiarity = fit_familiarity(train, validation, found, detector.measured_cell_size)
    return {
        "settings": detector.settings,
        "errors": detector.errors,
        "familiarity": familiarity,
        **read_elsewhere(elsewhere),
    }


def validated_coverage(validation: AnnotationSet, found: list[sv.Detections], errors: ErrorRates | None) -> dict[str, Any]:
    """`evaluation.interval_coverage` of the validation part, as ``metrics.json`` holds it; empty where nothing can be infected."""
    if not validation.labels.is_infected.any():
        return {}
    images = list(validation.images)
    return {"interval_coverage": interval_coverage(images, found, validation.labels, [errors] * len(images))}
