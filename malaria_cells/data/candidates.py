"""Labels proposals by the annotated cells they overlap, so that a classifier is trained on the boxes it receives at inference."""

from dataclasses import dataclass

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage

# IoU below which a proposal is background; between the two thresholds it is ambiguous and left out.
BACKGROUND_IOU = 0.3
# Proposal score from which a proposal without an annotated cell is probably a cell that the annotators missed.
MAX_BACKGROUND_SCORE = 0.5
CUT_OFF_PIXELS = 2  # pixels: a box this near to the image's edge is cut off, and annotators leave such cells out on purpose


@dataclass(frozen=True)
class Candidates:
    """Labelled candidate boxes of one image.

    Attributes:
        boxes_xyxy: float32 (n, 4), pixels.
        class_ids: int64 (n,), an index into the labels, the background class after them, or a set of classes (see `partial_labels`).
    """

    boxes_xyxy: np.ndarray
    class_ids: np.ndarray


def label_candidates(
    image: AnnotatedImage, proposals_xyxy: np.ndarray, proposal_scores: np.ndarray, background_class_id: int
) -> Candidates:
    """Label proposals with the class of the annotated cell they overlap, or as background; leave ambiguous ones out.

    Ambiguous are proposals whose IoU with a cell is between `BACKGROUND_IOU` and `boxes.MATCH_IOU`, proposals of which half or more lies in
    an ignore region, and confident proposals without a cell away from the image's edge, which may be cells that annotators missed.

    Args:
        image: the annotated image.
        proposals_xyxy: float32 (n, 4), proposals in pixels.
        proposal_scores: float32 (n,), 0 to 1.
        background_class_id: class id of proposals without a cell: the background class, or the set from `partial_labels.background_id`.
    """
    ious = boxes.iou_matrix(proposals_xyxy, image.cells_xyxy)
    best_iou = ious.max(axis=1, initial=0)
    is_cell = best_iou >= boxes.MATCH_IOU
    class_ids = np.full(len(proposals_xyxy), background_class_id, dtype=np.int64)
    if is_cell.any():
        class_ids[is_cell] = image.cell_class_ids[ious[is_cell].argmax(axis=1)]
    edge = CUT_OFF_PIXELS, *(n - CUT_OFF_PIXELS for n in image.size_wh)
    cut_off = (proposals_xyxy[:, :2] <= edge[0]).any(axis=1) | (proposals_xyxy[:, 2:] >= edge[1:]).any(axis=1)
    ignored_area = boxes.intersection_matrix(proposals_xyxy, image.ignored_xyxy).max(axis=1, initial=0)
    is_ignored = ignored_area >= 0.5 * boxes.areas(proposals_xyxy)
    is_background = (best_iou < BACKGROUND_IOU) & (cut_off | (proposal_scores < MAX_BACKGROUND_SCORE))
    keep = ~is_ignored & (is_cell | is_background)
    return Candidates(proposals_xyxy[keep].astype(np.float32), class_ids[keep])
