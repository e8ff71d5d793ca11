"""Clips and drops faulty boxes of an annotation, and counts the issues."""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from malaria_cells.base.text import number_of, shortened
from malaria_cells.data import boxes

MAX_COORDINATE = 1e9  # pixels; larger than any image, and well within the range of float32


@dataclass
class AnnotationIssues:
    """Annotation warnings: the cases that were corrected or left out, by their noun and the reason, each with an example."""

    cases: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def note(self, what: str, reason: str, example: str, count: int = 1) -> None:
        """Add `count` cases of `what` (a noun in the singular) with the same reason and example."""
        self.cases[what, reason].extend([example] * count)

    def lines(self, source: object) -> tuple[str, ...]:
        """One line per reason: the number of cases, the reason with what was done, and the first example."""
        return tuple(
            f"{source}: {number_of(len(examples), what)} {reason}; first: {shortened(examples[0])}"
            for (what, reason), examples in self.cases.items()
        )


def clean_boxes(
    boxes_xyxy: np.ndarray, size_wh: tuple[int, int], min_size: float, key: str, issues: AnnotationIssues
) -> tuple[np.ndarray, np.ndarray]:
    """Clip boxes to the image and drop those that cannot be a cell.

    Args:
        boxes_xyxy: (n, 4), in pixels, as read from the annotation.
        size_wh: width and height of the image in pixels.
        min_size: minimum of a box's shorter side after clipping, in pixels.
        key: the image's key, which is part of the examples.
        issues: every box that is clipped or dropped is added to it.

    Returns:
        The remaining boxes, clipped, float32 (m, 4), and the keep mask, bool (n,).
    """
    raw = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    finite = np.isfinite(raw).all(axis=1)
    bounded = np.nan_to_num(raw).clip(-MAX_COORDINATE, MAX_COORDINATE)
    extent = bounded[:, 2:] - bounded[:, :2]
    clipped = boxes.clip(bounded, size_wh)
    side = np.min(clipped[:, 2:] - clipped[:, :2], axis=1, initial=np.inf)
    faults = {
        "with a coordinate that is not a number, dropped": ~finite,
        "with swapped corners, dropped": (extent < 0).any(axis=1),
        "without area, dropped": (extent == 0).any(axis=1),
        "wholly outside the image, dropped": side <= 0,
        f"under {min_size:g} pixels (min_box_size), dropped": side < min_size,
    }
    keep = np.ones(len(raw), dtype=bool)
    for reason, faulty in faults.items():
        for i in np.flatnonzero(faulty & keep):
            issues.note("box", reason, f"{key} {_text(raw[i])}")
        keep &= ~faulty
    for i in np.flatnonzero(keep & (np.abs(clipped - raw) > 1e-3).any(axis=1)):
        issues.note("box", "past the border, clipped", f"{key} {_text(raw[i])}")
    return clipped[keep], keep


def _text(box: np.ndarray) -> str:
    return "[" + ", ".join(f"{v:g}" for v in box) + "]"
