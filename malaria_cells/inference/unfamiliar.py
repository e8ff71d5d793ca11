"""Classification of cells relative to each other, in images of laboratories whose infected cells the training did not contain.

In such an image the classifier's log odds are biased by about the same amount for all cells. Most red cells of a thin smear are healthy,
whatever its stain and microscope, so the log odds relative to the image's median red cell tell more than the log odds themselves. A
sigmoid, fitted on laboratories that were left out of trainings, converts them to a probability of infection.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.special import expit

from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.calibration import SMALLEST
from malaria_cells.inference.error_rates import MAX_NUMBER

MIN_RED_CELLS = 5  # red cells of an image that its median needs
IS_RED_CELL = 0.5  # probability of a red cell, infected or not, from which a candidate counts for the median
MAY_BE_RED_CELL = 0.05  # probability of a red cell from which a candidate is compared at all: so much its infection's may be at most
# Relative evidence after one view, in natural logarithms of the odds, from which a cell is seen in all views: twelve times the odds of the
# median red cell. Any value from 1 to 2.5 finds the same infected cells and false alarms in six laboratories' images (docs/results.md).
FURTHER_VIEWS = 2.5
INVERSE_REGULARIZATION = 1e4  # C of the logistic regression, so large that the penalty has no influence


@dataclass(frozen=True)
class UnfamiliarSigmoid:
    """Platt scaling of the relative evidence for an infection (`relative_evidence`), like `calibration.InfectionSigmoid`.

    Platt 1999, "Probabilistic outputs for support vector machines".

    Attributes:
        slope: factor of the evidence, over 0.
        offset: log odds of infection of the median red cell; far below 0.
    """

    slope: Annotated[float, Field(gt=0)]
    offset: float

    def check(self, name: str) -> None:
        """Check that both parameters are finite and not larger than `MAX_NUMBER`.

        Args:
            name: of the key that holds them, with which the error message begins.

        Raises:
            ValueError: a parameter is NaN or too large.
        """
        if not all(abs(value) <= MAX_NUMBER for value in (self.slope, self.offset)):  # false for NaN too
            raise ValueError(f"{name}: found {vars(self)}, expected numbers up to {MAX_NUMBER:.0e}")

    def __call__(self, relative: np.ndarray) -> np.ndarray:
        """Probability that red cells with this relative evidence, float (n,), are infected: float (n,)."""
        return expit(self.slope * relative + self.offset)


@dataclass(frozen=True)
class Evidence:
    """Relative evidence of annotated cells.

    Attributes:
        relative: see `relative_evidence`, float (n,).
        is_infected: whether each cell is annotated as infected, bool (n,).
    """

    relative: np.ndarray
    is_infected: np.ndarray


def applies_to(labels: LabelSet) -> bool:
    """Whether there are healthy and infected red cells among the labels."""
    return bool(labels.is_infected.any() and labels.is_healthy_red_cell.any())


def red_cell(probabilities: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Probability of a red cell, infected or healthy: float (n,)."""
    return probabilities[:, : len(labels)][:, labels.is_red_cell].sum(axis=1)


def log_ratio(probabilities: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Evidence for an infection: log(P(infected) / P(healthy red cell)), float64 (n,)."""
    p = probabilities[:, : len(labels)].astype(np.float64)
    infected, healthy = p[:, labels.is_infected].sum(axis=1), p[:, labels.is_healthy_red_cell].sum(axis=1)
    return np.log(np.maximum(infected, SMALLEST)) - np.log(np.maximum(healthy, SMALLEST))


def relative_evidence(evidence: np.ndarray, is_red_cell: np.ndarray) -> np.ndarray | None:
    """Evidence minus that of the image's median red cell, float (n,); None with fewer than `MIN_RED_CELLS` red cells.

    Args:
        evidence: `log_ratio` of each candidate of an image, float (n,).
        is_red_cell: whether each candidate is a red cell, bool (n,).
    """
    if is_red_cell.sum() < MIN_RED_CELLS:
        return None
    return evidence - np.median(evidence[is_red_cell])


def corrected(
    probabilities: np.ndarray, refined: np.ndarray, relative: np.ndarray, sigmoid: UnfamiliarSigmoid, labels: LabelSet
) -> np.ndarray:
    """Redistribute the probability of a red cell between infected and healthy; the probabilities of other classes do not change.

    Args:
        probabilities: calibrated as for a familiar image, float (n, n_classes).
        refined: uncalibrated probabilities of the refiner, float (n, n_classes), which set the proportions of the stages.
        relative: see `relative_evidence`, float (n,).
        sigmoid: from relative evidence to the probability of infection.
        labels: the classes.

    Returns:
        float (n, n_classes).
    """
    infected = np.pad(labels.is_infected, (0, probabilities.shape[1] - len(labels)))
    healthy = np.pad(labels.is_healthy_red_cell, (0, probabilities.shape[1] - len(labels)))
    either = probabilities[:, infected | healthy].sum(axis=1, keepdims=True)
    fraction = sigmoid(relative)[:, None]
    result = probabilities.copy()
    result[:, infected] = either * fraction * _in_proportion(refined[:, infected])
    result[:, healthy] = either * (1 - fraction) * _in_proportion(probabilities[:, healthy])
    return result


def fit_unfamiliar(evidence: Mapping[str, Evidence]) -> UnfamiliarSigmoid | None:
    """Fit the sigmoid on data sets that were left out of trainings.

    Data sets with infected cells have equal weights, as have data sets without, and both groups have the same total weight. Without the
    second group, one in a hundred healthy cells of a laboratory without malaria would be called infected.

    Args:
        evidence: evidence of each data set by its name.

    Returns:
        The sigmoid; None if there are not both infected and healthy cells, or if infected cells do not have more evidence.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import, and detection does not fit

    sets = [one_set for one_set in evidence.values() if len(one_set.relative)]
    is_infected = np.concatenate([one_set.is_infected for one_set in sets]) if sets else np.zeros(0, dtype=bool)
    if len(set(is_infected.tolist())) < 2:
        return None
    relative = np.concatenate([one_set.relative for one_set in sets])
    has_infected = np.array([one_set.is_infected.any() for one_set in sets])
    set_weights = np.where(has_infected, 1 / has_infected.sum(), 1 / max((~has_infected).sum(), 1))
    sizes = [len(one_set.relative) for one_set in sets]
    weights = np.concatenate([np.full(size, weight / size) for size, weight in zip(sizes, set_weights, strict=True)])
    fitted = LogisticRegression(C=INVERSE_REGULARIZATION).fit(relative[:, None], is_infected, weights * (len(weights) / weights.sum()))
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return UnfamiliarSigmoid(slope, offset) if slope > 0 else None


def _in_proportion(values: np.ndarray) -> np.ndarray:
    values = np.maximum(values, SMALLEST)
    return values / values.sum(axis=1, keepdims=True)
