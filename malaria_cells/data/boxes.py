"""Arrays of boxes: xyxy, float32, in pixels of the upright image, right and bottom exclusive."""

import numpy as np

MATCH_IOU = 0.5  # IoU from which two boxes are of the same cell, as in PASCAL VOC
# Pixels of the median cell in the rescaled images in which cells are searched. For the classical methods 60 gave no better results
# than 40 on IML-Malaria's training part and took twice as long.
WORKING_CELL_SIZE = 40.0
ENOUGH = 10  # minimum number of boxes for a median size


def iou_matrix(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs of boxes.

    Args:
        a_xyxy: (n, 4).
        b_xyxy: (m, 4).

    Returns:
        float32 (n, m) in [0, 1]; 0 where neither box has an area.

    >>> iou_matrix(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2]])).round(3).tolist()
    [[0.3330000042915344]]
    """
    overlap = intersection_matrix(a_xyxy, b_xyxy)
    union = areas(a_xyxy)[:, None] + areas(b_xyxy)[None, :]
    union -= overlap
    return np.divide(overlap, union, out=overlap, where=union > 0)


def intersection_matrix(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Intersection areas of all pairs of boxes: float32 (n, m), in square pixels."""
    a = np.asarray(a_xyxy, dtype=np.float32).reshape(-1, 4)
    b = np.asarray(b_xyxy, dtype=np.float32).reshape(-1, 4)
    width, height = (_overlap_lengths(a[:, [i, i + 2]], b[:, [i, i + 2]]) for i in range(2))
    width *= height
    return width


def _overlap_lengths(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Overlap lengths of all pairs of intervals (n, 2), (m, 2): (n, m). Computed in place, since the matrix of a slide takes gigabytes."""
    shared = np.minimum(a[:, 1, None], b[:, 1])
    shared -= np.maximum(a[:, 0, None], b[:, 0])
    return np.maximum(shared, 0, out=shared)


def areas(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Areas of boxes: float32 (n,), in square pixels."""
    boxes = np.asarray(boxes_xyxy, dtype=np.float32).reshape(-1, 4)
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def clip(boxes_xyxy: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Clip boxes to an image of `size_wh` pixels: a new float32 (n, 4)."""
    limit = np.array([*size_wh, *size_wh], dtype=np.float32)
    return np.clip(np.asarray(boxes_xyxy, dtype=np.float32).reshape(-1, 4), 0, limit)


def cell_sizes(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Longer side of each box: float32 (n,), in pixels."""
    boxes = np.asarray(boxes_xyxy, dtype=np.float32).reshape(-1, 4)
    return np.max(boxes[:, 2:] - boxes[:, :2], axis=1, initial=0)


def median_size(boxes_xyxy: np.ndarray) -> float | None:
    """Median longer side in pixels; None for fewer than `ENOUGH` boxes, which may all be larger cells."""
    sizes = cell_sizes(boxes_xyxy)
    return float(np.median(sizes)) if len(sizes) >= ENOUGH else None


def squares_around(boxes_xyxy: np.ndarray, context: float) -> np.ndarray:
    """Squares of whole pixels centred on boxes; the side is the box's longer side times `context`.

    Returns:
        int64 (n, 4), at least one pixel wide; squares may extend beyond the image.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    side = np.maximum(np.rint(np.max(boxes[:, 2:] - boxes[:, :2], axis=1, initial=0) * context), 1)[:, None]
    corner = np.rint((boxes[:, :2] + boxes[:, 2:]) / 2 - side / 2)
    return np.concatenate([corner, corner + side], axis=1).astype(np.int64)


def match(boxes_xyxy: np.ndarray, truth_xyxy: np.ndarray, iou: float = MATCH_IOU) -> np.ndarray:
    """Match each box, in the order given (best score first), to the unmatched ground-truth box of the highest IoU, if at least `iou`.

    This is COCO's greedy matching at one IoU threshold.

    Args:
        boxes_xyxy: (n, 4), sorted by descending score.
        truth_xyxy: (m, 4), ground truth.
        iou: IoU threshold, 0 to 1.

    Returns:
        int64 (n,): index into `truth_xyxy`, or -1 for an unmatched box.
    """
    overlap = iou_matrix(boxes_xyxy, truth_xyxy)
    matched = np.full(len(overlap), -1, dtype=np.int64)
    if overlap.size == 0:
        return matched
    for i, row in enumerate(overlap):
        j = int(np.argmax(row))
        if row[j] >= iou:
            matched[i] = j
            overlap[:, j] = -1
    return matched
