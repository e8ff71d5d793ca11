"""How a detector does in laboratories that its training left out: what ``crossvalidate --by data_set`` measures and later models keep."""

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
from malaria_cells.inference.counting import ErrorRates
from malaria_cells.inference.detector import Detector, TwoStageDetector
from malaria_cells.inference.unfamiliar import Evidence, UnfamiliarSigmoid, applies_to, fit_unfamiliar

MOST_IMAGES = 40  # of a data set that evidence is measured on
ERRORS, SIGMOID = "errors_by_data_set", "unfamiliar"  # keys of the file


@dataclass(frozen=True)
class _Elsewhere:
    """The part of the file that is read; what else ``crossvalidate`` writes there is for people."""

    __pydantic_config__ = ConfigDict(extra="ignore")
    errors_by_data_set: Annotated[dict[str, ErrorRates], Field(min_length=1)]
    unfamiliar: UnfamiliarSigmoid | None = None


def read_elsewhere(path: str | None) -> dict[str, Any]:
    """Parts of a `ModelDescription` that were measured by trainings which left data sets out, by name; None each where no file is named.

    Args:
        path: JSON: ``{"errors_by_data_set": {NAME: {"infected": n, "found": n, "healthy": n, "false_alarms": n}}, "unfamiliar": {"slope":
            x, "offset": x}}``, of which the second is optional; or the inner part of the first alone.

    Raises:
        InputError: no such file, or another content.
    """
    if path is None:
        return {"errors_elsewhere": None, "unfamiliar": None}
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not content.get(ERRORS, content):
            raise ValueError(f"found {excerpt(content)}, no data set")
        found = TypeAdapter(_Elsewhere).validate_python(content if ERRORS in content else {ERRORS: content})
        for name, errors in found.errors_by_data_set.items():
            errors.check(excerpt(name))
        if found.unfamiliar is not None:
            found.unfamiliar.check(SIGMOID)
    except OSError as error:
        why = error.strerror or reason(error)
        raise InputError(f"elsewhere: {path} cannot be read ({why}); crossvalidate --by data_set writes such a file") from error
    except (ValidationError, ValueError, RecursionError) as error:
        faults = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": reason(error)}
        where = "".join(f"{excerpt(part)}: " for part in faults["loc"] if part != ERRORS)
        raise InputError(
            f"elsewhere: {path}: {where}{faults['msg']}; expected the counts `infected`, `found`, `healthy` and `false_alarms` by data "
            "set, as crossvalidate --by data_set writes them"
        ) from error
    return {"errors_elsewhere": found.errors_by_data_set, "unfamiliar": found.unfamiliar}


def measured_evidence(detector: Detector, left_out: AnnotationSet) -> Evidence | None:
    """What the detector sees of the annotated red cells of images, infected or not; None where it knows no evidence.

    Args:
        detector: of a training that left them out.
        left_out: the images, with their annotation; of more than `MOST_IMAGES` so many, evenly.
    """
    if not isinstance(detector, TwoStageDetector) or not applies_to(left_out.labels):
        return None
    labels, images = left_out.labels, left_out.images[:: math.ceil(len(left_out) / MOST_IMAGES)]
    relative, is_infected = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for image in progress(images, len(images), "looking closely", "image"):
        candidates, seen = detector.evidence(read_image(image.path))
        if seen is None:
            continue
        matched = boxes.match(candidates, image.cells_xyxy)
        class_ids = np.where(matched >= 0, np.append(image.cell_class_ids, -1)[matched], -1)
        known = (class_ids >= 0) & labels.is_red_cell[class_ids]
        relative.append(seen[known])
        is_infected.append(labels.is_infected[class_ids[known]])
    return Evidence(np.concatenate(relative), np.concatenate(is_infected))


def as_elsewhere(detector: Detector, evidence: dict[str, Evidence], left_out: str) -> Detector | None:
    """The detector, taking evidence on unfamiliar images for what it means in all other laboratories that were left out in turn.

    Returns:
        None where the others do not say what it means: none of them has infected cells.
    """
    others = fit_unfamiliar({name: own for name, own in evidence.items() if name != left_out})
    return replace(detector, unfamiliar=others) if others is not None and isinstance(detector, TwoStageDetector) else None


def content_of(errors: dict[str, ErrorRates], evidence: dict[str, Evidence]) -> dict[str, Any]:
    """What `read_elsewhere` reads, JSON-ready; with a sigmoid only where it can be tried on a laboratory that it was not fitted to."""
    sigmoid = fit_unfamiliar(evidence) if sum(own.is_infected.any() for own in evidence.values()) > 1 else None
    return {ERRORS: {name: asdict(own) for name, own in errors.items()}, SIGMOID: None if sigmoid is None else asdict(sigmoid)}
