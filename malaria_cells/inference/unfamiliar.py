"""Cells of an image from a laboratory whose infected cells the training has not seen, judged beside each other.

There a network's answers are off by much the same for all cells of an image. Most red cells of a thin smear are healthy, whatever its
stain and its microscope: how much more like an infected cell a cell is than the image's median red cell means more there than the answer
itself. What it means, in probability, is a sigmoid that is measured on laboratories which trainings left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.calibration import SMALLEST
from malaria_cells.inference.counting import LARGEST

FEWEST_RED_CELLS = 5  # of an image: the median of fewer says too little
IS_RED_CELL = 0.5  # probability of being a red cell, infected or not, from which a candidate counts for the median
AGAIN = 0.1  # fraction of the candidates that are seen in all views: the most suspicious ones
FEWEST_AGAIN = 10  # number of candidates that are seen in all views at least
WEAK_PENALTY = 1e4  # of the logistic regression: its C, large enough that the penalty decides nothing


@dataclass(frozen=True)
class UnfamiliarSigmoid:
    """From the evidence for an infection, counted from the median red cell of its image, to a probability.

    Platt 1999, "Probabilistic outputs for support vector machines", as `calibration.InfectionSigmoid`.

    Attributes:
        slope: over 0.
        offset: of the median red cell itself; far under 0.
    """

    slope: Annotated[float, Field(gt=0)]
    offset: float

    def check(self, name: str) -> None:
        """See that both are numbers of a size that a model may hold.

        Raises:
            ValueError: they are not; it begins with `name`.
        """
        if not all(abs(value) <= LARGEST for value in (self.slope, self.offset)):  # which NaN is not, either
            raise ValueError(f"{name}: found {vars(self)}, expected numbers up to {LARGEST:.0e}")

    def __call__(self, relative: np.ndarray) -> np.ndarray:
        """Probability of being infected, of red cells: float (n,)."""
        return expit(self.slope * relative + self.offset)


@dataclass(frozen=True)
class Evidence:
    """What was seen of cells whose state is known.

    Attributes:
        relative: see `relative_evidence`, float (n,).
        is_infected: bool (n,).
    """

    relative: np.ndarray
    is_infected: np.ndarray


def applies_to(labels: LabelSet) -> bool:
    """Whether there are healthy and infected red cells among the labels."""
    return bool(labels.is_infected.any() and labels.is_healthy_red_cell.any())


def red_cell(probabilities: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Probability of being a red cell, infected or not: float (n,)."""
    return probabilities[:, : len(labels)][:, labels.is_red_cell].sum(axis=1)


def log_ratio(probabilities: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Evidence for an infection: log(P(infected) / P(healthy red cell)), float64 (n,)."""
    p = probabilities[:, : len(labels)].astype(np.float64)
    infected, healthy = p[:, labels.is_infected].sum(axis=1), p[:, labels.is_healthy_red_cell].sum(axis=1)
    return np.log(np.maximum(infected, SMALLEST)) - np.log(np.maximum(healthy, SMALLEST))


def relative_evidence(evidence: np.ndarray, is_red_cell: np.ndarray) -> np.ndarray | None:
    """Evidence counted from that of the image's median red cell; None with fewer than `FEWEST_RED_CELLS`.

    Args:
        evidence: of each candidate, float (n,).
        is_red_cell: bool (n,).
    """
    if is_red_cell.sum() < FEWEST_RED_CELLS:
        return None
    return evidence - np.median(evidence[is_red_cell])


def most_suspect(evidence: np.ndarray) -> np.ndarray:
    """Indices of the candidates that are worth further views."""
    wanted = max(int(np.ceil(AGAIN * len(evidence))), FEWEST_AGAIN)
    return np.sort(np.argsort(-evidence, kind="stable")[:wanted])


def corrected(
    probabilities: np.ndarray, closely: np.ndarray, relative: np.ndarray, sigmoid: UnfamiliarSigmoid, labels: LabelSet
) -> np.ndarray:
    """Divide the probability of being a red cell anew between infected and healthy; that of anything else stays.

    Args:
        probabilities: as for a familiar image, float (n, n_classes).
        closely: what the last classifier gave, not calibrated, float (n, n_classes): it says which stage.
        relative: see `relative_evidence`.
        sigmoid: from that to the probability of being infected.
        labels: the classes.
    """
    infected = np.pad(labels.is_infected, (0, probabilities.shape[1] - len(labels)))
    healthy = np.pad(labels.is_healthy_red_cell, (0, probabilities.shape[1] - len(labels)))
    either = probabilities[:, infected | healthy].sum(axis=1, keepdims=True)
    fraction = sigmoid(relative)[:, None]
    found = probabilities.copy()
    found[:, infected] = either * fraction * _in_proportion(closely[:, infected])
    found[:, healthy] = either * (1 - fraction) * _in_proportion(probabilities[:, healthy])
    return found


def fit_unfamiliar(evidence: Mapping[str, Evidence]) -> UnfamiliarSigmoid | None:
    """Fit the sigmoid to laboratories that trainings left out.

    Each counts as much as any other of its kind, and those with infected cells as much together as those without: by the first alone, one
    in a hundred healthy cells of a laboratory without malaria would be called infected.

    Args:
        evidence: by the name of the data set.

    Returns:
        None where there are not both infected and healthy cells, or where infected ones do not stand out.
    """
    seen = [own for own in evidence.values() if len(own.relative)]
    is_infected = np.concatenate([own.is_infected for own in seen]) if seen else np.zeros(0, dtype=bool)
    if len(set(is_infected.tolist())) < 2:
        return None
    relative = np.concatenate([own.relative for own in seen])
    has_infected = np.array([own.is_infected.any() for own in seen])
    of_set = np.where(has_infected, 1 / has_infected.sum(), 1 / max((~has_infected).sum(), 1))
    weights = np.concatenate([np.full(len(own.relative), weight / len(own.relative)) for own, weight in zip(seen, of_set, strict=True)])
    fitted = LogisticRegression(C=WEAK_PENALTY).fit(relative[:, None], is_infected, weights * (len(weights) / weights.sum()))
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return UnfamiliarSigmoid(slope, offset) if slope > 0 else None


def _in_proportion(values: np.ndarray) -> np.ndarray:
    values = np.maximum(values, SMALLEST)
    return values / values.sum(axis=1, keepdims=True)
