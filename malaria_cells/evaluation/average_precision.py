"""COCO's average precision (Lin et al. 2014, arXiv:1405.0312), computed by faster-coco-eval.

The maximum number of detections per image is raised from COCO's 100, which most thin-smear fields exceed, to the largest number in any
image. Cells that annotators left out count as false positives, which should be mentioned beside the figures.
"""

from dataclasses import dataclass, replace

import numpy as np

from malaria_cells.data import coco_rows
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import IGNORED, LabelSet
from malaria_cells.evaluation.unscored import without_unknown


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's metrics by class; an entry is None if the class has no true box.

    Attributes:
        ap: average precision, mean over IoU 0.5 to 0.95.
        ap50: average precision at IoU 0.5.
        ap75: average precision at IoU 0.75.
        recall50: fraction of the true boxes that are matched at IoU 0.5, over all scores.
        n: number of true boxes, without ignore regions.
        curve50: precision at IoU 0.5 and each of COCO's 101 recall thresholds, 0 to 1: float (n_classes, 101); 0 at recalls that are not
            reached.
    """

    ap: list[float | None]
    ap50: list[float | None]
    ap75: list[float | None]
    recall50: list[float | None]
    n: list[int]
    curve50: np.ndarray


def average_precision(images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet) -> AveragePrecision:
    """COCO's average precision of each class. A class is not evaluated in images in which it was not annotated.

    Args:
        images: annotated images.
        detections: detections of each image, in the same order; with `label_scores` they are ranked under several labels.
        labels: the classes of both.
    """
    from faster_coco_eval import COCO, COCOeval_faster  # slow to import, and a detection without annotation scores nothing

    n = [int(c) for c in sum((np.bincount(image.cell_class_ids, minlength=len(labels)) for image in images), np.zeros(len(labels)))]
    rows = coco_rows.results(without_unknown(images, detections))
    results = [r for r in rows if r["category_id"] - 1 not in images[r["image_id"] - 1].unannotated]
    if not results or not sum(n):
        zeros = [0.0 if c else None for c in n]
        return AveragePrecision(zeros, zeros, zeros, zeros, n, np.zeros((len(n), 101)))
    truth = COCO(coco_rows.truth(images, labels), print_function=_silent)
    # loadRes modifies its argument and expects only these keys.
    predicted = truth.loadRes([{k: r[k] for k in ("image_id", "category_id", "bbox", "score")} for r in results])
    evaluation = COCOeval_faster(truth, predicted, iouType="bbox", print_function=_silent)
    max_detections = max(max(len(d) for d in detections), max(len(image.boxes_xyxy) for image in images), 100)
    evaluation.params.maxDets = [1, 10, max_detections]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, -1]  # (iou, recall, class) for all areas and the largest of maxDets
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
    """Replaces the print function of faster-coco-eval."""


def _by_class(values: np.ndarray, n: list[int]) -> list[float | None]:
    return [float(v) if c else None for v, c in zip(values, n, strict=True)]


def mean_present(values: list[float | None]) -> float | None:
    """Mean of the entries that are not None; None if there are none."""
    present = [v for v in values if v is not None]
    return float(np.mean(present)) if present else None


def cell_figures(images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet) -> AveragePrecision:
    """Class-agnostic average precision: all cells are one class."""
    return as_one_class(images, detections, np.ones(len(labels), dtype=bool))


def as_one_class(images: list[AnnotatedImage], detections: list[Detections], members: np.ndarray) -> AveragePrecision:
    """Average precision of several classes merged into one; cells of other classes are left out.

    Args:
        images: annotated images.
        detections: detections of each image, in the same order; only their main label is evaluated.
        members: whether each class is merged, bool (n_labels,).
    """
    one = LabelSet(("cell",))
    merged = []
    for image in images:
        keep = image.ignore | members[image.class_ids]
        ids = np.where(image.ignore[keep], IGNORED, 0)
        merged.append(replace(image, boxes_xyxy=image.boxes_xyxy[keep], class_ids=ids, ignore=image.ignore[keep], unannotated=()))
    of_members = [d[members[d.class_id]] for d in without_unknown(images, detections)]
    cells = [Detections.from_boxes(d.xyxy, np.zeros(len(d)), d.confidence) for d in of_members]
    return average_precision(merged, cells, one)
