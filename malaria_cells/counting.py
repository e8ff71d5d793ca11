"""From detections to what a microscopist reports: cells of each class, parasitemia, its interval."""

from dataclasses import dataclass

import numpy as np
import supervision as sv
from scipy.stats import binomtest

from malaria_cells.labels import LabelSet


@dataclass(frozen=True)
class Count:
    """Cells of one picture, or of several.

    Attributes:
        by_label: int64 (n_labels,).
        infected: infected red cells.
        red_cells: all red cells, the infected ones included.
    """

    by_label: np.ndarray
    infected: int
    red_cells: int

    @property
    def parasitemia(self) -> float | None:
        """Infected red cells by all red cells, a fraction of 1; None without red cells."""
        return self.infected / self.red_cells if self.red_cells else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of the parasitemia (Wilson 1927, JASA 22(158)); None without red cells."""
        if not self.red_cells:
            return None
        found = binomtest(self.infected, self.red_cells).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)

    def __add__(self, other: "Count") -> "Count":
        return Count(self.by_label + other.by_label, self.infected + other.infected, self.red_cells + other.red_cells)


def count(class_ids: np.ndarray, labels: LabelSet) -> Count:
    """Count cells given their class ids, int (n,), all within the labels."""
    by_label = np.bincount(class_ids, minlength=len(labels))
    return Count(by_label, int(by_label[labels.is_infected].sum()), int(by_label[labels.is_red_cell].sum()))


def decided_class_ids(detections: sv.Detections, labels: LabelSet, infected_threshold: float) -> np.ndarray:
    """The label that each detection is counted as: int64 (n,).

    A detection with an infected label whose score is under the operating threshold is no finding: it is counted as the
    most probable label that is not infected.
    """
    class_ids = np.array(detections.class_id, dtype=np.int64)
    if len(class_ids) == 0 or labels.is_infected.all():
        return class_ids
    doubtful = labels.is_infected[class_ids] & (detections.confidence < infected_threshold)
    healthy = np.array(detections.data["probabilities"], dtype=np.float64)[:, : len(labels)].copy()
    healthy[:, labels.is_infected] = -1
    return np.where(doubtful, healthy.argmax(axis=1), class_ids)
