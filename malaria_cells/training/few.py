"""What is decided from few photographs: how far calibration and thresholds follow them, and how far the start model's stay."""

from dataclasses import dataclass, replace

import numpy as np

from malaria_cells.calibration import Calibration, InfectionSigmoid, fit_calibration
from malaria_cells.detection import DetectionSettings
from malaria_cells.labels import LabelSet

MIN_INFECTED = 5  # annotated infected cells; of fewer nothing is learned about the threshold of infection
HALFWAY = 10  # annotated infected cells, from which on their own fit counts more than the start model's
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
    """Patches that a proposer found in photographs, seen by classifiers that were not trained on these.

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


def blended_calibration(fitted: Calibration, start: Calibration, is_infected: np.ndarray, n_infected: int) -> Calibration:
    """The fitted calibration, its correction of infection drawn towards the start model's where few infected cells tell it.

    Args:
        fitted: to the few photographs.
        start: of the model that was begun with; its classes may be others.
        is_infected: bool (n_classes,), which of the new classes are findings.
        n_infected: annotated infected cells.
    """
    fraction, own, before = trust(n_infected), fitted.findings, start.findings
    if not is_infected.any() or is_infected.all():
        return fitted
    if own is None or fraction == 0:
        kept = None if before is None else InfectionSigmoid(tuple(is_infected.tolist()), before.slope, before.offset)
        return replace(fitted, findings=kept)
    slope, offset = (before.slope, before.offset) if before is not None else (1.0, 0.0)
    mixed = fraction * own.slope + (1 - fraction) * slope, fraction * own.offset + (1 - fraction) * offset
    return replace(fitted, findings=InfectionSigmoid(own.classes, *mixed))


def blended_settings(chosen: DetectionSettings, start: DetectionSettings, n_infected: int, n_cells: int) -> DetectionSettings:
    """The chosen thresholds, those of infection drawn towards the start model's; all are the start model's where cells are too few."""
    fraction = trust(n_infected)

    def mixed(key: str) -> float:
        return round(fraction * getattr(chosen, key) + (1 - fraction) * getattr(start, key), 3)

    found = replace(chosen, infected_threshold=mixed("infected_threshold"), candidate_threshold=mixed("candidate_threshold"))
    if n_cells >= FEWEST_CELLS:
        return found
    return replace(found, cell_threshold=start.cell_threshold, proposal_weight=start.proposal_weight)


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
