"""Chooses from which probability of an infection on a cell is refined, on validation patches."""

import numpy as np
from sklearn.metrics import average_precision_score

from malaria_cells.inference.calibration import Calibration
from malaria_cells.inference.tta import Refinement

GRID = (0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # thresholds that are compared with the usual one
TOLERANCE = 0.003  # average precision; a difference this small is less than one cell in a hundred
MAX_LOST = 0.005  # fraction of the infected cells that are recognised if all suspicious cells are refined


def choose_refinement(
    first: np.ndarray, refined: np.ndarray, class_ids: np.ndarray, is_infected: np.ndarray, calibration: Calibration
) -> Refinement:
    """Choose the highest threshold that changes nothing that matters, since each refined cell costs as much as several others.

    How many cells the first classifier suspects depends on its training: of one laboratory's candidates 3 % reached the usual threshold,
    of six laboratories' 8 %. From one threshold of the grid to the next, the ranking of infected cells may lose `TOLERANCE`, and at most
    `MAX_LOST` of the infected cells that are recognised at the usual threshold may no longer be recognised.

    Args:
        first: uncalibrated probabilities by the first classifier, float (n, n_classes).
        refined: the same with the usual refinement, see `classifier.Cascade.raw_probabilities`.
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
    suspicion = first[:, is_infected].sum(axis=1)

    def evidence(threshold: float) -> np.ndarray:
        """Calibrated probability of infection of each patch if cells from this threshold on are refined."""
        probabilities = np.where(suspicion[:, None] >= threshold, refined, first)
        return np.asarray(calibration(probabilities)[:, is_infected].sum(axis=1))

    whole = evidence(usual.min_infected)
    precision, recognised = average_precision_score(infected, whole), infected & (whole >= 0.5)
    chosen = usual.min_infected
    for threshold in GRID:
        p = evidence(threshold)
        lost = (recognised & (p < 0.5)).sum()
        if average_precision_score(infected, p) < precision - TOLERANCE or lost > MAX_LOST * recognised.sum():
            break
        chosen = threshold
    return Refinement(min_infected=chosen)
