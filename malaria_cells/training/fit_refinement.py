"""Chooses which cells are refined, and which of these in several views, on validation patches."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics import average_precision_score

from malaria_cells.inference.calibration import Calibration
from malaria_cells.inference.tta import Refinement

GRID = (0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # thresholds that are compared with the usual one
FURTHER_GRID = (0.15, 0.2, 0.3, 0.4)  # the same for further views; a cell that is as likely infected as not always has them
TOLERANCE = 0.003  # average precision; a difference this small is less than one cell in a hundred
MAX_LOST = 0.005  # fraction of the infected cells that are recognised if all suspicious cells are refined


@dataclass(frozen=True)
class Answers:
    """Uncalibrated probabilities of the same patches, each float (n, n_classes).

    Attributes:
        first: by the first classifier.
        once: with the usual refinement (`Refinement`), in one view.
        refined: with the usual refinement, in all views.
    """

    first: np.ndarray
    once: np.ndarray
    refined: np.ndarray

    def by(self, refinement: Refinement, is_infected: np.ndarray) -> np.ndarray:
        """The probabilities that another refinement gives, which refines no more cells than the usual one."""
        seen = np.where(refinement.undecided(self.once, is_infected)[:, None], self.refined, self.once)
        return np.where(refinement.needed(self.first, is_infected)[:, None], seen, self.first)


def choose_refinement(answers: Answers, class_ids: np.ndarray, is_infected: np.ndarray, calibration: Calibration) -> Refinement:
    """Choose the highest thresholds that change nothing that matters, since a refined cell costs as much as many others.

    How many cells the first classifier suspects depends on its training: of one laboratory's candidates 3 % reached the usual threshold,
    of six laboratories' 8 %. Compared with the usual refinement the ranking of infected cells may lose `TOLERANCE`, and at most `MAX_LOST`
    of the infected cells that it recognises may no longer be recognised.

    Args:
        answers: what the classifiers say of each patch.
        class_ids: class of each patch, int (n,); each is one class.
        is_infected: bool (n_classes,).
        calibration: of the refined probabilities.

    Returns:
        The refinement; the usual one if the patches are not both infected and not.
    """
    usual = Refinement()
    infected = is_infected[class_ids]
    if not infected.any() or infected.all():
        return usual

    def evidence(refinement: Refinement) -> np.ndarray:
        """Calibrated probability of infection of each patch."""
        return np.asarray(calibration(answers.by(refinement, is_infected))[:, is_infected].sum(axis=1))

    whole = evidence(usual)
    precision, recognised = average_precision_score(infected, whole), infected & (whole >= 0.5)

    def highest(compared: Iterable[Refinement], chosen: Refinement) -> Refinement:
        for refinement in compared:
            p = evidence(refinement)
            lost = (recognised & (p < 0.5)).sum()
            if average_precision_score(infected, p) < precision - TOLERANCE or lost > MAX_LOST * recognised.sum():
                break
            chosen = refinement
        return chosen

    chosen = highest((replace(usual, min_infected=threshold) for threshold in GRID), usual)
    if np.array_equal(answers.once, answers.refined):
        return chosen
    return highest((replace(chosen, further_views=threshold) for threshold in FURTHER_GRID), chosen)
