"""Error rates in laboratories that were not trained on: ``crossvalidate --by data_set`` measures them, later models store them."""

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.progress import progress
from malaria_cells.base.text import excerpt
from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.images import read_image
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.error_rates import ErrorRates
from malaria_cells.inference.former_names import ERROR_RATES, renamed
from malaria_cells.inference.two_stage_detector import TwoStageDetector
from malaria_cells.inference.unfamiliar import Evidence, UnfamiliarSigmoid, applies_to, fit_unfamiliar

MAX_IMAGES = 40  # images per data set that evidence is measured on
ERRORS, SIGMOID = "errors_by_data_set", "unfamiliar"  # keys of the file


@dataclass(frozen=True)
class _Content:
    """The keys of the file that are read; the other keys that ``crossvalidate`` writes are ignored."""

    __pydantic_config__ = ConfigDict(extra="ignore")
    errors_by_data_set: Annotated[dict[str, ErrorRates], Field(min_length=1)]
    unfamiliar: UnfamiliarSigmoid | None = None


def read_elsewhere(path: str | None) -> dict[str, Any]:
    """Read the fields of a `ModelDescription` that were measured by leave-one-data-set-out cross-validation.

    Args:
        path: JSON file with ``{"errors_by_data_set": {NAME: {"infected": n, "detected": n, "healthy": n, "false_alarms": n}}, "unfamiliar":
            {"slope": x, "offset": x}}``, where "unfamiliar" is optional; or with the value of "errors_by_data_set" alone. None: no file.

    Returns:
        Values by field name; each is None without a file.

    Raises:
        InputError: the file cannot be read or has another content.
    """
    if path is None:
        return {"errors_elsewhere": None, "unfamiliar": None}
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not content.get(ERRORS, content):
            raise ValueError(f"found {excerpt(content)} instead of a data set")
        content = content if ERRORS in content else {ERRORS: content}
        parsed = TypeAdapter(_Content).validate_python(renamed(content, (ERRORS, None), ERROR_RATES))
        for name, errors in parsed.errors_by_data_set.items():
            errors.check(excerpt(name))
        if parsed.unfamiliar is not None:
            parsed.unfamiliar.check(SIGMOID)
    except OSError as error:
        cause = error.strerror or reason(error)
        raise InputError(f"elsewhere: {path} cannot be read ({cause}); crossvalidate --by data_set writes such a file") from error
    except (ValidationError, ValueError, RecursionError) as error:
        fault = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": reason(error)}
        location = "".join(f"{excerpt(part)}: " for part in fault["loc"] if part != ERRORS)
        raise InputError(
            f"elsewhere: {path}: {location}{fault['msg']}; expected the counts `infected`, `detected`, `healthy` and `false_alarms` by "
            "data set, as crossvalidate --by data_set writes them"
        ) from error
    return {"errors_elsewhere": parsed.errors_by_data_set, "unfamiliar": parsed.unfamiliar}


def measured_evidence(detector: Detector, left_out: AnnotationSet) -> Evidence | None:
    """Measure the detector's evidence of infection for the annotated red cells of images that it was not trained on.

    Args:
        detector: a detector whose training left these images out.
        left_out: the annotated images; if there are more than `MAX_IMAGES`, an evenly spaced selection is used.

    Returns:
        The evidence of infected and healthy red cells; None if the detector or the labels have none.
    """
    if not isinstance(detector, TwoStageDetector) or not applies_to(left_out.labels):
        return None
    labels, images = left_out.labels, left_out.images[:: math.ceil(len(left_out) / MAX_IMAGES)]
    relative, is_infected = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for image in progress(images, len(images), "measuring evidence", "image"):
        candidates, evidence = detector.evidence(read_image(image.path))
        if evidence is None:
            continue
        matched = boxes.match(candidates, image.cells_xyxy)
        class_ids = np.where(matched >= 0, np.append(image.cell_class_ids, -1)[matched], -1)
        known = (class_ids >= 0) & labels.is_red_cell[class_ids]
        relative.append(evidence[known])
        is_infected.append(labels.is_infected[class_ids[known]])
    return Evidence(np.concatenate(relative), np.concatenate(is_infected))


def as_elsewhere(detector: Detector, evidence: dict[str, Evidence], left_out: str) -> Detector | None:
    """Return the detector with a sigmoid for unfamiliar images that is fitted to all laboratories except `left_out`.

    Args:
        detector: the detector of the training without `left_out`.
        evidence: evidence by name of the data set, see `measured_evidence`.
        left_out: name of the data set that the detector was not trained on.

    Returns:
        The detector; None if the sigmoid cannot be fitted, since no other data set has infected cells.
    """
    sigmoid = fit_unfamiliar({name: of_set for name, of_set in evidence.items() if name != left_out})
    return replace(detector, unfamiliar=sigmoid) if sigmoid is not None and isinstance(detector, TwoStageDetector) else None


def content_of(errors: dict[str, ErrorRates], evidence: dict[str, Evidence]) -> dict[str, Any]:
    """Return the JSON content for `read_elsewhere`; the sigmoid is None unless two data sets have infected cells to fit and test it on."""
    sigmoid = fit_unfamiliar(evidence) if sum(of_set.is_infected.any() for of_set in evidence.values()) > 1 else None
    return {ERRORS: {name: asdict(of_set) for name, of_set in errors.items()}, SIGMOID: None if sigmoid is None else asdict(sigmoid)}
