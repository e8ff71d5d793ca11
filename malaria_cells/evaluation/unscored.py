"""Which detections are neither right nor wrong: those on ignore regions, and those of classes that were not annotated."""

import numpy as np
import supervision as sv

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage

MATCH_IOU = 0.5


def unscored(found: sv.Detections, image: AnnotatedImage, class_ids: np.ndarray) -> np.ndarray:
    """Whether each detection, should it be on no cell that is asked for, is neither right nor wrong: bool (n,).

    Args:
        found: of one image.
        image: its truth.
        class_ids: int (n,), the class that each detection is taken as; -1 for none.
    """
    return on_ignore_region(found, image) | is_unknown(found, image, class_ids)


def on_ignore_region(found: sv.Detections, image: AnnotatedImage) -> np.ndarray:
    """Whether half of a detection or more lies on one ignore region: bool (n,)."""
    inside = boxes.intersection_matrix(found.xyxy, image.ignored_xyxy).max(axis=1, initial=0)
    return inside >= MATCH_IOU * boxes.areas(found.xyxy)


def is_unknown(found: sv.Detections, image: AnnotatedImage, class_ids: np.ndarray) -> np.ndarray:
    """Whether each detection is of a class that was not annotated in the image and overlaps no annotated cell by IoU 0.5: bool (n,).

    There may be such a cell. Where a cell is annotated as another, the annotators did look, and the detection is wrong.
    """
    if not image.unannotated or len(found) == 0:
        return np.zeros(len(found), dtype=bool)
    on_a_cell = boxes.iou_matrix(found.xyxy, image.cells_xyxy).max(axis=1, initial=0) >= MATCH_IOU
    return np.isin(class_ids, image.unannotated) & ~on_a_cell


def without_unknown(images: list[AnnotatedImage], detections: list[sv.Detections]) -> list[sv.Detections]:
    """The detections that are not `is_unknown` by their first label; one entry an image."""
    return [
        found[~is_unknown(found, p, np.asarray(found.class_id))] if p.unannotated and len(found) else found
        for p, found in zip(images, detections, strict=True)
    ]
