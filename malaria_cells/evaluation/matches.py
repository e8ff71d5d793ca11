"""Which detections are right: cells matched at IoU 0.5, by class and as infected or not, and what is counted from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import supervision as sv

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation.unscored import MATCH_IOU, is_unknown, unscored
from malaria_cells.inference.counting import ErrorRates, count, counted_ids, extra_variance

ROUNDED = 1e-9  # of a fraction: what arithmetic may leave between a fraction and an interval that ends at it


def infected_figures(images: list[AnnotatedImage], detections: list[sv.Detections], labels: LabelSet) -> dict[str, float | None]:
    """Precision, recall and F1 of "this cell is infected", whatever the stage, and the rate of false alarms.

    False alarms are per 1,000 annotated red cells that are healthy. A figure is None where its denominator is 0.
    """
    rates = error_rates(images, detections, labels)
    return {
        "precision": _ratio(rates.found, rates.found + rates.false_alarms),
        "recall": _ratio(rates.found, rates.infected),
        "f1": _ratio(2 * rates.found, rates.found + rates.false_alarms + rates.infected),
        "false_alarms_per_1000_red_cells": _ratio(1000 * rates.false_alarms, rates.healthy),
    }


def error_rates(images: list[AnnotatedImage], detections: list[sv.Detections], labels: LabelSet) -> ErrorRates:
    """Count right and wrong infected detections.

    A detection that is counted as infected is right if it lies on an infected box (IoU 0.5), and left out
    if it lies on an ignore region, or is of a class that was not annotated and on no cell (`unscored`).
    """
    rows = np.zeros((len(images), 4), dtype=np.int64)
    for row, image, detected in zip(rows, images, detections, strict=True):
        truth = image.cells_xyxy[labels.is_infected[image.cell_class_ids]]
        row[0] = len(truth)
        row[2] = labels.is_healthy_red_cell[image.cell_class_ids].sum()
        if len(detected):
            row[1], row[3] = _hits_and_misses(detected[_member(labels.is_infected, detected.data["counted_as"])], truth, image)
    infected, found, healthy, false_alarms = rows.sum(axis=0).tolist()
    misses_vary, alarms_vary = extra_variance(rows[:, 0] - rows[:, 1], rows[:, 0]), extra_variance(rows[:, 3], rows[:, 2])
    return ErrorRates(infected, found, healthy, false_alarms, misses_vary, alarms_vary)


def interval_coverage(
    images: list[AnnotatedImage], detections: list[sv.Detections], labels: LabelSet, errors: Sequence[ErrorRates | None]
) -> dict[str, Any]:
    """How often the 95 % interval of an image's parasitemia holds the annotated one.

    Args:
        images: the truth.
        detections: one entry an image.
        labels: the classes.
        errors: the detector's, one entry an image; `UNMEASURED` where no interval is given.

    Returns:
        ``images`` for which there are both, all red cells being annotated in its data set, ``held`` and their ``share``, None
        without any; the same by data set in ``by_data_set`` where there are several.
    """
    held: dict[str, list[bool]] = {}
    for image, found, known in zip(images, detections, errors, strict=True):
        if (labels.is_infected | labels.is_red_cell)[list(image.unannotated)].any():
            continue
        annotated = count(image.cell_class_ids, labels).parasitemia
        interval = count(counted_ids(found), labels).interval(known)
        if annotated is not None and interval is not None:
            held.setdefault(image.data_set, []).append(interval[0] - ROUNDED <= annotated <= interval[1] + ROUNDED)
    coverage: dict[str, Any] = _coverage([h for part in held.values() for h in part])
    if len({p.data_set for p in images}) > 1:
        coverage["by_data_set"] = {name: _coverage(held.get(name, [])) for name in sorted({p.data_set for p in images})}
    return coverage


def _coverage(held: list[bool]) -> dict[str, float | None]:
    return {"images": len(held), "held": sum(held), "share": _ratio(sum(held), len(held))}


def _hits_and_misses(infected: sv.Detections, truth_xyxy: np.ndarray, image: AnnotatedImage) -> tuple[int, int]:
    infected = infected[np.argsort(-infected.confidence, kind="stable")]
    matched = boxes.match(infected.xyxy, truth_xyxy, MATCH_IOU) >= 0
    return int(matched.sum()), int((~matched & ~unscored(infected, image, counted_ids(infected))).sum())


def cell_matches(images: list[AnnotatedImage], detections: list[sv.Detections]) -> dict[str, float | None]:
    """Precision, recall and F1 of "this is a cell", whatever its class, of the cells that are counted (IoU 0.5).

    They are figures at the operating thresholds, where `AveragePrecision.recall50` is that of all boxes, unsure ones too.
    A figure is None where its denominator is 0.
    """
    annotated = predicted = matched = 0
    for image, found in zip(images, detections, strict=True):
        truth = image.cells_xyxy
        hits, misses = _hits_and_misses(found[counted_ids(found) >= 0], truth, image) if len(found) else (0, 0)
        annotated, predicted, matched = annotated + len(truth), predicted + hits + misses, matched + hits
    return {
        "precision": _ratio(matched, predicted),
        "recall": _ratio(matched, annotated),
        "f1": _ratio(2 * matched, predicted + annotated),
    }


def micro_f1(images: list[AnnotatedImage], detections: list[sv.Detections], labels: LabelSet) -> float | None:
    """F1 over all cells of all classes, each cell having one label, as it is counted (IoU 0.5)."""
    annotated, predicted, matched = _match_counts(images, detections, labels).sum(axis=0).tolist()
    return _ratio(2 * matched, predicted + annotated)


@dataclass(frozen=True)
class ClassMatches:
    """How the cells of one class were found, each cell having the one label that it is counted as (IoU 0.5).

    Attributes:
        label: name of the class.
        annotated: true boxes.
        predicted: detections counted as the class, those that are neither right nor wrong (`unscored`) left out.
        matched: detections of the class on a true box of the class, one each.
        ap50: average precision over all scores.
    """

    label: str
    annotated: int
    predicted: int
    matched: int
    ap50: float | None

    @property
    def recall(self) -> float | None:
        """Matched by annotated."""
        return _ratio(self.matched, self.annotated)

    @property
    def precision(self) -> float | None:
        """Matched by predicted."""
        return _ratio(self.matched, self.predicted)

    @property
    def predicted_by_annotated(self) -> float | None:
        """Predicted count / annotated count, which some notebooks call accuracy; false positives cancel misses."""
        return _ratio(self.predicted, self.annotated)


def class_matches(
    images: list[AnnotatedImage], detections: list[sv.Detections], labels: LabelSet, ap50: list[float | None]
) -> list[ClassMatches]:
    """Annotated, predicted and matched cells of each class; arguments as `detection_metrics`, and the `ap50` of `average_precision`."""
    counts = _match_counts(images, detections, labels)
    rows = zip(labels.names, counts.tolist(), ap50, strict=True)
    return [ClassMatches(name, annotated, predicted, matched, ap) for name, (annotated, predicted, matched), ap in rows]


def _match_counts(images: list[AnnotatedImage], detections: list[sv.Detections], labels: LabelSet) -> np.ndarray:
    """Annotated, predicted and matched cells: int64 (n_labels, 3)."""
    counts = np.zeros((len(labels), 3), dtype=np.int64)
    for image, found in zip(images, detections, strict=True):
        decided = counted_ids(found)
        for class_id in range(len(labels)):
            truth = image.cells_xyxy[image.cell_class_ids == class_id]
            hits, misses = _hits_and_misses(found[decided == class_id], truth, image) if len(found) else (0, 0)
            counts[class_id] += [len(truth), hits + misses, hits]
    return counts


def parasitemia_errors(images: list[AnnotatedImage], detections: list[sv.Detections], labels: LabelSet) -> dict[str, float | None]:
    """Mean absolute error and mean signed error (predicted less annotated) of the parasitemia by image, as fractions.

    Images where the annotation or the detection has no red cell have no parasitemia and are left out.
    """
    errors = []
    for image, found in zip(images, detections, strict=True):
        annotated = count(image.cell_class_ids, labels).parasitemia
        decided = counted_ids(found)
        predicted = count(decided[~is_unknown(found, image, decided)], labels).parasitemia
        if annotated is not None and predicted is not None:
            errors.append(predicted - annotated)
    if not errors:
        return {"mean_absolute_error": None, "bias": None}
    return {"mean_absolute_error": float(np.mean(np.abs(errors))), "bias": float(np.mean(errors))}


def _member(is_member: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    """Whether each class id, -1 for none, is one of the members."""
    return (class_ids >= 0) & is_member[class_ids]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
