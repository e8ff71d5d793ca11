"""Labels what a proposer finds by what is annotated, so that a classifier is trained on the boxes that it will meet."""

from dataclasses import dataclass

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage

MATCH_IOU = 0.5
# A box that overlaps a cell by more is neither that cell nor clearly none.
BACKGROUND_IOU = 0.3
# A proposer that is surer than this of a place where nothing is marked has probably found a cell that annotators left out.
LEFT_OUT = 0.5
CUT_OFF_PIXELS = 2  # a box that comes as near to the image's edge is cut off by it: what is left out there is left out on purpose


@dataclass(frozen=True)
class Candidates:
    """Candidate boxes of one image and what they are.

    Attributes:
        boxes_xyxy: float32 (n, 4), pixels.
        class_ids: int64 (n,), within the labels, or the background class after them, or a set that has it (see `partial_labels`).
    """

    boxes_xyxy: np.ndarray
    class_ids: np.ndarray


def label_candidates(image: AnnotatedImage, found_xyxy: np.ndarray, proposal_scores: np.ndarray, background_class_id: int) -> Candidates:
    """Give candidates the class of the cell they overlap, or the background class; leave out those of which neither is certain.

    Left out are boxes that overlap a cell by an IoU of `BACKGROUND_IOU` to `MATCH_IOU`, boxes that lie in an ignore region by
    half or more, and boxes in the open on no cell that the proposer is sure of, which may be cells that annotators missed.

    Args:
        image: its annotation.
        found_xyxy: float32 (n, 4), candidates.
        proposal_scores: float32 (n,), 0 to 1.
        background_class_id: class id of what is in no box: the background class, or the set from `partial_labels.background_id`.
    """
    overlap = boxes.iou_matrix(found_xyxy, image.cells_xyxy)
    highest = overlap.max(axis=1, initial=0)
    is_cell = highest >= MATCH_IOU
    class_ids = np.full(len(found_xyxy), background_class_id, dtype=np.int64)
    if is_cell.any():
        class_ids[is_cell] = image.cell_class_ids[overlap[is_cell].argmax(axis=1)]
    edge = CUT_OFF_PIXELS, *(n - CUT_OFF_PIXELS for n in image.size_wh)
    cut_off = (found_xyxy[:, :2] <= edge[0]).any(axis=1) | (found_xyxy[:, 2:] >= edge[1:]).any(axis=1)
    shared = boxes.intersection_matrix(found_xyxy, image.ignored_xyxy).max(axis=1, initial=0)
    is_ignored = shared >= 0.5 * boxes.areas(found_xyxy)
    is_background = (highest < BACKGROUND_IOU) & (cut_off | (proposal_scores < LEFT_OUT))
    kept = ~is_ignored & (is_cell | is_background)
    return Candidates(found_xyxy[kept].astype(np.float32), class_ids[kept])
