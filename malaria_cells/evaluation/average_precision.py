"""Average precision by COCO's rules (Lin et al. 2014, arXiv:1405.0312), by faster-coco-eval.

The cap on detections is raised to the fullest image: COCO's own of 100 hides cells, since most thin-smear fields hold
more. Cells that annotators left out count as false positives; that is in the nature of the data and should be said beside
the figures.
"""

from dataclasses import dataclass, replace

import numpy as np
import supervision as sv
from faster_coco_eval import COCO, COCOeval_faster

from malaria_cells.data import coco_rows
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.labels import IGNORED, LabelSet
from malaria_cells.evaluation.unscored import without_unknown


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's figures; an entry is None where a class has no true box.

    Attributes:
        ap: mean over IoU 0.5 to 0.95, by class.
        ap50: at IoU 0.5, by class.
        ap75: at IoU 0.75, by class.
        recall50: fraction of the true boxes found at IoU 0.5, at any score, by class.
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


def average_precision(images: list[AnnotatedImage], detections: list[sv.Detections], labels: LabelSet) -> AveragePrecision:
    """COCO's average precision of each class; an image in which a class was not annotated is left out of that class's.

    Args:
        images: the truth.
        detections: one entry an image, in the same order; ranked under every label for which they have ``data["label_scores"]``.
        labels: what the class ids of both refer to.
    """
    n = [int(c) for c in sum((np.bincount(p.cell_class_ids, minlength=len(labels)) for p in images), np.zeros(len(labels)))]
    rows = coco_rows.results(without_unknown(images, detections))
    results = [r for r in rows if r["category_id"] - 1 not in images[r["image_id"] - 1].unannotated]
    if not results or not sum(n):
        nothing = [0.0 if c else None for c in n]
        return AveragePrecision(nothing, nothing, nothing, nothing, n, np.zeros((len(n), 101)))
    truth = COCO(coco_rows.truth(images, labels), print_function=_silent)
    # loadRes writes into what it is given and expects only these keys.
    predicted = truth.loadRes([{k: r[k] for k in ("image_id", "category_id", "bbox", "score")} for r in results])
    evaluation = COCOeval_faster(truth, predicted, iouType="bbox", print_function=_silent)
    fullest = max(max(len(d) for d in detections), max(len(p.boxes_xyxy) for p in images), 100)
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


def cell_figures(images: list[AnnotatedImage], detections: list[sv.Detections], labels: LabelSet) -> AveragePrecision:
    """Average precision of cells, whatever their class."""
    return as_one_class(images, detections, np.ones(len(labels), dtype=bool))


def as_one_class(images: list[AnnotatedImage], detections: list[sv.Detections], members: np.ndarray) -> AveragePrecision:
    """Average precision with the member classes, bool (n_labels,), taken as one, and all else left out; each cell by its first label."""
    one = LabelSet(("cell",))
    merged = []
    for p in images:
        kept = p.ignore | members[p.class_ids]
        ids = np.where(p.ignore[kept], IGNORED, 0)
        merged.append(replace(p, boxes_xyxy=p.boxes_xyxy[kept], class_ids=ids, ignore=p.ignore[kept], unannotated=()))
    found = [d[members[d.class_id]] if len(d) else d for d in without_unknown(images, detections)]
    return average_precision(merged, [_with_class(d, 0) for d in found], one)


def _with_class(detections: sv.Detections, class_id: int) -> sv.Detections:
    return sv.Detections(xyxy=detections.xyxy, confidence=detections.confidence, class_id=np.full(len(detections), class_id))
