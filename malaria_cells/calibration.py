"""Makes probabilities mean what they say on cells as they come, although training showed rare classes more often.

Temperature scaling (Guo et al. 2017, arXiv:1706.04599, section 4.2) with a shift by class priors (Saerens et al. 2002,
Neural Computation 14(1), eq. 2.4) whose strength is fitted too: log p' = log p / temperature + shift * log(prior ratio).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

SMALLEST = 1e-7


@dataclass(frozen=True)
class Calibration:
    """Two fitted numbers, and the class priors that one of them acts on.

    Attributes:
        temperature: over 1 softens, under 1 sharpens.
        shift: how much of the difference in class priors is applied, 0 to 1.
        log_prior_ratio: log of (share in life / share shown in training) for each class, (n_classes,).
    """

    temperature: float
    shift: float
    log_prior_ratio: tuple[float, ...]

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
        return log_softmax(logits / self.temperature + self.shift * np.array(self.log_prior_ratio), axis=1)


def fit_calibration(probabilities: np.ndarray, class_ids: np.ndarray, shown_shares: np.ndarray) -> Calibration:
    """Fit temperature and shift by the likelihood of validation patches as they come.

    Args:
        probabilities: float (n, n_classes), uncalibrated.
        class_ids: int (n,).
        shown_shares: float (n_classes,), the share of each class in what training showed (by count times weight).
    """
    n_classes = probabilities.shape[1]
    counts = np.bincount(class_ids, minlength=n_classes)
    in_life = (counts + 0.5) / (counts + 0.5).sum()  # half a cell each: a class that validation lacks is rare, not impossible
    ratio = tuple(float(r) for r in np.log(in_life / np.maximum(shown_shares, SMALLEST)))
    rows = np.arange(len(class_ids))

    def loss(parameters: np.ndarray) -> float:
        candidate = Calibration(float(np.exp(parameters[0])), float(parameters[1]), ratio)
        return -float(candidate.log_probabilities(probabilities)[rows, class_ids].mean())

    fitted = minimize(loss, x0=np.array([0.0, 0.5]), method="L-BFGS-B", bounds=[(np.log(0.2), np.log(5)), (0, 1)])
    return Calibration(float(np.exp(fitted.x[0])), float(fitted.x[1]), ratio)


@dataclass(frozen=True)
class Reliability:
    """How often predictions of about the same probability were right.

    Attributes:
        predicted: mean probability of each bin, float (b,); empty bins are left out.
        right: share that was right, float (b,).
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
