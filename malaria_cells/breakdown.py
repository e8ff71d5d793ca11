"""Where a detection is right and wrong: class against class, by score, by picture. For reports; figures are in `evaluation`."""

from dataclasses import dataclass

import numpy as np
import supervision as sv

from malaria_cells import boxes
from malaria_cells.annotations import Picture
from malaria_cells.evaluation import MATCH_IOU, micro_f1
from malaria_cells.labels import LabelSet

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """How often predictions of about the same probability were right.

    Attributes:
        predicted: mean probability of each bin, float (b,); empty bins are left out.
        right: share that was right, float (b,).
        n: predictions of each bin, int (b,).
    """

    predicted: np.ndarray
    right: np.ndarray
    n: np.ndarray


def reliability(probabilities: np.ndarray, right: np.ndarray) -> Reliability:
    """The points of a reliability diagram (DeGroot and Fienberg 1983, The Statistician 32(1/2)).

    Args:
        probabilities: of each prediction, float (n,), 0 to 1.
        right: bool (n,).

    >>> found = reliability(np.array([0.05, 0.05, 0.95, 0.95]), np.array([False, False, True, False]))
    >>> found.right.tolist(), found.n.tolist()
    ([0.0, 0.5], [2, 2])
    """
    which = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    n = np.bincount(which, minlength=BINS)
    shown = n > 0
    total, hits = (np.bincount(which, weights=values, minlength=BINS)[shown] for values in (probabilities, right.astype(float)))
    return Reliability(total / n[shown], hits / n[shown], n[shown])


def score_reliability(pictures: list[Picture], detections: list[sv.Detections]) -> Reliability:
    """Of the scores of all detections: one is right if it is on a free true box of its class (IoU 0.5)."""
    scores, right = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for picture, found in zip(pictures, detections, strict=True):
        found = _off_ignore_regions(found, picture)
        if not len(found):
            continue
        scores.append(np.asarray(found.confidence, dtype=np.float64))
        hit = np.zeros(len(found), dtype=bool)
        for class_id in np.unique(found.class_id):
            own = np.flatnonzero(found.class_id == class_id)
            own = own[np.argsort(-found.confidence[own], kind="stable")]
            hit[own] = boxes.match(found.xyxy[own], picture.cells_xyxy[picture.cell_class_ids == class_id]) >= 0
        right.append(hit)
    return reliability(np.concatenate(scores), np.concatenate(right))


def confusion(pictures: list[Picture], detections: list[sv.Detections], labels: LabelSet) -> np.ndarray:
    """Annotated cells against counted ones, matched by IoU 0.5: int (n_labels + 1, n_labels + 1), rows annotated.

    The last column holds annotated cells that were not found, the last row counted ones that are not annotated.
    """
    counted = []
    for picture, found in zip(pictures, detections, strict=True):
        found = _off_ignore_regions(found, picture)
        ids = np.asarray(found.data["counted_as"], dtype=np.int64) if len(found) else np.zeros(0, dtype=np.int64)
        keep = ids >= 0
        confidence = found.confidence[keep] if len(found) else np.zeros(0)
        counted.append(sv.Detections(xyxy=found.xyxy[keep], class_id=ids[keep], confidence=confidence))
    truth = [sv.Detections(xyxy=p.cells_xyxy, class_id=p.cell_class_ids) for p in pictures]
    names = list(labels.names)
    return sv.ConfusionMatrix.from_detections(counted, truth, names, conf_threshold=0.0, iou_threshold=MATCH_IOU).matrix.astype(int)


def f1_by_picture(pictures: list[Picture], detections: list[sv.Detections], labels: LabelSet) -> np.ndarray:
    """Micro F1 of each picture: float (n,); NaN where nothing is annotated and nothing was found."""
    figures = [micro_f1([p], [found], labels) for p, found in zip(pictures, detections, strict=True)]
    return np.array([np.nan if f is None else f for f in figures])


def _off_ignore_regions(found: sv.Detections, picture: Picture) -> sv.Detections:
    if not len(found):
        return found
    inside = boxes.intersection_matrix(found.xyxy, picture.ignored_xyxy).max(axis=1, initial=0)
    return found[inside < MATCH_IOU * boxes.areas(found.xyxy)]
