"""Where a detection is right and wrong: class against class, by score, by image. For reports; figures are in `evaluation`."""

import numpy as np
import supervision as sv

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation import MATCH_IOU, micro_f1, unscored
from malaria_cells.inference.calibration import Reliability, reliability
from malaria_cells.inference.counting import counted_ids


def score_reliability(images: list[AnnotatedImage], detections: list[sv.Detections]) -> Reliability:
    """Of the scores of all detections: one is right if it is on a free true box of its class (IoU 0.5)."""
    scores, right = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for image, found in zip(images, detections, strict=True):
        found = found[~unscored(found, image, np.asarray(found.class_id))]
        scores.append(np.asarray(found.confidence, dtype=np.float64))
        hit = np.zeros(len(found), dtype=bool)
        for class_id in np.unique(found.class_id):
            own = np.flatnonzero(found.class_id == class_id)
            own = own[np.argsort(-found.confidence[own], kind="stable")]
            hit[own] = boxes.match(found.xyxy[own], image.cells_xyxy[image.cell_class_ids == class_id]) >= 0
        right.append(hit)
    return reliability(np.concatenate(scores), np.concatenate(right))


def confusion(images: list[AnnotatedImage], detections: list[sv.Detections], labels: LabelSet) -> np.ndarray:
    """Annotated cells against counted ones, matched by IoU 0.5: int (n_labels + 1, n_labels + 1), rows annotated.

    The last column holds annotated cells that were not found, the last row counted ones that are not annotated.
    """
    counted = []
    for image, found in zip(images, detections, strict=True):
        found = found[~unscored(found, image, counted_ids(found))]
        ids = counted_ids(found)
        found.class_id = ids
        counted.append(found[ids >= 0])
    truth = [sv.Detections(xyxy=p.cells_xyxy, class_id=p.cell_class_ids) for p in images]
    names = list(labels.names)
    return sv.ConfusionMatrix.from_detections(counted, truth, names, conf_threshold=0.0, iou_threshold=MATCH_IOU).matrix.astype(int)


def f1_by_image(images: list[AnnotatedImage], detections: list[sv.Detections], labels: LabelSet) -> np.ndarray:
    """Micro F1 of each image: float (n,); NaN where nothing is annotated and nothing was found."""
    figures = [micro_f1([p], [found], labels) for p, found in zip(images, detections, strict=True)]
    return np.array([np.nan if f is None else f for f in figures])
