"""Error rates of a detector: counts on annotated images, their variance, and what to expect in a new laboratory."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit  # quantiles of the normal and of Student's distribution

from malaria_cells.base.text import excerpt

MAX_NUMBER = 1e9  # maximum absolute value of any number in a model's description, except for the seed


@dataclass(frozen=True)
class ErrorRates:
    """Errors of a detector on annotated red cells, as counts, from which the uncertainty of the rates follows.

    Attributes:
        infected: number of annotated infected red cells.
        detected: number of annotated infected red cells that were detected (true positives).
        healthy: number of annotated healthy red cells.
        false_alarms: number of detections counted as infected that lie on no infected cell (false positives).
        misses_vary: variance between images, beyond sampling error, of the fraction of missed infected cells.
        alarms_vary: variance between images, beyond sampling error, of false alarms as a fraction of the healthy cells.
        misses_differ: variance between laboratories of the fraction of missed infected cells; more images do not reduce it.
        alarms_differ: variance between laboratories of false alarms as a fraction of the healthy cells.
        measured: whether the errors were measured; if not, there is no interval.
    """

    infected: int
    detected: int
    healthy: int
    false_alarms: int
    misses_vary: float = 0.0
    alarms_vary: float = 0.0
    misses_differ: float = 0.0
    alarms_differ: float = 0.0
    measured: bool = True

    def check(self, name: str) -> None:
        """Check that the values are valid counts and variances.

        Args:
            name: of the key that holds them, with which the error message begins.

        Raises:
            ValueError: a value is negative, NaN or over `MAX_NUMBER`, or `detected` exceeds `infected`.
        """
        counts = self.detected, self.infected - self.detected, self.healthy, self.false_alarms
        variances = self.misses_vary, self.alarms_vary, self.misses_differ, self.alarms_differ
        if not all(0 <= value <= MAX_NUMBER for value in (*counts, *variances)):  # false for NaN too
            raise ValueError(
                f"{name}: found {excerpt(vars(self), 200)}; expected counts and variances from 0 to {MAX_NUMBER:.0e}, where `detected` is "
                "at most `infected`"
            )


UNMEASURED = ErrorRates(0, 0, 0, 0, measured=False)


def extra_variance(events: np.ndarray, trials: np.ndarray) -> float:
    """Variance of a rate between images beyond binomial sampling error; 0 if the observed variance is not larger than that.

    The moment estimate of a beta-binomial distribution, weighted by the number of trials (Kleinman 1973, JASA 68(341), 46-54, eq. 2.3).

    Args:
        events: number of events in each image, int (n,); clipped to the number of trials, which false alarms may exceed.
        trials: number of trials in each image, int (n,); images without any are left out.
    """
    events, trials = (np.asarray(a, dtype=np.float64)[np.asarray(trials) > 0] for a in (events, trials))
    if len(trials) < 2:
        return 0.0
    events, total = np.minimum(events, trials), trials.sum()
    rate = events.sum() / total
    binomial = rate * (1 - rate)
    spread = (trials * (events / trials - rate) ** 2).sum()
    scale = total - (trials**2).sum() / total - (len(trials) - 1)
    return float(max(spread - (len(trials) - 1) * binomial, 0) / scale) if scale > 0 else 0.0


def expected_elsewhere(by_set: Mapping[str, ErrorRates]) -> ErrorRates:
    """Error rates to expect in a new laboratory, predicted from laboratories that were left out of the training.

    The unweighted mean over the laboratories, with the variance of the prediction for a new one (Higgins, Thompson and Spiegelhalter
    2009, JRSS A 172(1), 137-159, eq. 12), which is widened by Student's quantile because they are few.

    Args:
        by_set: error rates of each data set by its name, measured by a training that left it out.

    Returns:
        The expected error rates; `UNMEASURED` if fewer than two laboratories have infected cells, or fewer than two healthy ones, since
        the variance between laboratories is then unknown.
    """
    with_infected = [e for e in by_set.values() if e.infected]
    with_healthy = [e for e in by_set.values() if e.healthy]
    if min(len(with_infected), len(with_healthy)) < 2:
        return UNMEASURED
    infected, healthy = sum(e.infected for e in with_infected), sum(e.healthy for e in with_healthy)
    missed = np.array([1 - e.detected / e.infected for e in with_infected])
    alarms = np.array([min(e.false_alarms / e.healthy, 1) for e in with_healthy])
    return ErrorRates(
        infected,
        round(infected * (1 - missed.mean())),
        healthy,
        round(healthy * alarms.mean()),
        misses_vary=float(np.mean([e.misses_vary for e in with_infected])),
        alarms_vary=float(np.mean([e.alarms_vary for e in with_healthy])),
        misses_differ=_prediction_variance(missed),
        alarms_differ=_prediction_variance(alarms),
    )


def _prediction_variance(rates: np.ndarray) -> float:
    """Variance with which a normal 95 % interval is as wide as Student's prediction interval for one more of such rates."""
    n = len(rates)
    widened = float(stdtrit(n - 1, 0.975) / ndtri(0.975))
    return float(np.var(rates, ddof=1)) * (1 + 1 / n) * widened**2
