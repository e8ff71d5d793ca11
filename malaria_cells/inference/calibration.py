"""Calibration of class probabilities at the natural class frequencies, although training samples rare classes more often.

Temperature scaling (Guo et al. 2017, arXiv:1706.04599, section 4.2) with a correction for class priors (Saerens et al. 2002,
Neural Computation 14(1), eq. 2.4) whose strength is fitted too: log p' = log p / temperature + shift * log(prior ratio). Healthy
cells and background are nearly all of the patches and dominate that fit. The probability of infection, summed over the stages, is
therefore calibrated by a sigmoid of its own (Platt scaling).
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from scipy.special import log_expit, log_softmax, logsumexp

from malaria_cells.data.partial_labels import split_counts

SMALLEST = 1e-7  # probability; smaller ones are raised to it before the logarithm
SLOPES = (0.2, 5.0)  # bounds of a sigmoid's slope in the fit; temperatures have the same


@dataclass(frozen=True)
class InfectionSigmoid:
    """Platt scaling of the probability of infection; the proportions within infected and within other classes do not change.

    Platt 1999, "Probabilistic outputs for support vector machines": p' = 1 / (1 + exp(-(slope * log(p / (1 - p)) + offset))).

    Attributes:
        classes: whether each class is infected, (n_classes,); neither all nor none are.
        slope: factor of the log odds; over 1 sharpens, under 1 softens.
        offset: added to the log odds; below 0 makes infection less likely.
    """

    classes: tuple[bool, ...]
    slope: float
    offset: float

    def __call__(self, log_probabilities: np.ndarray) -> np.ndarray:
        """Calibrated logarithms of probabilities: float64 (n, n_classes)."""
        is_infected = np.array(self.classes)
        infected, rest = _infected_and_rest(log_probabilities, is_infected)
        logit = self.slope * (infected - rest) + self.offset
        change = np.where(is_infected, (log_expit(logit) - infected)[:, None], (log_expit(-logit) - rest)[:, None])
        return log_probabilities + change


@dataclass(frozen=True)
class Calibration:
    """Fitted parameters of the calibration, and the class priors.

    Attributes:
        temperature: divisor of the logits; over 1 softens, under 1 sharpens.
        shift: fraction of the prior correction that is applied, 0 to 1.
        log_prior_ratio: log of (deployment prior / training prior) of each class, (n_classes,).
        infection: applied last; None if there were no patches to fit it to.
    """

    temperature: Annotated[float, Field(gt=0)]
    shift: float
    log_prior_ratio: tuple[float, ...]
    infection: InfectionSigmoid | None = None

    @staticmethod
    def none(n_classes: int) -> "Calibration":
        """The calibration that changes nothing."""
        return Calibration(1.0, 0.0, (0.0,) * n_classes)

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated probabilities: float32 (n, n_classes), rows sum to 1."""
        return np.exp(self.log_probabilities(probabilities)).astype(np.float32)

    def log_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """Logarithms of the calibrated probabilities: float64 (n, n_classes)."""
        logits = np.log(np.clip(probabilities.astype(np.float64), SMALLEST, 1))
        calibrated = log_softmax(logits / self.temperature + self.shift * np.array(self.log_prior_ratio), axis=1)
        return calibrated if self.infection is None else self.infection(calibrated)


def fit_calibration(
    probabilities: np.ndarray,
    class_ids: np.ndarray,
    training_prior: np.ndarray,
    is_infected: np.ndarray,
    allowed: np.ndarray | None = None,
) -> Calibration:
    """Fit temperature and shift, then the Platt scaling of infection, by the likelihood of validation patches at their natural frequency.

    Args:
        probabilities: float (n, n_classes), uncalibrated.
        class_ids: int (n,).
        training_prior: float (n_classes,), the effective fraction of each class in training (count times weight). A class with 0 gets no
            prior correction.
        is_infected: bool (n_classes,), which classes are infected. Without patches of infected and other classes no sigmoid is fitted.
        allowed: the classes of each class id, bool (n_ids, n_classes), as `partial_labels.allowed_classes` returns them, if some ids stand
            for sets of classes. The likelihood of a set is the sum over its classes; sets with infected and other classes are left out of
            the sigmoid's fit. None: each patch has one class.
    """
    n_classes = probabilities.shape[1]
    allowed = np.eye(n_classes, dtype=bool) if allowed is None else allowed
    counts = split_counts(np.bincount(class_ids, minlength=len(allowed)), allowed)
    # Half a cell is added to each class: one without validation cells is rare, not impossible.
    deployment_prior = (counts + 0.5) / (counts + 0.5).sum()
    # A class without training cells gets no correction: its ratio would be infinite, and would force the shift to 0.
    ratio = tuple(np.where(training_prior > 0, np.log(deployment_prior / np.maximum(training_prior, SMALLEST)), 0.0).tolist())
    certain, uncertain = np.flatnonzero(class_ids < n_classes), np.flatnonzero(class_ids >= n_classes)

    from scipy.optimize import minimize  # slow to import, and detection does not fit

    def loss(parameters: np.ndarray) -> float:
        candidate = Calibration(float(np.exp(parameters[0])), float(parameters[1]), ratio)
        log_p = candidate.log_probabilities(probabilities)
        log_likelihood = log_p[certain, class_ids[certain]]
        if len(uncertain):
            of_sets = logsumexp(np.where(allowed[class_ids[uncertain]], log_p[uncertain], -np.inf), axis=1)
            log_likelihood = np.concatenate([log_likelihood, of_sets])
        return -float(log_likelihood.mean())

    fitted = minimize(loss, x0=np.array([0.0, 0.5]), method="L-BFGS-B", bounds=[(np.log(0.2), np.log(5)), (0, 1)])
    calibration = Calibration(float(np.exp(fitted.x[0])), float(fitted.x[1]), ratio)
    all_infected = (allowed & is_infected).sum(axis=1) == allowed.sum(axis=1)
    any_infected = (allowed & is_infected).any(axis=1)
    known = (all_infected == any_infected)[class_ids]
    positive = all_infected[class_ids[known]]
    if len(set(positive.tolist())) < 2:
        return calibration
    return replace(calibration, infection=_fit_sigmoid(calibration.log_probabilities(probabilities[known]), positive, is_infected))


def _fit_sigmoid(log_probabilities: np.ndarray, positive: np.ndarray, is_infected: np.ndarray) -> InfectionSigmoid:
    evidence = infection_log_odds(log_probabilities, is_infected)
    # Platt's targets (section 2.2): the fewer infected cells there are, the further from 0 and 1 the targets lie.
    target = np.where(positive, (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2))
    return InfectionSigmoid(tuple(is_infected.tolist()), *fit_platt(evidence, target))


def fit_platt(log_odds: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Fit slope, within `SLOPES`, and offset of Platt scaling by cross-entropy.

    Args:
        log_odds: float (n,).
        target: probabilities that the scaled log odds should have, float (n,).
    """
    from scipy.optimize import minimize

    def loss(parameters: np.ndarray) -> float:
        logit = parameters[0] * log_odds + parameters[1]
        return -float((target * log_expit(logit) + (1 - target) * log_expit(-logit)).mean())

    fitted = minimize(loss, x0=np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[SLOPES, (None, None)])
    return float(fitted.x[0]), float(fitted.x[1])


def infection_log_odds(log_probabilities: np.ndarray, is_infected: np.ndarray) -> np.ndarray:
    """Logarithm of P(infected) / P(not infected): float64 (n,)."""
    infected, rest = _infected_and_rest(log_probabilities, is_infected)
    return infected - rest


def _infected_and_rest(log_probabilities: np.ndarray, is_infected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the probability of infection and of its complement: float64 (n,) each."""
    return logsumexp(log_probabilities[:, is_infected], axis=1), logsumexp(log_probabilities[:, ~is_infected], axis=1)


@dataclass(frozen=True)
class Reliability:
    """Points of a reliability diagram; empty bins are left out.

    Attributes:
        predicted: mean probability of each bin, float (b,).
        right: fraction of correct predictions in each bin, float (b,).
        n: number of predictions in each bin, int (b,).
    """

    predicted: np.ndarray
    right: np.ndarray
    n: np.ndarray


def reliability(probabilities: np.ndarray, right: np.ndarray, bins: int = 10) -> Reliability:
    """The points of a reliability diagram (DeGroot and Fienberg 1983, The Statistician 32(1/2)).

    Args:
        probabilities: probability of each prediction, float (n,), 0 to 1.
        right: whether each prediction is correct, bool (n,).
        bins: number of bins of equal width.

    >>> points = reliability(np.array([0.05, 0.05, 0.95, 0.95]), np.array([False, False, True, False]))
    >>> points.right.tolist(), points.n.tolist()
    ([0.0, 0.5], [2, 2])
    """
    bin_ids = np.minimum((probabilities * bins).astype(int), bins - 1)
    n = np.bincount(bin_ids, minlength=bins)
    not_empty = n > 0
    total, hits = (np.bincount(bin_ids, weights=values, minlength=bins)[not_empty] for values in (probabilities, right.astype(float)))
    return Reliability(total / n[not_empty], hits / n[not_empty], n[not_empty])


def calibration_error(probabilities: np.ndarray, class_ids: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of the largest probability (Guo et al. 2017, eq. 3), 0 to 1; 0 without patches."""
    if len(class_ids) == 0:
        return 0.0
    points = reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == class_ids, bins)
    return float((points.n * np.abs(points.right - points.predicted)).sum() / len(class_ids))


def calibration_figures(probabilities: np.ndarray, class_ids: np.ndarray, is_infected: np.ndarray) -> dict[str, Any]:
    """Calibration figures of class probabilities, JSON-ready.

    Args:
        probabilities: float (n, n_classes).
        class_ids: int (n,), true classes.
        is_infected: bool (n_classes,), which classes are infected.

    Returns:
        ``calibration_error`` and, if there are infected classes, in ``infected`` the number of infected cells that is ``expected``
        from the probabilities and the number that is ``annotated``.
    """
    figures: dict[str, Any] = {"calibration_error": calibration_error(probabilities, class_ids)}
    if is_infected.any():
        figures["infected"] = {"expected": float(probabilities[:, is_infected].sum()), "annotated": int(is_infected[class_ids].sum())}
    return figures
