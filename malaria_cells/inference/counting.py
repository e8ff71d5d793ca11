"""From detections to what a microscopist reports: cells of each class, parasitemia, its interval."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from malaria_cells.base.text import number_of
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.error_rates import ErrorRates


@dataclass(frozen=True)
class Count:
    """Numbers of cells in one or more images.

    Attributes:
        by_label: number of cells of each label, int64 (n_labels,).
        infected: number of infected red cells.
        red_cells: number of all red cells, infected ones included.
        images: number of images.

    Examples:
        >>> counted = Count(np.array([96, 3, 1]), infected=4, red_cells=100)
        >>> counted.parasitemia
        0.04
        >>> low, high = counted.interval()
        >>> round(low, 3), round(high, 3)
        (0.016, 0.098)
    """

    by_label: np.ndarray
    infected: int
    red_cells: int
    images: int = 1

    @property
    def parasitemia(self) -> float | None:
        """Infected red cells / all red cells, 0 to 1; None without red cells."""
        return self.infected / self.red_cells if self.red_cells else None

    def interval(self, errors: ErrorRates | None = None) -> tuple[float, float] | None:
        """95 % interval of the true parasitemia, 0 to 1.

        With error rates it is the interval of Lang and Reiczigel (2014, Preventive Veterinary Medicine 113(1), 13-22, section 2). It
        accounts for the sampling of cells, for sensitivity and specificity, and for the sampling error of those two. The variances of
        both rates between images and laboratories are added (see `error_rates`), since the rates of a single image differ from the
        mean. The interval is widened, if necessary, to contain the counted fraction. Without error rates, or if they were
        measured without infected or without healthy cells, it is Wilson's interval (1927, JASA 22(158)), which accounts for sampling only.

        Args:
            errors: the detector's error rates on such images, or None.

        Returns:
            Lower and upper limit; None without red cells, or if the errors were not measured.
        """
        if not self.red_cells or (errors is not None and not errors.measured):
            return None
        fraction = self.infected / self.red_cells
        if errors is not None and errors.infected and errors.healthy:
            low, high = _lang_reiczigel(self, errors)
            return min(low, fraction), max(high, fraction)
        from scipy.stats import binomtest  # slow to import, and most models have measured errors

        wilson = binomtest(self.infected, self.red_cells).proportion_ci(0.95, method="wilson")
        return float(wilson.low), float(wilson.high)

    def parasitemia_text(self) -> str:
        """Parasitemia in percent, or ``none``."""
        return "none" if self.parasitemia is None else f"{100 * self.parasitemia:.2f} %"

    def interval_in_words(self, errors: ErrorRates | None) -> str:
        """The interval in percent (see `interval`) or the reason why there is none; empty without red cells."""
        if self.red_cells and errors is not None and not errors.measured:
            return "no interval, since errors on such images were not measured"
        limits = self.interval(errors)
        return "" if limits is None else f"95 % interval {100 * limits[0]:.2f} to {100 * limits[1]:.2f} %"

    def in_words(self, labels: LabelSet, errors: ErrorRates | None) -> str:
        """The number of cells and, if there are infected labels and red cells, the parasitemia and its interval.

        >>> labels = LabelSet(("red blood cell", "ring"), infected=("ring",), red_cells=("red blood cell",))
        >>> Count(np.array([96, 4]), infected=4, red_cells=100).in_words(labels, None)
        '100 cells, 4 of 100 red cells infected: 4.00 %, 95 % interval 1.57 to 9.84 %'
        """
        text = number_of(int(self.by_label.sum()), "cell")
        if not labels.is_infected.any() or not self.red_cells:
            return text
        infected = f"{self.infected:,} of {number_of(self.red_cells, 'red cell')} infected"
        return f"{text}, {infected}: {self.parasitemia_text()}, {self.interval_in_words(errors)}"

    def __add__(self, other: "Count") -> "Count":
        return Count(
            self.by_label + other.by_label,
            self.infected + other.infected,
            self.red_cells + other.red_cells,
            self.images + other.images,
        )


def count(class_ids: np.ndarray, labels: LabelSet) -> Count:
    """Count cells by their class ids, int (n,); negative ids are not counted."""
    by_label = np.bincount(class_ids[class_ids >= 0], minlength=len(labels))
    return Count(by_label, int(by_label[labels.is_infected].sum()), int(by_label[labels.is_red_cell].sum()))


def count_detected(detections: Detections, labels: LabelSet) -> Count:
    """Count the detected cells of one image."""
    return count(detections.counted_as, labels)


def total(counts: Iterable[Count], labels: LabelSet) -> Count:
    """The sum of counts."""
    return sum(counts, Count(np.zeros(len(labels), dtype=np.int64), 0, 0, 0))


def counted_as(detections: Detections, labels: LabelSet, infected_threshold: float, cell_threshold: float) -> np.ndarray:
    """The class id that each detection is counted as, -1 if it is not counted: int64 (n,).

    A detection with an infected label is counted as infected if its score reaches `infected_threshold`. Otherwise it gets its most
    probable label that is not infected. Detections that are not counted as infected are counted if their `objectness` reaches
    `cell_threshold`.
    """
    class_ids = detections.class_id
    is_infected = labels.is_infected[class_ids] & (detections.confidence >= infected_threshold)
    if not labels.is_infected.all():
        healthy = np.where(labels.is_infected, -1, detections.probabilities[:, : len(labels)])
        class_ids = np.where(labels.is_infected[class_ids] & ~is_infected, healthy.argmax(axis=1), class_ids)
    return np.where(is_infected | (detections.objectness >= cell_threshold), class_ids, -1)


def _lang_reiczigel(counted: Count, errors: ErrorRates) -> tuple[float, float]:
    positive, n, images = counted.infected, counted.red_cells, max(counted.images, 1)
    z = float(ndtri(0.975))
    right_alarms = max(errors.healthy - errors.false_alarms, 0)
    sensitivity = (errors.detected + 1) / (errors.infected + 2)
    specificity = (right_alarms + 1) / (errors.healthy + 2)
    informed = max(sensitivity + specificity - 1, 1e-6)
    n_adjusted = n + z**2
    p = (positive + z**2 / 2) / n_adjusted
    fraction = (p + specificity - 1) / informed
    miss = sensitivity * (1 - sensitivity) / errors.infected
    alarm = specificity * (1 - specificity) / errors.healthy
    shift = 2 * z**2 * (fraction * miss - (1 - fraction) * alarm)
    miss += errors.misses_vary / images + errors.misses_differ
    alarm += errors.alarms_vary / images + errors.alarms_differ
    spread = z * np.sqrt(p * (1 - p) / n_adjusted + fraction**2 * miss + (1 - fraction) ** 2 * alarm) / informed
    low, high = np.clip([fraction + shift - spread, fraction + shift + spread], 0, 1)
    return float(low), float(high)
