"""Detections that are neither right nor wrong: on ignore regions, or of classes that were not annotated."""

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.detections import Detections

MIN_IGNORED = 0.5  # fraction of a detection on one ignore region from which it is left out


def unscored(detections: Detections, image: AnnotatedImage, class_ids: np.ndarray) -> np.ndarray:
    """Whether each detection is left out of the evaluation if it matches no true box: bool (n,).

    Args:
        detections: detections of one image.
        image: the annotated image.
        class_ids: int (n,), the class under which each detection is evaluated; -1 for none.
    """
    return on_ignore_region(detections, image) | is_unknown(detections, image, class_ids)


def on_ignore_region(detections: Detections, image: AnnotatedImage) -> np.ndarray:
    """Whether at least half of each detection lies on one ignore region: bool (n,)."""
    inside = boxes.intersection_matrix(detections.xyxy, image.ignored_xyxy).max(axis=1, initial=0)
    return inside >= MIN_IGNORED * boxes.areas(detections.xyxy)


def is_unknown(detections: Detections, image: AnnotatedImage, class_ids: np.ndarray) -> np.ndarray:
    """Whether each detection is of a class that was not annotated in the image and matches no annotated cell (IoU 0.5): bool (n,).

    There may be a cell of that class. A detection on a cell that is annotated with another class is wrong.
    """
    if not image.unannotated or len(detections) == 0:
        return np.zeros(len(detections), dtype=bool)
    on_a_cell = boxes.iou_matrix(detections.xyxy, image.cells_xyxy).max(axis=1, initial=0) >= boxes.MATCH_IOU
    return np.isin(class_ids, image.unannotated) & ~on_a_cell


def without_unknown(images: list[AnnotatedImage], detections: list[Detections]) -> list[Detections]:
    """The detections of each image without those that are `is_unknown` by their main label."""
    return [
        detected[~is_unknown(detected, image, detected.class_id)] if image.unannotated and len(detected) else detected
        for image, detected in zip(images, detections, strict=True)
    ]
