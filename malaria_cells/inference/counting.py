"""From detections to what a microscopist reports: cells of each class, parasitemia, its interval."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import supervision as sv
from scipy.stats import binomtest, norm, t

from malaria_cells.base.text import excerpt, number_of
from malaria_cells.data.labels import LabelSet

LARGEST = 1e9  # of any number but the seed that a model holds


@dataclass(frozen=True)
class ErrorRates:
    """How often a detector was right about red cells whose state is known: counts, so that their own uncertainty is known too.

    Attributes:
        infected: annotated infected red cells.
        found: those of them that it found.
        healthy: annotated healthy red cells.
        false_alarms: detections counted as infected on no infected cell.
        misses_vary: variance of the fraction of missed infected cells from image to image, beyond chance.
        alarms_vary: the same of the fraction of false alarms among healthy cells.
        misses_differ: variance of the fraction of missed cells from laboratory to laboratory, which more images do not average out.
        alarms_differ: the same of the fraction of false alarms.
        measured: whether anything is known; if not, there is no interval.
    """

    infected: int
    found: int
    healthy: int
    false_alarms: int
    misses_vary: float = 0.0
    alarms_vary: float = 0.0
    misses_differ: float = 0.0
    alarms_differ: float = 0.0
    measured: bool = True

    def check(self, name: str) -> None:
        """See that they are counts and variances.

        Raises:
            ValueError: they are not, or are larger than any model may hold; it begins with `name`.
        """
        counts = self.found, self.infected - self.found, self.healthy, self.false_alarms
        variances = self.misses_vary, self.alarms_vary, self.misses_differ, self.alarms_differ
        if not all(0 <= value <= LARGEST for value in (*counts, *variances)):  # which NaN is not, either
            raise ValueError(
                f"{name}: found {excerpt(vars(self), 200)}, expected counts, of which `found` is at most `infected`, and variances from 0, "
                f"all up to {LARGEST:.0e}"
            )


UNMEASURED = ErrorRates(0, 0, 0, 0, measured=False)


@dataclass(frozen=True)
class Count:
    """Cells of one image, or of several.

    Attributes:
        by_label: int64 (n_labels,).
        infected: infected red cells.
        red_cells: all red cells, the infected ones included.
        images: number of images that they were counted in.

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
        """Infected red cells by all red cells, a fraction of 1; None without red cells."""
        return self.infected / self.red_cells if self.red_cells else None

    def interval(self, errors: ErrorRates | None = None) -> tuple[float, float] | None:
        """95 % interval of the true parasitemia, a fraction of 1; None without red cells, or where errors were not measured.

        With the detector's error rates it is that of Lang and Reiczigel (2014, Preventive Veterinary Medicine 113(1),
        13-22, section 2): of the fraction that is truly infected, given that cells are a sample, that some infected ones are
        missed and some healthy ones taken for infected, and that the rates of both were themselves measured on few cells.
        To the variances of both rates those between images and laboratories are added (see `extra_variance` and
        `elsewhere`): an image has rates of its own. It is widened, where it must be, to hold the fraction that was counted.
        Without error rates, or with too few cells to know them, it is Wilson's (1927, JASA 22(158)), which knows of sampling alone.
        """
        if not self.red_cells or (errors is not None and not errors.measured):
            return None
        fraction = self.infected / self.red_cells
        if errors is not None and errors.infected and errors.healthy:
            low, high = _lang_reiczigel(self, errors)
            return min(low, fraction), max(high, fraction)
        found = binomtest(self.infected, self.red_cells).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)

    def parasitemia_text(self) -> str:
        """Parasitemia in percent, or ``none``."""
        return "none" if self.parasitemia is None else f"{100 * self.parasitemia:.2f} %"

    def interval_in_words(self, errors: ErrorRates | None) -> str:
        """Its interval in percent (see `interval`); nothing without red cells, and a sentence where errors were not measured."""
        if self.red_cells and errors is not None and not errors.measured:
            return "no interval, since errors on such images were not measured"
        found = self.interval(errors)
        return "" if found is None else f"95 % interval {100 * found[0]:.2f} to {100 * found[1]:.2f} %"

    def in_words(self, labels: LabelSet, errors: ErrorRates | None) -> str:
        """How many cells and, where labels can be infected ones and there are red cells, parasitemia and its interval.

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
    """Count cells given their class ids, int (n,); negative ones are not counted."""
    by_label = np.bincount(class_ids[class_ids >= 0], minlength=len(labels))
    return Count(by_label, int(by_label[labels.is_infected].sum()), int(by_label[labels.is_red_cell].sum()))


def counted_ids(found: sv.Detections) -> np.ndarray:
    """What the cells of a detection are counted as, -1 for none: int64 (n,), also of one that holds nothing."""
    return np.asarray(found.data["counted_as"], dtype=np.int64) if len(found) else np.zeros(0, dtype=np.int64)


def count_detected(found: sv.Detections, labels: LabelSet) -> Count:
    """Count the detected cells of one image."""
    return count(counted_ids(found), labels)


def total(counts: Iterable[Count], labels: LabelSet) -> Count:
    """All counts together."""
    return sum(counts, Count(np.zeros(len(labels), dtype=np.int64), 0, 0, 0))


def counted_as(detections: sv.Detections, labels: LabelSet, infected_threshold: float, cell_threshold: float) -> np.ndarray:
    """The label that each detection is counted as: int64 (n,), -1 for one that is not counted.

    A detection with an infected label is counted as infected if its score reaches `infected_threshold`. If not, it is counted as its
    most probable label that is not infected; that, like any other detection, only if its ``data["objectness"]``, the
    probability that it is a cell, reaches `cell_threshold`.
    """
    class_ids = np.array(detections.class_id, dtype=np.int64)
    if len(class_ids) == 0:
        return class_ids
    is_infected = labels.is_infected[class_ids] & (np.asarray(detections.confidence) >= infected_threshold)
    if not labels.is_infected.all():
        healthy = np.array(detections.data["probabilities"], dtype=np.float64)[:, : len(labels)].copy()
        healthy[:, labels.is_infected] = -1
        class_ids = np.where(labels.is_infected[class_ids] & ~is_infected, healthy.argmax(axis=1), class_ids)
    return np.where(is_infected | (np.asarray(detections.data["objectness"]) >= cell_threshold), class_ids, -1)


def _lang_reiczigel(counted: Count, errors: ErrorRates) -> tuple[float, float]:
    positive, n, images = counted.infected, counted.red_cells, max(counted.images, 1)
    z = float(norm.ppf(0.975))
    right_alarms = max(errors.healthy - errors.false_alarms, 0)
    sensitivity = (errors.found + 1) / (errors.infected + 2)
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


def extra_variance(events: np.ndarray, trials: np.ndarray) -> float:
    """Variance of a rate between images, or laboratories, beyond what chance makes in so many trials; 0 where there is none.

    The estimate by moments with weights by trials (Kleinman 1973, JASA 68(341), 46-54, eq. 2.3), as of a beta-binomial distribution.

    Args:
        events: in each image, int (n,); more than trials, as false alarms can be, count as all of them.
        trials: in each image, int (n,); those without any are left out.
    """
    events, trials = (np.asarray(a, dtype=np.float64)[np.asarray(trials) > 0] for a in (events, trials))
    if len(trials) < 2:
        return 0.0
    events, total = np.minimum(events, trials), trials.sum()
    rate = events.sum() / total
    by_chance = rate * (1 - rate)
    spread = (trials * (events / trials - rate) ** 2).sum()
    room = total - (trials**2).sum() / total - (len(trials) - 1)
    return float(max(spread - (len(trials) - 1) * by_chance, 0) / room) if room > 0 else 0.0


def elsewhere(by_set: Mapping[str, ErrorRates]) -> ErrorRates:
    """Error rates to expect in a laboratory that is none of those measured, from each one's when it was left out of the training.

    The mean over laboratories, whatever their number of cells, with the variance between them as for the prediction of a further one
    (Higgins, Thompson and Spiegelhalter 2009, JRSS A 172(1), 137-159, eq. 12), Student's quantile for so few being in it.

    Returns:
        `UNMEASURED` where fewer than two laboratories have infected cells, or healthy ones: the spread between them is not known then.
    """
    with_infected = [e for e in by_set.values() if e.infected]
    with_healthy = [e for e in by_set.values() if e.healthy]
    if min(len(with_infected), len(with_healthy)) < 2:
        return UNMEASURED
    infected, healthy = sum(e.infected for e in with_infected), sum(e.healthy for e in with_healthy)
    missed = np.array([1 - e.found / e.infected for e in with_infected])
    alarms = np.array([min(e.false_alarms / e.healthy, 1) for e in with_healthy])
    return ErrorRates(
        infected,
        round(infected * (1 - missed.mean())),
        healthy,
        round(healthy * alarms.mean()),
        misses_vary=float(np.mean([e.misses_vary for e in with_infected])),
        alarms_vary=float(np.mean([e.alarms_vary for e in with_healthy])),
        misses_differ=_of_a_further_one(missed),
        alarms_differ=_of_a_further_one(alarms),
    )


def _of_a_further_one(rates: np.ndarray) -> float:
    """Variance that makes a normal 95 % interval as wide as Student's for one more of such rates."""
    n = len(rates)
    widened = float(t.ppf(0.975, n - 1) / norm.ppf(0.975))
    return float(np.var(rates, ddof=1)) * (1 + 1 / n) * widened**2
