"""Checks and mends boxes as annotators leave them, and says what it met."""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from malaria_cells.base.text import number_of, shortened
from malaria_cells.data import boxes

FARTHEST = 1e9  # pixels, more than any image has and few enough for float32


@dataclass
class AnnotationIssues:
    """Counts what was mended or dropped, by what it was and why, and keeps the first example of each."""

    found: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def note(self, what: str, reason: str, example: str, count: int = 1) -> None:
        """Add `count` cases of a thing (a noun, one of it) to what is known of it for that reason."""
        self.found[what, reason].extend([example] * count)

    def lines(self, source: object) -> tuple[str, ...]:
        """One line a reason: how many, what was done, the first example."""
        return tuple(
            f"{source}: {number_of(len(cases), what)} {reason}; first: {shortened(cases[0])}"
            for (what, reason), cases in self.found.items()
        )


def clean_boxes(
    boxes_xyxy: np.ndarray, size_wh: tuple[int, int], min_size: float, key: str, issues: AnnotationIssues
) -> tuple[np.ndarray, np.ndarray]:
    """Clip boxes to the image and drop those that cannot be a cell.

    Args:
        boxes_xyxy: (n, 4) as read.
        size_wh: the image's width and height in pixels.
        min_size: the shorter side that a box must have after clipping, in pixels.
        key: the image's key, for the examples.
        issues: takes a note of every box that was clipped or dropped.

    Returns:
        The boxes kept, float32 (m, 4), and which they were, bool (n,).
    """
    raw = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    finite = np.isfinite(raw).all(axis=1)
    near = np.nan_to_num(raw).clip(-FARTHEST, FARTHEST)
    extent = near[:, 2:] - near[:, :2]
    clipped = boxes.clip(near, size_wh)
    side = np.min(clipped[:, 2:] - clipped[:, :2], axis=1, initial=np.inf)
    faults = {
        "with a coordinate that is not a number, dropped": ~finite,
        "with swapped corners, dropped": (extent < 0).any(axis=1),
        "without area, dropped": (extent == 0).any(axis=1),
        "wholly outside the image, dropped": side <= 0,
        f"under {min_size:g} pixels (min_box_size), dropped": side < min_size,
    }
    kept = np.ones(len(raw), dtype=bool)
    for reason, faulty in faults.items():
        for i in np.flatnonzero(faulty & kept):
            issues.note("box", reason, f"{key} {_text(raw[i])}")
        kept &= ~faulty
    for i in np.flatnonzero(kept & (np.abs(clipped - raw) > 1e-3).any(axis=1)):
        issues.note("box", "past the border, clipped", f"{key} {_text(raw[i])}")
    return clipped[kept], kept


def _text(box: np.ndarray) -> str:
    return "[" + ", ".join(f"{v:g}" for v in box) + "]"
