"""Metrics from detections matched to annotated cells at IoU 0.5: by class, as infected, as any cell, and of the parasitemia."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation.unscored import is_unknown, unscored
from malaria_cells.inference.counting import count
from malaria_cells.inference.error_rates import ErrorRates, extra_variance

ROUNDING_ERROR = 1e-9  # tolerance for a fraction that equals a limit of an interval


@dataclass(frozen=True)
class MatchFigures:
    """Precision, recall and F1 of detections matched to annotated cells; None if the denominator is 0."""

    precision: float | None
    recall: float | None
    f1: float | None

    @classmethod
    def of(cls, annotated: int, predicted: int, matched: int, **further: float | None) -> Self:
        """The figures for numbers of annotated, predicted and matched cells."""
        return cls(_ratio(matched, predicted), _ratio(matched, annotated), _ratio(2 * matched, predicted + annotated), **further)


@dataclass(frozen=True)
class InfectedFigures(MatchFigures):
    """Figures of infected cells, and false alarms per 1,000 annotated healthy red cells."""

    false_alarms_per_1000_red_cells: float | None = None


@dataclass(frozen=True)
class ParasitemiaErrors:
    """Mean absolute and mean signed error (predicted - annotated) of the parasitemia of an image, as fractions; None without images."""

    mean_absolute_error: float | None
    bias: float | None


def infected_figures(images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet) -> InfectedFigures:
    """Precision, recall and F1 of infected cells, whatever the stage, and false alarms per 1,000 annotated healthy red cells."""
    rates = error_rates(images, detections, labels)
    alarms = _ratio(1000 * rates.false_alarms, rates.healthy)
    return InfectedFigures.of(rates.infected, rates.detected + rates.false_alarms, rates.detected, false_alarms_per_1000_red_cells=alarms)


def error_rates(images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet) -> ErrorRates:
    """Count the true and false positives among the detections that are counted as infected.

    A detection is a true positive if it matches an infected box (IoU 0.5). It is left out if it lies on an ignore region, or if its class
    was not annotated and it lies on no cell (`unscored`).
    """
    rows = np.zeros((len(images), 4), dtype=np.int64)  # infected cells, true positives, healthy cells and false positives of each image
    for row, image, detected in zip(rows, images, detections, strict=True):
        truth = image.cells_xyxy[labels.is_infected[image.cell_class_ids]]
        row[0] = len(truth)
        row[2] = labels.is_healthy_red_cell[image.cell_class_ids].sum()
        row[1], row[3] = _true_and_false_positives(detected[_member(labels.is_infected, detected.counted_as)], truth, image)
    infected, true_positives, healthy, false_positives = rows.sum(axis=0).tolist()
    misses_vary, alarms_vary = extra_variance(rows[:, 0] - rows[:, 1], rows[:, 0]), extra_variance(rows[:, 3], rows[:, 2])
    return ErrorRates(infected, true_positives, healthy, false_positives, misses_vary, alarms_vary)


def interval_coverage(
    images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet, errors: Sequence[ErrorRates | None]
) -> dict[str, Any]:
    """Coverage of the 95 % intervals: how often an image's interval contains the annotated parasitemia.

    Args:
        images: annotated images.
        detections: detections of each image, in the same order.
        labels: the classes.
        errors: error rates of the detector on each image; `UNMEASURED` for images without an interval.

    Returns:
        ``images``, the number of images with an interval and an annotated parasitemia, in whose data set all red cells are annotated;
        ``held``, the number whose interval contains it, and ``share``, the fraction, None without images. The same for each data set in
        ``by_data_set`` if there are several.
    """
    held: dict[str, list[bool]] = {}
    for image, detected, rates in zip(images, detections, errors, strict=True):
        if (labels.is_infected | labels.is_red_cell)[list(image.unannotated)].any():
            continue
        annotated = count(image.cell_class_ids, labels).parasitemia
        interval = count(detected.counted_as, labels).interval(rates)
        if annotated is not None and interval is not None:
            held.setdefault(image.data_set, []).append(interval[0] - ROUNDING_ERROR <= annotated <= interval[1] + ROUNDING_ERROR)
    coverage: dict[str, Any] = _coverage([h for part in held.values() for h in part])
    if len({image.data_set for image in images}) > 1:
        coverage["by_data_set"] = {name: _coverage(held.get(name, [])) for name in sorted({image.data_set for image in images})}
    return coverage


def _coverage(held: list[bool]) -> dict[str, float | None]:
    return {"images": len(held), "held": sum(held), "share": _ratio(sum(held), len(held))}


def _true_and_false_positives(detected: Detections, truth_xyxy: np.ndarray, image: AnnotatedImage) -> tuple[int, int]:
    """Numbers of detections that match a true box, and of those that do not and are not `unscored`."""
    detected = detected[np.argsort(-detected.confidence, kind="stable")]
    matched = boxes.match(detected.xyxy, truth_xyxy) >= 0
    return int(matched.sum()), int((~matched & ~unscored(detected, image, detected.counted_as)).sum())


def cell_matches(images: list[AnnotatedImage], detections: list[Detections]) -> MatchFigures:
    """Class-agnostic precision, recall and F1 of the counted cells (IoU 0.5).

    They are measured at the operating thresholds; `AveragePrecision.recall50` is over all scores.
    """
    annotated = predicted = matched = 0
    for image, detected in zip(images, detections, strict=True):
        truth = image.cells_xyxy
        right, wrong = _true_and_false_positives(detected[detected.counted_as >= 0], truth, image)
        annotated, predicted, matched = annotated + len(truth), predicted + right + wrong, matched + right
    return MatchFigures.of(annotated, predicted, matched)


def micro_f1(images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet) -> float | None:
    """Micro-averaged F1 over all classes; each cell has the one label that it is counted as (IoU 0.5)."""
    annotated, predicted, matched = _match_counts(images, detections, labels).sum(axis=0).tolist()
    return _ratio(2 * matched, predicted + annotated)


@dataclass(frozen=True)
class ClassMatches:
    """Numbers of annotated, predicted and matched cells of one class; each cell has the one label that it is counted as (IoU 0.5).

    Attributes:
        label: name of the class.
        annotated: number of true boxes.
        predicted: number of detections counted as the class, without those that are `unscored`.
        matched: number of detections counted as the class that match a true box of the class (true positives).
        ap50: average precision at IoU 0.5, over all scores.
    """

    label: str
    annotated: int
    predicted: int
    matched: int
    ap50: float | None

    @property
    def recall(self) -> float | None:
        """Matched / annotated."""
        return _ratio(self.matched, self.annotated)

    @property
    def precision(self) -> float | None:
        """Matched / predicted."""
        return _ratio(self.matched, self.predicted)

    @property
    def predicted_by_annotated(self) -> float | None:
        """Predicted count / annotated count, which some notebooks call accuracy; false positives cancel misses."""
        return _ratio(self.predicted, self.annotated)


def class_matches(
    images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet, ap50: list[float | None]
) -> list[ClassMatches]:
    """Matches of each class; arguments as in `detection_metrics`, and the `ap50` of `average_precision`."""
    counts = _match_counts(images, detections, labels)
    rows = zip(labels.names, counts.tolist(), ap50, strict=True)
    return [ClassMatches(name, annotated, predicted, matched, ap) for name, (annotated, predicted, matched), ap in rows]


def _match_counts(images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet) -> np.ndarray:
    """Numbers of annotated, predicted and matched cells of each label: int64 (n_labels, 3)."""
    counts = np.zeros((len(labels), 3), dtype=np.int64)
    for image, detected in zip(images, detections, strict=True):
        class_ids = detected.counted_as
        for class_id in range(len(labels)):
            truth = image.cells_xyxy[image.cell_class_ids == class_id]
            right, wrong = _true_and_false_positives(detected[class_ids == class_id], truth, image)
            counts[class_id] += [len(truth), right + wrong, right]
    return counts


def parasitemia_errors(images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet) -> ParasitemiaErrors:
    """Errors of the parasitemia of an image. Images without annotated or without detected red cells are left out."""
    errors = []
    for image, detected in zip(images, detections, strict=True):
        annotated = count(image.cell_class_ids, labels).parasitemia
        class_ids = detected.counted_as
        predicted = count(class_ids[~is_unknown(detected, image, class_ids)], labels).parasitemia
        if annotated is not None and predicted is not None:
            errors.append(predicted - annotated)
    return ParasitemiaErrors(float(np.mean(np.abs(errors))), float(np.mean(errors))) if errors else ParasitemiaErrors(None, None)


def _member(is_member: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    """Whether each class id is a member; -1 is not."""
    return (class_ids >= 0) & is_member[class_ids]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
