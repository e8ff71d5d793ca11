"""Box arrays. One form throughout: xyxy, float32, pixels of the upright image, right and bottom exclusive."""

import numpy as np

ENOUGH = 10  # boxes from which a median size is taken


def iou_matrix(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair.

    Args:
        a_xyxy: (n, 4).
        b_xyxy: (m, 4).

    Returns:
        float32 (n, m) in [0, 1]; 0 where both boxes are without area.

    >>> iou_matrix(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2]])).round(3).tolist()
    [[0.3330000042915344]]
    """
    overlap = intersection_matrix(a_xyxy, b_xyxy)
    union = areas(a_xyxy)[:, None] + areas(b_xyxy)[None, :]
    union -= overlap
    return np.divide(overlap, union, out=overlap, where=union > 0)


def intersection_matrix(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Area shared by every pair: float32 (n, m), in square pixels."""
    a = np.asarray(a_xyxy, dtype=np.float32).reshape(-1, 4)
    b = np.asarray(b_xyxy, dtype=np.float32).reshape(-1, 4)
    width, height = (_shared_length(a[:, [i, i + 2]], b[:, [i, i + 2]]) for i in range(2))
    width *= height
    return width


def _shared_length(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How much of every two intervals (n, 2), (m, 2) is of both: (n, m). Computed in place: a slide's table takes gigabytes."""
    shared = np.minimum(a[:, 1, None], b[:, 1])
    shared -= np.maximum(a[:, 0, None], b[:, 0])
    return np.maximum(shared, 0, out=shared)


def areas(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Areas: float32 (n,), in square pixels."""
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
    """Median longer side in pixels; None of fewer than `ENOUGH` boxes, which may all be of the larger cells of an image."""
    sizes = cell_sizes(boxes_xyxy)
    return float(np.median(sizes)) if len(sizes) >= ENOUGH else None


def squares_around(boxes_xyxy: np.ndarray, context: float) -> np.ndarray:
    """Whole-pixel squares centred on boxes, the side being the longer side times `context`.

    Returns:
        int64 (n, 4); they may leave the image, and have at least one pixel.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    side = np.maximum(np.rint(np.max(boxes[:, 2:] - boxes[:, :2], axis=1, initial=0) * context), 1)[:, None]
    corner = np.rint((boxes[:, :2] + boxes[:, 2:]) / 2 - side / 2)
    return np.concatenate([corner, corner + side], axis=1).astype(np.int64)


def match(boxes_xyxy: np.ndarray, truth_xyxy: np.ndarray, iou: float = 0.5) -> np.ndarray:
    """Give each box, in the order given (best score first), the free true box that it overlaps most, if by `iou` or more.

    This is COCO's greedy assignment at one threshold.

    Returns:
        int64 (n,): index into `truth_xyxy`, or -1.
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
