"""Error analysis for reports: reliability of scores, confusion matrix, and F1 of each image."""

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation import micro_f1, unscored
from malaria_cells.inference.calibration import Reliability, reliability


def score_reliability(images: list[AnnotatedImage], detections: list[Detections]) -> Reliability:
    """Reliability of the scores of all detections; a detection is right if it matches a true box of its class (IoU 0.5)."""
    scores, right = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for image, detected in zip(images, detections, strict=True):
        detected = detected[~unscored(detected, image, detected.class_id)]
        scores.append(np.asarray(detected.confidence, dtype=np.float64))
        is_right = np.zeros(len(detected), dtype=bool)
        for class_id in np.unique(detected.class_id):
            rows = np.flatnonzero(detected.class_id == class_id)
            rows = rows[np.argsort(-detected.confidence[rows], kind="stable")]
            is_right[rows] = boxes.match(detected.xyxy[rows], image.cells_xyxy[image.cell_class_ids == class_id]) >= 0
        right.append(is_right)
    return reliability(np.concatenate(scores), np.concatenate(right))


def confusion(images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet) -> np.ndarray:
    """Confusion matrix of annotated cells (rows) and counted detections (columns), matched at IoU 0.5: int (n_labels + 1, n_labels + 1).

    The last column holds missed cells, the last row detections of cells that are not annotated.
    """
    import supervision as sv  # slow to import: a second of a detection's start

    counted = []
    for image, detected in zip(images, detections, strict=True):
        detected = detected[~unscored(detected, image, detected.counted_as)]
        detected = detected[detected.counted_as >= 0]
        counted.append(sv.Detections(xyxy=detected.xyxy, confidence=detected.confidence, class_id=detected.counted_as))
    truth = [sv.Detections(xyxy=image.cells_xyxy, class_id=image.cell_class_ids) for image in images]
    names = list(labels.names)
    return sv.ConfusionMatrix.from_detections(counted, truth, names, conf_threshold=0.0, iou_threshold=boxes.MATCH_IOU).matrix.astype(int)


def f1_by_image(images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet) -> np.ndarray:
    """Micro F1 of each image: float (n,); NaN if it has neither annotated cells nor detections."""
    scores = [micro_f1([image], [detected], labels) for image, detected in zip(images, detections, strict=True)]
    return np.array([np.nan if f1 is None else f1 for f1 in scores])
