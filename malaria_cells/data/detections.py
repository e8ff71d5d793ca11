"""Detected cells of one image, as every package hands them on."""

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    import supervision as sv

_COLUMNS = ("probabilities", "objectness", "label_scores", "counted_as", "class_name")


@dataclass(frozen=True, eq=False)
class Detections:
    """Detected cells of one image. Indexing with a mask or with row numbers selects cells.

    Attributes:
        xyxy: boxes in pixels, float32 (n, 4).
        confidence: scores, float32 (n,), 0 to 1.
        class_id: index of each cell's label, int64 (n,).
        counted_as: index of the label that each detection is counted as, int64 (n,); -1 if it is not counted (see `counting.counted_as`).
        objectness: probability of being a cell, float32 (n,).
        probabilities: class probabilities, float32 (n, n_classes), the background class last; (n, 0) if unknown.
        label_scores: score under each label, float32 (n, n_labels), 0 below the score threshold; (n, 0): ranked under `class_id` alone.
        index: position among all detections of the image, int64 (n,), which a selection does not change.
        names: names of the labels.
        judged: the familiarity model that judged the image and its verdict, if the probabilities depend on it; otherwise None.
    """

    xyxy: np.ndarray
    confidence: np.ndarray
    class_id: np.ndarray
    counted_as: np.ndarray
    objectness: np.ndarray
    probabilities: np.ndarray
    label_scores: np.ndarray
    index: np.ndarray
    names: tuple[str, ...] = ()
    judged: tuple[Any, Any] | None = field(default=None, repr=False)

    @classmethod
    def from_boxes(cls, xyxy: np.ndarray, class_id: np.ndarray, confidence: np.ndarray | None = None, **columns: Any) -> Self:
        """Boxes without the networks' outputs, such as annotated cells: each is counted as its class.

        Args:
            xyxy: (n, 4).
            class_id: int (n,).
            confidence: scores (n,); None: all 1.
            columns: other attributes, where they are known.
        """
        n = len(xyxy)
        ids = np.asarray(class_id, dtype=np.int64)
        scores = np.ones(n, dtype=np.float32) if confidence is None else np.asarray(confidence)
        none = np.zeros((n, 0), dtype=np.float32)
        detections = cls(np.asarray(xyxy), scores, ids, ids, np.ones(n, dtype=np.float32), none, none, np.arange(n))
        return replace(detections, **columns)

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, rows: np.ndarray | slice | list[int]) -> Self:
        arrays: dict[str, Any] = {f.name: v[rows] for f in fields(self) if isinstance(v := getattr(self, f.name), np.ndarray)}
        return replace(self, **arrays)

    @property
    def class_name(self) -> np.ndarray:
        """Name of each cell's label, object (n,)."""
        return np.array([self.names[i] for i in self.class_id], dtype=object)

    @property
    def data(self) -> dict[str, np.ndarray]:
        """Further columns by name, as `supervision.Detections.data` holds them."""
        return {name: getattr(self, name) for name in _COLUMNS if name != "class_name" or self.names}

    def to_supervision(self) -> "sv.Detections":
        """The same cells for the supervision library, which draws, converts and tracks them."""
        import supervision as sv  # slow to import: a second of a detection's start

        return sv.Detections(xyxy=self.xyxy, confidence=self.confidence, class_id=self.class_id, data=dict(self.data))
