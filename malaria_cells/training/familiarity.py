"""What a training stores for later: what its photographs look like, and how often the detector errs at home and elsewhere."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv
from pydantic import TypeAdapter, ValidationError

from malaria_cells.annotations import AnnotationSet
from malaria_cells.counting import ErrorRates
from malaria_cells.detection import Detector
from malaria_cells.errors import InputError, reason
from malaria_cells.evaluation import interval_coverage
from malaria_cells.familiarity import FamiliarityModel, appearance, fit, measure
from malaria_cells.familiarity.signals import SIGNALS
from malaria_cells.pictures import read_picture
from malaria_cells.progress import progress
from malaria_cells.wording import excerpt

MOST_PHOTOGRAPHS = 100  # training photographs of each data set that are measured: more tell no more
ELSEWHERE = "errors_by_data_set"


def fit_familiarity(
    train: AnnotationSet, validation: AnnotationSet, found: list[sv.Detections], cell_size: float | None
) -> FamiliarityModel | None:
    """What the photographs of a training look like; None where labels are of whole pictures.

    Light, stain, focus and size are those of training and validation photographs, whose cells are annotated; what the networks make of a
    photograph is measured on validation photographs alone, since they know the others.

    Args:
        train: the training part; may be empty where all photographs were cross-validated.
        validation: the validation part.
        found: what the trained detector finds in each validation picture.
        cell_size: of the model.
    """
    if cell_size is None or validation.whole or not len(validation):
        return None
    seen = [p for own in train.by_data_set().values() for p in own.pictures[:: math.ceil(len(own) / MOST_PHOTOGRAPHS)]]
    total = len(seen) + len(validation)
    reading = iter(progress([*seen, *validation.pictures], total, "measuring what photographs look like", "image"))
    appearances = [appearance(read_picture(next(reading).path), p.cells_xyxy, cell_size) for p in seen]
    labels = validation.labels
    validated = [measure(read_picture(p.path), detected, labels, cell_size) for p, detected in zip(reading, found, strict=True)]
    sets, validated_sets = [p.data_set for p in seen], [p.data_set for p in validation.pictures]
    return fit(np.array(appearances).reshape(len(seen), len(SIGNALS)), sets, np.array(validated), validated_sets)


def read_elsewhere(path: str | None) -> dict[str, ErrorRates] | None:
    """Error rates by the data set that a training left out, as ``crossvalidate --by data_set`` writes them; None where no file is named.

    Args:
        path: JSON: ``{"errors_by_data_set": {NAME: {"infected": n, "found": n, "healthy": n, "false_alarms": n}}}``, or the inner part.

    Raises:
        InputError: no such file, or another content.
    """
    if path is None:
        return None
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not content.get(ELSEWHERE, content):
            raise ValueError(f"found {excerpt(content)}, no data set")
        found = TypeAdapter(dict[str, ErrorRates]).validate_python(content.get(ELSEWHERE, content))
        for name, errors in found.items():
            errors.check(excerpt(name))
    except OSError as error:
        why = error.strerror or reason(error)
        raise InputError(f"elsewhere: {path} cannot be read ({why}); crossvalidate --by data_set writes such a file") from error
    except (ValidationError, ValueError, RecursionError) as error:
        faults = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": reason(error)}
        where = "".join(f"{excerpt(part)}: " for part in faults["loc"])
        raise InputError(
            f"elsewhere: {path}: {where}{faults['msg']}; expected the counts `infected`, `found`, `healthy` and `false_alarms` by data "
            "set, as crossvalidate --by data_set writes them"
        ) from error
    return found


def learned_from(
    detector: Detector, train: AnnotationSet, validation: AnnotationSet, found: list[sv.Detections], elsewhere: str | None
) -> dict[str, Any]:
    """The parts of a `ModelDescription` that are measured with the trained detector, by name.

    Args:
        detector: with its thresholds and error rates.
        train: the training part.
        validation: the validation part.
        found: what it finds in each validation picture.
        elsewhere: see `read_elsewhere`.
    """
    familiarity = fit_familiarity(train, validation, found, detector.measured_cell_size)
    return {
        "settings": detector.settings,
        "errors": detector.errors,
        "familiarity": familiarity,
        "errors_elsewhere": read_elsewhere(elsewhere),
    }


def validated_coverage(validation: AnnotationSet, found: list[sv.Detections], errors: ErrorRates | None) -> dict[str, Any]:
    """`evaluation.interval_coverage` of the validation part, as ``metrics.json`` holds it; empty where nothing can be infected."""
    if not validation.labels.is_infected.any():
        return {}
    pictures = list(validation.pictures)
    return {"interval_coverage": interval_coverage(pictures, found, validation.labels, [errors] * len(pictures))}
