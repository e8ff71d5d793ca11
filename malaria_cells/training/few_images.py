"""Calibration and thresholds for few images: averages of those fitted to these images and the start model's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.calibration import Calibration, InfectionSigmoid, fit_calibration, infection_log_odds
from malaria_cells.inference.decision import DetectionSettings

MIN_INFECTED = 5  # annotated infected cells; with fewer, Platt scaling, infected and candidate threshold stay the start model's
HALFWAY = 10  # annotated infected cells at which the fitted values and the start model's have equal weight
SUSPICIOUS = 0.1  # fraction of the patches, the most infected-looking ones, on which two calibrations are compared
MIN_CELLS = 50  # annotated cells of any class; with fewer, the cell threshold and the proposal weight stay the start model's
FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)  # fractions of the new weights that are compared
CLASS_POWER = 0.5  # weight of a class in the loss: its number of patches to this power, as by the default of `sampling_power`
LOSS_TOLERANCE = 0.005  # mean loss; a larger fraction of new weights must improve it by more than this


def trust(n_infected: int) -> float:
    """Return the weight of the Platt scaling and the thresholds of infection that are fitted to few images, 0 to 1.

    >>> trust(4), trust(10), trust(90)
    (0.0, 0.5, 0.9)
    """
    return 0.0 if n_infected < MIN_INFECTED else n_infected / (n_infected + HALFWAY)


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold predictions: patches classified by networks that were not trained on their images.

    Attributes:
        class_ids: true classes, int64 (n,).
        by_fraction: uncalibrated probabilities for each of `FRACTIONS`, float32 (n, n_classes).
        training_prior: see `calibration.fit_calibration`.
        is_infected: bool (n_classes,).
    """

    class_ids: np.ndarray
    by_fraction: list[np.ndarray]
    training_prior: np.ndarray
    is_infected: np.ndarray

    def calibrated(self, fraction: float) -> tuple[np.ndarray, Calibration]:
        """Return the uncalibrated probabilities for a fraction of the new weights, and the calibration fitted to them."""
        raw = self.by_fraction[FRACTIONS.index(fraction)]
        return raw, fit_calibration(raw, self.class_ids, self.training_prior, self.is_infected)

    def best_fraction(self) -> tuple[float, dict[str, float]]:
        """Return the fraction of the new weights with the lowest loss, and the loss by fraction.

        The loss is the mean of -log p over classes, each weighted by `CLASS_POWER`. With equal weights a stage of one or two cells decides:
        by ten images of bbbc041 that chose the start model's weights, although all new ones rank infected cells best (docs/results.md).
        """
        n = np.bincount(self.class_ids)
        weights = n[self.class_ids] ** (CLASS_POWER - 1.0)  # of each patch
        losses = []
        for fraction in FRACTIONS:
            raw, calibration = self.calibrated(fraction)
            nll = -calibration.log_probabilities(raw)[np.arange(len(raw)), self.class_ids]
            losses.append(float(np.average(nll, weights=weights)))
        return nearest_of_best(losses, LOSS_TOLERANCE), {
            str(fraction): round(loss, 4) for fraction, loss in zip(FRACTIONS, losses, strict=True)
        }


def nearest_of_best(losses: list[float], tolerance: float) -> float:
    """Return the smallest fraction whose loss is within `tolerance` of the lowest.

    >>> nearest_of_best([0.9, 0.31, 0.308], 0.005)
    0.25
    """
    return next(fraction for fraction, loss in zip(FRACTIONS, losses, strict=True) if loss <= min(losses) + tolerance)


def start_in_new_classes(start: Calibration, columns: Sequence[int | None], is_infected: np.ndarray) -> Calibration:
    """Return the start model's calibration for the classes of the new model, without Platt scaling.

    Args:
        start: the start model's calibration.
        columns: for each class of the new model its index in the start model; None: it is new.
        is_infected: bool (n_classes,), the infected classes of the new model.
    """
    ratio = np.array([np.nan if i is None else start.log_prior_ratio[i] for i in columns])
    for part in (is_infected, ~is_infected):  # a new class gets the mean of the other infected, or not infected, classes
        known = ratio[part & ~np.isnan(ratio)]
        ratio[part & np.isnan(ratio)] = known.mean() if len(known) else 0.0
    return Calibration(start.temperature, start.shift, tuple(ratio.tolist()))


def carried_over(
    scaling: InfectionSigmoid | None, start: Calibration, fitted: Calibration, raw: np.ndarray, is_infected: np.ndarray
) -> InfectionSigmoid:
    """Return the start model's Platt scaling, converted to another temperature and shift.

    The scaling was fitted to log-odds under the start model's temperature and priors. They depend nearly linearly on the log-odds under
    the new ones: the slope is the ratio of the temperatures; the offset is measured on the most infected-looking patches.

    Args:
        scaling: the start model's Platt scaling; None: it has none.
        start: see `start_in_new_classes`.
        fitted: the new calibration; its own Platt scaling is ignored.
        raw: uncalibrated probabilities of patches, float (n, n_classes).
        is_infected: bool (n_classes,), with both values present.
    """
    before, now = (infection_log_odds(replace(c, infection=None).log_probabilities(raw), is_infected) for c in (start, fitted))
    steepness = fitted.temperature / start.temperature
    suspicious = np.argsort(-now)[: max(round(SUSPICIOUS * len(now)), 1)]
    offset = float(np.median((before - steepness * now)[suspicious]))
    slope_before, offset_before = (1.0, 0.0) if scaling is None else (scaling.slope, scaling.offset)
    return InfectionSigmoid(tuple(is_infected.tolist()), slope_before * steepness, offset_before + slope_before * offset)


def blended_calibration(fitted: Calibration, carried: InfectionSigmoid | None, n_infected: int) -> Calibration:
    """Return the fitted calibration with a weighted average of its Platt scaling and the start model's, see `trust`.

    Args:
        fitted: calibration fitted to the few images.
        carried: the start model's Platt scaling, see `carried_over`; None if no class, or every class, is infected.
        n_infected: number of annotated infected cells.
    """
    weight, own_scaling = trust(n_infected), fitted.infection
    if carried is None:
        return fitted
    if own_scaling is None or weight == 0:
        return replace(fitted, infection=carried)
    slope, offset = (_blended(own_scaling, carried, key, weight) for key in ("slope", "offset"))
    return replace(fitted, infection=InfectionSigmoid(own_scaling.classes, slope, offset))


def blended_settings(chosen: DetectionSettings, start: DetectionSettings, n_infected: int, n_cells: int) -> DetectionSettings:
    """Return weighted averages of chosen thresholds and the start model's, see `trust`; the start model's with fewer than `MIN_CELLS`."""
    weight = trust(n_infected)
    infected, candidate = (round(_blended(chosen, start, key, weight), 3) for key in ("infected_threshold", "candidate_threshold"))
    settings = replace(chosen, infected_threshold=infected, candidate_threshold=candidate)
    if n_cells >= MIN_CELLS:
        return settings
    return replace(settings, cell_threshold=start.cell_threshold, proposal_weight=start.proposal_weight)


def _blended(fitted: object, start: object, key: str, weight: float) -> float:
    """Return the average of an attribute, in which the fitted value has the given weight and the start model's the rest."""
    return float(weight * getattr(fitted, key) + (1 - weight) * getattr(start, key))


def describe_few(labels: LabelSet, n_infected: int, n_cells: int) -> list[str]:
    """Return messages, one line each, about the thresholds that stay the start model's because there are too few cells."""
    messages = []
    if n_cells < MIN_CELLS:
        messages.append(
            f"{n_cells} annotated cells are too few to choose the cell threshold (needed: {MIN_CELLS}): the start model's is kept"
        )
    if labels.is_infected.any() and n_infected < MIN_INFECTED:
        messages.append(
            f"{n_infected} annotated infected cells are too few to choose thresholds of infection (needed: {MIN_INFECTED}): the start "
            "model's are kept, and its error rates on infected cells in these images are unknown"
        )
    elif labels.is_infected.any() and n_infected < 3 * HALFWAY:
        messages.append(f"{n_infected} annotated infected cells are few: thresholds of infection are averaged with the start model's")
    return messages
