"""Learned proposals: candidate boxes of an image, and the check of the cell size that they were searched with."""

import cv2
import numpy as np

from .images import UnreadableError
from .model import Model

# Pixels of the proposer's input: cell size, stride, divisor of the sides, padding, receptive-field radius and side of a tile.
CELL, STRIDE, MULTIPLE, PADDING, RECEPTIVE_RADIUS, TILE = 40.0, 4, 16, 16, 64, 1280
MAX_LOG_SIZE = 1.5  # logarithm of a candidate's size in cells
MAX_WORKING_PIXELS = 1_000_000_000  # pixels of an enlarged image
ENOUGH = 10  # number of confident detections that the cell size is checked with
MIRRORS: tuple[tuple[int, ...], ...] = ((), (1, 2), (1,), (2,))  # axes of (1, h, w, c) that each view of the proposer mirrors


def propose(image: np.ndarray, model: Model, cell_size: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Candidate boxes, xyxy (n, 4) in pixels, and proposal scores, (n,): peaks of the proposer's heat map.

    Args:
        image: uint8 RGB (H, W, 3).
        model: a model with a proposer.
        cell_size: median longer side of a cell in pixels; None: that of the training images.
    """
    factor = CELL / (cell_size or model.about["cell_size"])
    height, width = image.shape[:2]
    if height * width * factor**2 > MAX_WORKING_PIXELS * 1.01:
        raise UnreadableError(
            f"{width} x {height} pixels would be enlarged {factor:.1f} times, to over {MAX_WORKING_PIXELS:,}; check the cell size"
        )
    fy, fx = max(factor, 1 / height), max(factor, 1 / width)
    small = cv2.resize(image, None, fx=fx, fy=fy, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    below, right = (PADDING + -(n + 2 * PADDING) % MULTIPLE for n in small.shape[:2])
    padded = cv2.copyMakeBorder(small, PADDING, below, PADDING, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    grid = in_tiles(padded, model)
    heat = np.ascontiguousarray(grid[..., 0])
    y, x = np.nonzero((heat >= cv2.dilate(heat, np.ones((3, 3), np.uint8))) & (heat >= model.inference("proposals")["min_score"]))
    centre = (np.stack([x, y], axis=1) + grid[y, x, 1:3]) * STRIDE - PADDING
    half = np.exp(np.clip(grid[y, x, 3:5], -MAX_LOG_SIZE, MAX_LOG_SIZE)) * CELL / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
    boxes *= np.array([width / small.shape[1], height / small.shape[0]] * 2, dtype=np.float32)
    boxes = boxes.clip(0, np.array([width, height] * 2, dtype=np.float32))
    keep = ((centre >= 0) & (centre < small.shape[1::-1])).all(axis=1) & (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    return boxes[keep], heat[y, x][keep].astype(np.float32)


def in_tiles(padded: np.ndarray, model: Model) -> np.ndarray:
    """The proposer's output grid for an image of any size, (H / STRIDE, W / STRIDE, 5); large images are processed in tiles with a halo."""
    height, width = padded.shape[:2]
    if max(height, width) <= TILE + RECEPTIVE_RADIUS:
        return seen_mirrored(padded, model)
    rows = []
    for top in range(0, height, TILE):
        row = []
        for left in range(0, width, TILE):
            above, before = min(RECEPTIVE_RADIUS, top), min(RECEPTIVE_RADIUS, left)
            tile = seen_mirrored(padded[top - above : top + TILE + RECEPTIVE_RADIUS, left - before : left + TILE + RECEPTIVE_RADIUS], model)
            row.append(tile[above // STRIDE :, before // STRIDE :][: TILE // STRIDE, : TILE // STRIDE])
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows, axis=0)


def seen_mirrored(pixels: np.ndarray, model: Model) -> np.ndarray:
    """The proposer's mean output for pixels (H, W, 3) and their mirror images."""
    if model.proposer is None:
        raise UnreadableError("this model classifies whole images and detects no cells")
    views = []
    for axes in MIRRORS[: model.about["proposer_tta"]]:
        grid = np.flip(model.proposer(np.ascontiguousarray(np.flip(pixels[None], axes), dtype=np.float32)), axes).copy()
        for axis, offset in ((2, 1), (1, 2)):
            if axis in axes:
                grid[..., offset] = 1 - grid[..., offset]
        views.append(grid[0])
    return np.mean(views, axis=0)


def note_on_size(boxes: np.ndarray, proposal_scores: np.ndarray, expected: float, model: Model) -> str | None:
    """A note if the cells of an image may not have the expected size, in pixels; `malaria-cells run` would estimate the size then."""
    values = model.inference("proposals")
    is_confident, tolerance = proposal_scores >= values["confident"], values["size_tolerance"]
    size = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)[is_confident]
    if len(size) < ENOUGH:
        return f"fewer than {ENOUGH} cells were detected with confidence at the expected cell size of {expected:.0f} pixels"
    median = float(np.median(size))
    if not values["conclusive"][0] <= median / expected <= values["conclusive"][1]:
        return f"cells seem to be {median:.0f} pixels wide, expected {expected:.0f}"
    weight = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) * proposal_scores
    relative = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / expected
    is_consistent = is_confident & (relative < tolerance) & (relative > 1 / tolerance)
    if is_consistent.sum() >= ENOUGH and weight[is_consistent].sum() >= values["min_consistent"] * weight.sum():
        return None
    return f"only {is_consistent.sum()} of {len(boxes)} candidates are confident and of about the expected {expected:.0f} pixels"
