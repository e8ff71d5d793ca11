"""Figures of a detection against full-image boxes, and of a classification against true classes.

Average precision is COCO's (Lin et al. 2014, arXiv:1405.0312) by faster-coco-eval, with the cap on detections raised to
the fullest picture: COCO's own cap of 100 hides cells, since most thin-smear fields hold more. Cells that annotators left
out count as false positives; that is in the nature of the data and should be said beside the figures.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import supervision as sv
from faster_coco_eval import COCO, COCOeval_faster
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from malaria_cells import boxes, coco
from malaria_cells.annotations import Picture
from malaria_cells.counting import ErrorRates, count, counted_ids
from malaria_cells.labels import IGNORED, LabelSet

MATCH_IOU = 0.5


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's figures; an entry is None where a class has no true box.

    Attributes:
        ap: mean over IoU 0.5 to 0.95, by class.
        ap50: at IoU 0.5, by class.
        ap75: at IoU 0.75, by class.
        recall50: share of the true boxes found at IoU 0.5, at any score, by class.
        n: true boxes, by class; ignore regions are not counted.
        curve50: precision at IoU 0.5 and each of COCO's 101 recalls, 0 to 1, by class: float (n_classes, 101); what no
            detection reaches has precision 0.
    """

    ap: list[float | None]
    ap50: list[float | None]
    ap75: list[float | None]
    recall50: list[float | None]
    n: list[int]
    curve50: np.ndarray


def average_precision(pictures: list[Picture], detections: list[sv.Detections], labels: LabelSet) -> AveragePrecision:
    """COCO's average precision of each class.

    Args:
        pictures: the truth.
        detections: one entry a picture, in the same order.
        labels: what the class ids of both refer to.
    """
    n = [int(c) for c in sum((np.bincount(p.cell_class_ids, minlength=len(labels)) for p in pictures), np.zeros(len(labels)))]
    results = coco.results(detections)
    if not results or not sum(n):
        nothing = [0.0 if c else None for c in n]
        return AveragePrecision(nothing, nothing, nothing, nothing, n, np.zeros((len(n), 101)))
    truth = COCO(coco.truth(pictures, labels), print_function=_silent)
    # loadRes writes into what it is given and expects only these keys.
    predicted = truth.loadRes([{k: r[k] for k in ("image_id", "category_id", "bbox", "score")} for r in results])
    evaluation = COCOeval_faster(truth, predicted, iouType="bbox", print_function=_silent)
    fullest = max(max(len(d) for d in detections), max(len(p.boxes_xyxy) for p in pictures), 100)
    evaluation.params.maxDets = [1, 10, fullest]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, -1]  # (iou, recall, class), all areas, highest cap
    recall = evaluation.eval["recall"][..., 0, -1]  # (iou, class)
    return AveragePrecision(
        _by_class(precision.mean(axis=(0, 1)), n),
        _by_class(precision[0].mean(axis=0), n),
        _by_class(precision[5].mean(axis=0), n),
        _by_class(recall[0], n),
        n,
        np.maximum(precision[0].T, 0),
    )


def _silent(*_: object) -> None:
    """faster-coco-eval prints what it does."""


def _by_class(values: np.ndarray, n: list[int]) -> list[float | None]:
    return [float(v) if c else None for v, c in zip(values, n, strict=True)]


def mean_present(values: list[float | None]) -> float | None:
    """Mean of the entries that are not None; None if none is."""
    present = [v for v in values if v is not None]
    return float(np.mean(present)) if present else None


@dataclass(frozen=True)
class Score:
    """What a detection is worth.

    Attributes:
        metrics: the content of ``metrics.json``.
        by_class: average precision of each class, curves included.
    """

    metrics: dict[str, Any]
    by_class: AveragePrecision


def detection_metrics(
    pictures: list[Picture], detections: list[sv.Detections], labels: LabelSet, seconds_per_image: float | None
) -> dict[str, Any]:
    """What detections are worth by annotated pictures: the content of ``metrics.json``.

    Args:
        pictures: the truth.
        detections: one entry a picture, in the same order, with ``data["counted_as"]`` (see `CellDetector.detect`).
        labels: the classes.
        seconds_per_image: as measured, or None.

    Examples:
        >>> from pathlib import Path
        >>> box, ids = np.array([[10, 10, 50, 50]], dtype=np.float32), np.array([0])
        >>> truth = Picture("a.png", Path("a.png"), (100, 80), "a.png", box, ids, np.array([False]))
        >>> found = sv.Detections(xyxy=box + 2, class_id=ids, confidence=np.array([0.9]), data={"counted_as": ids})
        >>> detection_metrics([truth], [found], LabelSet(("cell",)), None)["mAP50"]
        1.0
    """
    return score(pictures, detections, labels, seconds_per_image).metrics


def score(pictures: list[Picture], detections: list[sv.Detections], labels: LabelSet, seconds_per_image: float | None) -> Score:
    """Score a detection.

    Args:
        pictures: the truth.
        detections: one entry a picture, in the same order, with ``data["counted_as"]`` (see `TwoStageDetector.detect`).
        labels: the classes.
        seconds_per_image: as measured, or None.
    """
    by_class = average_precision(pictures, detections, labels)
    cell = cell_figures(pictures, detections, labels)
    metrics: dict[str, Any] = {
        "images": len(pictures),
        "seconds_per_image": seconds_per_image,
        "mAP": mean_present(by_class.ap),
        "mAP50": mean_present(by_class.ap50),
        "mAP75": mean_present(by_class.ap75),
        "per_class": {name: {"AP": by_class.ap[i], "AP50": by_class.ap50[i], "n": by_class.n[i]} for i, name in enumerate(labels.names)},
        "cell": {"AP50": cell.ap50[0], "recall50": cell.recall50[0]},
        "micro_f1": micro_f1(pictures, detections, labels),
    }
    if labels.is_infected.any():
        ap50 = _as_one_class(pictures, detections, labels.is_infected).ap50[0]
        metrics["infected"] = infected_figures(pictures, detections, labels) | {"AP50": ap50}
        metrics["parasitemia"] = parasitemia_errors(pictures, detections, labels)
    return Score(metrics, by_class)


def cell_figures(pictures: list[Picture], detections: list[sv.Detections], labels: LabelSet) -> AveragePrecision:
    """Average precision of cells, whatever their class."""
    return _as_one_class(pictures, detections, np.ones(len(labels), dtype=bool))


def _as_one_class(pictures: list[Picture], detections: list[sv.Detections], members: np.ndarray) -> AveragePrecision:
    """Average precision with the member classes taken as one, and all else left out."""
    one = LabelSet(("cell",))
    merged = []
    for p in pictures:
        kept = p.ignore | members[p.class_ids]
        ids = np.where(p.ignore[kept], IGNORED, 0)
        merged.append(replace(p, boxes_xyxy=p.boxes_xyxy[kept], class_ids=ids, ignore=p.ignore[kept]))
    found = [d[members[d.class_id]] if len(d) else d for d in detections]
    return average_precision(merged, [_with_class(d, 0) for d in found], one)


def _with_class(detections: sv.Detections, class_id: int) -> sv.Detections:
    return sv.Detections(xyxy=detections.xyxy, confidence=detections.confidence, class_id=np.full(len(detections), class_id))


def infected_figures(pictures: list[Picture], detections: list[sv.Detections], labels: LabelSet) -> dict[str, float | None]:
    """Precision, recall and F1 of "this cell is infected", whatever the stage, and the rate of false alarms.

    False alarms are per 1,000 annotated red cells that are healthy. A figure is None where its denominator is 0.
    """
    rates = error_rates(pictures, detections, labels)
    return {
        "precision": _ratio(rates.found, rates.found + rates.false_alarms),
        "recall": _ratio(rates.found, rates.infected),
        "f1": _ratio(2 * rates.found, rates.found + rates.false_alarms + rates.infected),
        "false_alarms_per_1000_red_cells": _ratio(1000 * rates.false_alarms, rates.healthy),
    }


def error_rates(pictures: list[Picture], detections: list[sv.Detections], labels: LabelSet) -> ErrorRates:
    """Count right and wrong findings.

    A finding is a detection that is counted as infected; it is right if it lies on an infected box (IoU 0.5), and left out
    if it lies on an ignore region.
    """
    found = false_alarms = infected = healthy = 0
    for picture, detected in zip(pictures, detections, strict=True):
        truth = picture.cells_xyxy[labels.is_infected[picture.cell_class_ids]]
        infected += len(truth)
        healthy += int((labels.is_red_cell & ~labels.is_infected)[picture.cell_class_ids].sum())
        if len(detected) == 0:
            continue
        findings = detected[_member(labels.is_infected, detected.data["counted_as"])]
        hits, misses = _hits_and_misses(findings, truth, picture)
        found, false_alarms = found + hits, false_alarms + misses
    return ErrorRates(infected, found, healthy, false_alarms)


def _hits_and_misses(findings: sv.Detections, truth_xyxy: np.ndarray, picture: Picture) -> tuple[int, int]:
    findings = findings[np.argsort(-findings.confidence, kind="stable")]
    matched = boxes.match(findings.xyxy, truth_xyxy, MATCH_IOU) >= 0
    return int(matched.sum()), int((~matched & ~on_ignore_region(findings, picture)).sum())


def on_ignore_region(found: sv.Detections, picture: Picture) -> np.ndarray:
    """Whether half of a detection or more lies on one ignore region: bool (n,)."""
    inside = boxes.intersection_matrix(found.xyxy, picture.ignored_xyxy).max(axis=1, initial=0)
    return inside >= MATCH_IOU * boxes.areas(found.xyxy)


def micro_f1(pictures: list[Picture], detections: list[sv.Detections], labels: LabelSet) -> float | None:
    """F1 over all cells of all classes, each cell having one label, as it is counted (IoU 0.5)."""
    annotated, predicted, matched = _match_counts(pictures, detections, labels).sum(axis=0).tolist()
    return _ratio(2 * matched, predicted + annotated)


@dataclass(frozen=True)
class ClassMatches:
    """How the cells of one class were found, each cell having the one label that it is counted as (IoU 0.5).

    Attributes:
        label: name of the class.
        annotated: true boxes.
        predicted: detections counted as the class, those on ignore regions left out.
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
        """What some notebooks print as accuracy: counts alone, of which wrong cells can make up for missed ones."""
        return _ratio(self.predicted, self.annotated)


def class_matches(
    pictures: list[Picture], detections: list[sv.Detections], labels: LabelSet, ap50: list[float | None]
) -> list[ClassMatches]:
    """Annotated, predicted and matched cells of each class; arguments as `detection_metrics`, and the `ap50` of `average_precision`."""
    counts = _match_counts(pictures, detections, labels)
    rows = zip(labels.names, counts.tolist(), ap50, strict=True)
    return [ClassMatches(name, annotated, predicted, matched, ap) for name, (annotated, predicted, matched), ap in rows]


def _match_counts(pictures: list[Picture], detections: list[sv.Detections], labels: LabelSet) -> np.ndarray:
    """Annotated, predicted and matched cells: int64 (n_labels, 3)."""
    counts = np.zeros((len(labels), 3), dtype=np.int64)
    for picture, found in zip(pictures, detections, strict=True):
        decided = counted_ids(found)
        for class_id in range(len(labels)):
            truth = picture.cells_xyxy[picture.cell_class_ids == class_id]
            hits, misses = _hits_and_misses(found[decided == class_id], truth, picture) if len(found) else (0, 0)
            counts[class_id] += [len(truth), hits + misses, hits]
    return counts


def parasitemia_errors(pictures: list[Picture], detections: list[sv.Detections], labels: LabelSet) -> dict[str, float | None]:
    """Mean absolute error and mean signed error (predicted less annotated) of the parasitemia by picture, as fractions.

    Pictures where the annotation or the detection has no red cell have no parasitemia and are left out.
    """
    errors = []
    for picture, found in zip(pictures, detections, strict=True):
        annotated = count(picture.cell_class_ids, labels).parasitemia
        decided = counted_ids(found)
        predicted = count(decided, labels).parasitemia
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


def classification_metrics(class_ids: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy, micro and macro F1, and each class's precision, recall, F1.

    Args:
        class_ids: int (n,), true classes.
        probabilities: (n, n_classes).
        names: of the classes.

    Returns:
        JSON-ready; a class's recall is its accuracy; ``roc_auc`` is there where both of two classes occur; classes that do not
        occur in the truth have None and do not count in the macro mean.
    """
    predicted = probabilities.argmax(axis=1)
    all_ids = list(range(len(names)))
    precision, recall, f1, support = precision_recall_fscore_support(class_ids, predicted, labels=all_ids, zero_division=0)
    per_class = {
        name: {
            "precision": float(precision[i]) if support[i] else None,
            "recall": float(recall[i]) if support[i] else None,
            "f1": float(f1[i]) if support[i] else None,
            "n": int(support[i]),
        }
        for i, name in enumerate(names)
    }
    accuracy = float((predicted == class_ids).mean()) if len(class_ids) else None
    return {
        "patches": len(class_ids),
        "accuracy": accuracy,
        "micro_f1": accuracy,  # with one label a patch, micro F1, precision and recall are the accuracy
        "macro_f1": mean_present([c["f1"] for c in per_class.values()]),
        "balanced_accuracy": mean_present([c["recall"] for c in per_class.values()]),
        "roc_auc": _roc_auc(class_ids, probabilities),
        "per_class": per_class,
        "confusion": confusion_matrix(class_ids, predicted, labels=all_ids).tolist(),
    }


def _roc_auc(class_ids: np.ndarray, probabilities: np.ndarray) -> float | None:
    if probabilities.shape[1] != 2 or len(np.unique(class_ids)) < 2:
        return None
    return float(roc_auc_score(class_ids, probabilities[:, 1]))
