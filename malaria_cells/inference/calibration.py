"""Makes probabilities mean what they say on cells as they come, although training showed rare classes more often.

Temperature scaling (Guo et al. 2017, arXiv:1706.04599, section 4.2) with a shift by class priors (Saerens et al. 2002,
Neural Computation 14(1), eq. 2.4) whose strength is fitted too: log p' = log p / temperature + shift * log(prior ratio). Healthy
cells and background, which are nearly all that there is, decide that fit; so the probability that a cell is infected with
any stage gets a sigmoid of its own.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import log_expit, log_softmax, logsumexp

from malaria_cells.data.partial_labels import split_counts

SMALLEST = 1e-7
SLOPES = (0.2, 5.0)  # between which a sigmoid's slope is sought, as temperatures are


@dataclass(frozen=True)
class InfectionSigmoid:
    """Platt scaling of the probability of infection; the proportions among infected classes, and among the others, stay as they are.

    Platt 1999, "Probabilistic outputs for support vector machines": p' = 1 / (1 + exp(-(slope * log(p / (1 - p)) + offset))).

    Attributes:
        classes: which classes are infected, (n_classes,); some are, some are not.
        slope: over 1 sharpens, under 1 softens.
        offset: below 0 makes infection less likely.
    """

    classes: tuple[bool, ...]
    slope: float
    offset: float

    def __call__(self, log_probabilities: np.ndarray) -> np.ndarray:
        """Correct logarithms of probabilities: float64 (n, n_classes)."""
        is_infected = np.array(self.classes)
        infected, rest = _in_two(log_probabilities, is_infected)
        logit = self.slope * (infected - rest) + self.offset
        change = np.where(is_infected, (log_expit(logit) - infected)[:, None], (log_expit(-logit) - rest)[:, None])
        return log_probabilities + change


@dataclass(frozen=True)
class Calibration:
    """Fitted numbers, and the class priors that one of them acts on.

    Attributes:
        temperature: over 1 softens, under 1 sharpens.
        shift: how much of the difference in class priors is applied, 0 to 1.
        log_prior_ratio: log of (fraction in life / fraction shown in training) for each class, (n_classes,).
        infection: applied after them; None where there was nothing to fit it to.
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
        """Calibrate probabilities (n, n_classes): float32, rows sum to 1."""
        return np.exp(self.log_probabilities(probabilities)).astype(np.float32)

    def log_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """The same in logarithms: float64 (n, n_classes)."""
        logits = np.log(np.clip(probabilities.astype(np.float64), SMALLEST, 1))
        found = log_softmax(logits / self.temperature + self.shift * np.array(self.log_prior_ratio), axis=1)
        return found if self.infection is None else self.infection(found)


def fit_calibration(
    probabilities: np.ndarray,
    class_ids: np.ndarray,
    training_prior: np.ndarray,
    is_infected: np.ndarray,
    allowed: np.ndarray | None = None,
) -> Calibration:
    """Fit temperature and shift, then the Platt scaling of infection, by the likelihood of validation patches at natural frequency.

    Args:
        probabilities: float (n, n_classes), uncalibrated.
        class_ids: int (n,).
        training_prior: float (n_classes,), the fraction of each class in what training showed (by count times weight). The prior of a
            class that it never showed is left as the network has it.
        is_infected: bool (n_classes,), which classes are infected. Without patches of infected and other classes no sigmoid is fitted.
        allowed: from `partial_labels.allowed_classes`, where some class ids are of sets; their likelihood is that of any of the set, and
            those that may or may not be infected have no part in the sigmoid. None: each patch has one class.
    """
    n_classes = probabilities.shape[1]
    allowed = np.eye(n_classes, dtype=bool) if allowed is None else allowed
    counts = split_counts(np.bincount(class_ids, minlength=len(allowed)), allowed)
    deployment_prior = (counts + 0.5) / (counts + 0.5).sum()  # half a cell each: a class that validation lacks is rare, not impossible
    # Nothing is known of a class that training never showed; its true ratio would be endless, and forbid any shift of the others.
    ratio = tuple(np.where(training_prior > 0, np.log(deployment_prior / np.maximum(training_prior, SMALLEST)), 0.0).tolist())
    certain, uncertain = np.flatnonzero(class_ids < n_classes), np.flatnonzero(class_ids >= n_classes)

    def loss(parameters: np.ndarray) -> float:
        candidate = Calibration(float(np.exp(parameters[0])), float(parameters[1]), ratio)
        found = candidate.log_probabilities(probabilities)
        of_rows = found[certain, class_ids[certain]]
        if len(uncertain):
            of_sets = logsumexp(np.where(allowed[class_ids[uncertain]], found[uncertain], -np.inf), axis=1)
            of_rows = np.concatenate([of_rows, of_sets])
        return -float(of_rows.mean())

    fitted = minimize(loss, x0=np.array([0.0, 0.5]), method="L-BFGS-B", bounds=[(np.log(0.2), np.log(5)), (0, 1)])
    calibration = Calibration(float(np.exp(fitted.x[0])), float(fitted.x[1]), ratio)
    surely, possibly = ((allowed & is_infected).sum(axis=1) == allowed.sum(axis=1)), (allowed & is_infected).any(axis=1)
    known = (surely == possibly)[class_ids]
    found = surely[class_ids[known]]
    if len(set(found.tolist())) < 2:
        return calibration
    return replace(calibration, infection=_fit_sigmoid(calibration.log_probabilities(probabilities[known]), found, is_infected))


def _fit_sigmoid(log_probabilities: np.ndarray, found: np.ndarray, is_infected: np.ndarray) -> InfectionSigmoid:
    evidence = infection_log_odds(log_probabilities, is_infected)
    # Platt's targets (section 2.2) claim no more than the number of infected cells can tell.
    target = np.where(found, (found.sum() + 1) / (found.sum() + 2), 1 / ((~found).sum() + 2))

    def loss(parameters: np.ndarray) -> float:
        logit = parameters[0] * evidence + parameters[1]
        return -float((target * log_expit(logit) + (1 - target) * log_expit(-logit)).mean())

    fitted = minimize(loss, x0=np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[SLOPES, (None, None)])
    return InfectionSigmoid(tuple(is_infected.tolist()), float(fitted.x[0]), float(fitted.x[1]))


def infection_log_odds(log_probabilities: np.ndarray, is_infected: np.ndarray) -> np.ndarray:
    """Logarithm of P(infected) / P(not infected): float64 (n,)."""
    infected, rest = _in_two(log_probabilities, is_infected)
    return infected - rest


def _in_two(log_probabilities: np.ndarray, is_infected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the probability of infection and of its opposite: float64 (n,) each."""
    return logsumexp(log_probabilities[:, is_infected], axis=1), logsumexp(log_probabilities[:, ~is_infected], axis=1)


@dataclass(frozen=True)
class Reliability:
    """How often predictions of about the same probability were right.

    Attributes:
        predicted: mean probability of each bin, float (b,); empty bins are left out.
        right: fraction that was right, float (b,).
        n: predictions of each bin, int (b,).
    """

    predicted: np.ndarray
    right: np.ndarray
    n: np.ndarray


def reliability(probabilities: np.ndarray, right: np.ndarray, bins: int = 10) -> Reliability:
    """The points of a reliability diagram (DeGroot and Fienberg 1983, The Statistician 32(1/2)).

    Args:
        probabilities: of each prediction, float (n,), 0 to 1.
        right: bool (n,).
        bins: of equal width.

    >>> found = reliability(np.array([0.05, 0.05, 0.95, 0.95]), np.array([False, False, True, False]))
    >>> found.right.tolist(), found.n.tolist()
    ([0.0, 0.5], [2, 2])
    """
    which = np.minimum((probabilities * bins).astype(int), bins - 1)
    n = np.bincount(which, minlength=bins)
    shown = n > 0
    total, hits = (np.bincount(which, weights=values, minlength=bins)[shown] for values in (probabilities, right.astype(float)))
    return Reliability(total / n[shown], hits / n[shown], n[shown])


def calibration_error(probabilities: np.ndarray, class_ids: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of the largest probability (Guo et al. 2017, eq. 3), 0 to 1; 0 without patches."""
    if len(class_ids) == 0:
        return 0.0
    found = reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == class_ids, bins)
    return float((found.n * np.abs(found.right - found.predicted)).sum() / len(class_ids))


def calibration_figures(probabilities: np.ndarray, class_ids: np.ndarray, is_infected: np.ndarray) -> dict[str, Any]:
    """How honest probabilities are, JSON-ready.

    Args:
        probabilities: float (n, n_classes).
        class_ids: int (n,), true classes.
        is_infected: bool (n_classes,), which classes are infected.

    Returns:
        ``calibration_error`` and, where there are infected classes, in ``infected`` how many are ``expected`` by their
        probabilities and how many are ``annotated``.
    """
    figures: dict[str, Any] = {"calibration_error": calibration_error(probabilities, class_ids)}
    if is_infected.any():
        figures["infected"] = {"expected": float(probabilities[:, is_infected].sum()), "annotated": int(is_infected[class_ids].sum())}
    return figures
