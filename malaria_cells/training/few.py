"""What is decided from few images: how far calibration and thresholds follow them, and how far the start model's stay."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.calibration import Calibration, InfectionSigmoid, fit_calibration, infection_log_odds
from malaria_cells.inference.detector import DetectionSettings

MIN_INFECTED = 5  # annotated infected cells; of fewer nothing is learned about the threshold of infection
HALFWAY = 10  # annotated infected cells, from which on their own fit counts more than the start model's
SUSPICIOUS = 0.1  # fraction of the patches, those that look most infected, on which two calibrations are compared
FEWEST_CELLS = 50  # of any class, for the thresholds of cells
FRACTIONS = (0.0, 0.5, 1.0)  # of the new weights, that are compared
WORTH = 0.005  # by so much a larger fraction must be better: between equals the one nearer to what was learned is taken


def trust(n_infected: int) -> float:
    """How far infection's own fit is followed, 0 to 1, by the number of annotated infected cells.

    >>> trust(4), trust(10), trust(90)
    (0.0, 0.5, 0.9)
    """
    return 0.0 if n_infected < MIN_INFECTED else n_infected / (n_infected + HALFWAY)


@dataclass(frozen=True)
class OutOfFold:
    """Patches that a proposer found in images, seen by classifiers that were not trained on these.

    Attributes:
        class_ids: true classes, int64 (n,).
        by_fraction: for each of `FRACTIONS`, probabilities that are not calibrated, float32 (n, n_classes).
        training_prior: see `calibration.fit_calibration`.
        is_infected: bool (n_classes,).
    """

    class_ids: np.ndarray
    by_fraction: list[np.ndarray]
    training_prior: np.ndarray
    is_infected: np.ndarray

    def calibrated(self, fraction: float) -> tuple[np.ndarray, Calibration]:
        """The probabilities of a fraction of the new weights, and the calibration that fits them."""
        raw = self.by_fraction[FRACTIONS.index(fraction)]
        return raw, fit_calibration(raw, self.class_ids, self.training_prior, self.is_infected)

    def best_fraction(self) -> tuple[float, dict[str, float]]:
        """The fraction of the new weights that tells classes apart best, and the loss of each: the mean over classes of -log p."""
        losses = []
        for fraction in FRACTIONS:
            raw, fitted = self.calibrated(fraction)
            each = -fitted.log_probabilities(raw)[np.arange(len(raw)), self.class_ids]
            losses.append(float(np.mean([each[self.class_ids == c].mean() for c in np.unique(self.class_ids)])))
        return nearest_of_best(losses, WORTH), {str(fraction): round(loss, 4) for fraction, loss in zip(FRACTIONS, losses, strict=True)}


def nearest_of_best(losses: list[float], worth: float) -> float:
    """The smallest fraction whose loss is within `worth` of the least.

    >>> nearest_of_best([0.9, 0.31, 0.308], 0.005)
    0.5
    """
    return next(fraction for fraction, loss in zip(FRACTIONS, losses, strict=True) if loss <= min(losses) + worth)


def start_in_new_classes(start: Calibration, columns: Sequence[int | None], is_infected: np.ndarray) -> Calibration:
    """The start model's calibration of the classes of the new model, without its Platt scaling.

    Args:
        start: the start model's calibration.
        columns: for each new class the start model's class that it was; None: it is new.
        is_infected: bool (n_classes,), which of the new classes are infected.
    """
    ratio = np.array([np.nan if i is None else start.log_prior_ratio[i] for i in columns])
    for part in (is_infected, ~is_infected):  # a new class is as frequent as its like
        known = ratio[part & ~np.isnan(ratio)]
        ratio[part & np.isnan(ratio)] = known.mean() if len(known) else 0.0
    return Calibration(start.temperature, start.shift, tuple(ratio.tolist()))


def carried_over(
    scaling: InfectionSigmoid | None, start: Calibration, fitted: Calibration, raw: np.ndarray, is_infected: np.ndarray
) -> InfectionSigmoid:
    """The start model's Platt scaling, for probabilities to which another temperature and shift are applied.

    It was fitted to log-odds under the start model's temperature and priors. Those depend nearly linearly on the log-odds under the new
    ones: the slope is the ratio of the temperatures, the offset is measured on the patches that look most infected.

    Args:
        scaling: of the start model; None: it had none.
        start: see `start_in_new_classes`.
        fitted: the new calibration; its own Platt scaling does not count.
        raw: probabilities of patches that are not calibrated, float (n, n_classes).
        is_infected: bool (n_classes,); some are, some are not.
    """
    before, now = (infection_log_odds(replace(c, infection=None).log_probabilities(raw), is_infected) for c in (start, fitted))
    steepness = fitted.temperature / start.temperature
    suspicious = np.argsort(-now)[: max(round(SUSPICIOUS * len(now)), 1)]
    offset = float(np.median((before - steepness * now)[suspicious]))
    slope_before, offset_before = (1.0, 0.0) if scaling is None else (scaling.slope, scaling.offset)
    return InfectionSigmoid(tuple(is_infected.tolist()), slope_before * steepness, offset_before + slope_before * offset)


def blended_calibration(fitted: Calibration, carried: InfectionSigmoid | None, n_infected: int) -> Calibration:
    """The fitted calibration, its Platt scaling drawn towards the start model's if there are few infected cells to fit it to.

    Args:
        fitted: to the few images.
        carried: the start model's Platt scaling, see `carried_over`; None where no class, or every class, is infected.
        n_infected: number of annotated infected cells.
    """
    fraction, own = trust(n_infected), fitted.infection
    if carried is None:
        return fitted
    if own is None or fraction == 0:
        return replace(fitted, infection=carried)
    slope, offset = (_blended(own, carried, key, fraction) for key in ("slope", "offset"))
    return replace(fitted, infection=InfectionSigmoid(own.classes, slope, offset))


def blended_settings(chosen: DetectionSettings, start: DetectionSettings, n_infected: int, n_cells: int) -> DetectionSettings:
    """The chosen thresholds, those of infection drawn towards the start model's; all are the start model's where cells are too few."""
    fraction = trust(n_infected)
    infected, candidate = (round(_blended(chosen, start, key, fraction), 3) for key in ("infected_threshold", "candidate_threshold"))
    found = replace(chosen, infected_threshold=infected, candidate_threshold=candidate)
    if n_cells >= FEWEST_CELLS:
        return found
    return replace(found, cell_threshold=start.cell_threshold, proposal_weight=start.proposal_weight)


def _blended(own: object, start: object, key: str, fraction: float) -> float:
    """A number between the start model's and that which was fitted to the few images, of which `fraction` is taken."""
    return float(fraction * getattr(own, key) + (1 - fraction) * getattr(start, key))


def said_of_few(labels: LabelSet, n_infected: int, n_cells: int) -> list[str]:
    """What was kept of the start model for want of cells, a line each."""
    lines = []
    if n_cells < FEWEST_CELLS:
        lines.append(f"{n_cells} annotated cells are too few to choose thresholds of cells by ({FEWEST_CELLS}): the start model's stay")
    if labels.is_infected.any() and n_infected < MIN_INFECTED:
        lines.append(
            f"{n_infected} annotated infected cells are too few to choose thresholds of infection by ({MIN_INFECTED}): the start "
            "model's stay, and how often it is wrong about infected cells here is not known"
        )
    elif labels.is_infected.any() and n_infected < 3 * HALFWAY:
        lines.append(f"{n_infected} annotated infected cells are few: the thresholds of infection lie between theirs and the start model's")
    return lines
