"""Non-maximum suppression, and score decay for nested boxes."""

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from pydantic import ConfigDict, Field

from malaria_cells.data import boxes

MAX_MATRIX = 500  # boxes up to which all pairs are computed
MAX_GREEDY = 5000  # boxes up to which OpenCV compares each with all that remain: a second


@dataclass(frozen=True)
class NestedBoxes:
    """What happens to a box that lies in another one, or around it.

    Attributes:
        containment: fraction of the smaller box inside the larger from which two boxes are nested.
        decay: score multiplier of the lower-scored of two nested boxes. In a crowd either box may be the cell: on IML-Malaria's
            validation images, dropping such boxes costs half a point of cell recall and of cell AP50. 0.5 does as well as 0.3; with 0.3
            hardly any are counted.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    containment: Annotated[float, Field(gt=0, le=1)] = 0.8
    decay: Annotated[float, Field(ge=0, le=1)] = 0.3


def suppress(boxes_xyxy: np.ndarray, scores: np.ndarray, iou: float, groups: np.ndarray | None) -> np.ndarray:
    """Greedy non-maximum suppression, by OpenCV if there are not too many boxes.

    Args:
        boxes_xyxy: (n, 4).
        scores: (n,).
        iou: IoU above which the lower-scored box is suppressed.
        groups: int (n,), boxes suppress only boxes of the same group; None: all boxes are one group.

    Returns:
        Indices of the remaining boxes, best score first: int64 (m,).
    """
    if len(boxes_xyxy) == 0:
        return np.zeros(0, dtype=np.int64)
    if len(boxes_xyxy) > MAX_GREEDY:
        return _suppressed_by_neighbours(boxes_xyxy, scores, iou, groups)
    corner_and_size = np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], axis=1).astype(np.float64)
    if groups is None:
        remaining = cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), 0.0, iou)
    else:
        remaining = cv2.dnn.NMSBoxesBatched(corner_and_size.tolist(), scores.tolist(), groups.tolist(), 0.0, iou)
    indices = np.asarray(remaining, dtype=np.int64).ravel()
    return indices[np.argsort(-scores[indices], kind="stable")]


def _suppressed_by_neighbours(boxes_xyxy: np.ndarray, scores: np.ndarray, iou: float, groups: np.ndarray | None) -> np.ndarray:
    """As `suppress`, comparing each box with those that overlap it alone: OpenCV compares it with all, 200 s for 50,000 boxes."""
    pairs, _ = overlapping(boxes_xyxy)
    if groups is not None:
        pairs = pairs[groups[pairs[:, 0]] == groups[pairs[:, 1]]]
    i, j = pairs.T
    low, high = boxes_xyxy[:, :2].astype(np.float64), boxes_xyxy[:, 2:].astype(np.float64)
    shared = np.prod(np.minimum(high[i], high[j]) - np.maximum(low[i], low[j]), axis=1)
    areas = np.prod(high - low, axis=1)
    pairs = pairs[(shared / (areas[i] + areas[j] - shared)).astype(np.float32) > np.float32(iou)]
    order = np.argsort(-scores, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    by_rank = np.sort(rank[pairs], axis=1)
    by_rank = by_rank[np.argsort(by_rank[:, 0], kind="stable")]
    starts = np.searchsorted(by_rank[:, 0], np.arange(len(order) + 1))
    remains = scores[order] > 0  # as in OpenCV
    for better in np.unique(by_rank[:, 0]).tolist():
        if remains[better]:
            remains[by_rank[starts[better] : starts[better + 1], 1]] = False
    return order[remains]


def nested_decay(boxes_xyxy: np.ndarray, class_ids: np.ndarray, parts_look_alike: np.ndarray, nested: NestedBoxes) -> np.ndarray:
    """Score multipliers for nested boxes, which IoU-based NMS misses.

    Of two nested boxes the lower-scored one, which may enclose a clump of cells or part of a cell, gets `nested.decay`, similar to
    Soft-NMS (Bodla et al. 2017, arXiv:1704.04503). If both boxes have the same label, of a cell whose part looks like the whole (a
    leukocyte's nucleus), the larger box is kept and the smaller one gets 0. If only one of the labels is of such a cell, as with a
    platelet on a red cell, the boxes are two objects and keep their scores.

    Args:
        boxes_xyxy: (n, 4), best score first.
        class_ids: int (n,).
        parts_look_alike: labels of cells whose part looks like the whole, bool (n_labels,).
        nested: when two boxes are nested, and the multiplier.

    Returns:
        float32 (n,), 0 to 1.
    """
    pairs, shared = overlapping(boxes_xyxy)
    area = boxes.areas(boxes_xyxy)
    nested_pairs = pairs[shared >= nested.containment * area[pairs].min(axis=1)]
    decay = np.ones(len(area), dtype=np.float32)
    for i, j in nested_pairs.tolist():
        if decay[i] < 1 or decay[j] == 0:
            continue  # a down-weighted box does not down-weight others
        if class_ids[i] == class_ids[j] and parts_look_alike[class_ids[i]]:
            decay[i if area[j] > area[i] else j] = 0
        elif not parts_look_alike[class_ids[[i, j]]].any():
            decay[j] = nested.decay
    return decay


def repeated(boxes_xyxy: np.ndarray, class_ids: np.ndarray, n_labels: int, iou: float) -> np.ndarray:
    """For each box, the labels that an overlapping box has already claimed.

    Args:
        boxes_xyxy: (n, 4).
        class_ids: int (n,), the label of each box.
        n_labels: number of labels.
        iou: IoU above which two boxes are of the same cell.

    Returns:
        bool (n, n_labels).
    """
    pairs, shared = overlapping(boxes_xyxy)
    i, j = pairs[shared > iou * (boxes.areas(boxes_xyxy)[pairs].sum(axis=1) - shared)].T
    claimed = np.zeros((len(boxes_xyxy), n_labels), dtype=bool)
    claimed[i, class_ids[j]] = True
    claimed[j, class_ids[i]] = True
    return claimed


def overlapping(boxes_xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of overlapping boxes, and their intersection areas.

    The centres of two overlapping boxes are no further apart than the longer diagonal, so a k-d tree of the centres finds all pairs. A
    matrix of all pairs is faster for the boxes of one field, but would not fit into memory for the 20,000 cells of a slide.

    Args:
        boxes_xyxy: (n, 4).

    Returns:
        Indices, int64 (m, 2), sorted, the smaller index of each pair first; and areas, float32 (m,), in square pixels.
    """
    if len(boxes_xyxy) == 0:
        return np.zeros((0, 2), dtype=np.int64), np.zeros(0, dtype=np.float32)
    if len(boxes_xyxy) <= MAX_MATRIX:
        overlaps = np.triu(boxes.intersection_matrix(boxes_xyxy, boxes_xyxy), k=1)
        pairs = np.argwhere(overlaps > 0)
        return pairs, overlaps[pairs[:, 0], pairs[:, 1]]
    from scipy.spatial import cKDTree  # slow to import, and most images have fewer boxes

    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    centres = (low + high) / 2
    near = cKDTree(centres).query_ball_point(centres, np.linalg.norm(high - low, axis=1))
    pairs = np.stack([np.repeat(np.arange(len(near)), [len(n) for n in near]), np.concatenate(near).astype(np.int64)], axis=1)
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    i, j = pairs.T
    shared = np.prod(np.clip(np.minimum(high[i], high[j]) - np.maximum(low[i], low[j]), 0, None), axis=1)
    return pairs[shared > 0], shared[shared > 0]
