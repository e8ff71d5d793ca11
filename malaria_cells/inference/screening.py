"""Screening: most candidates are plainly of the common class or no cells, and the proposal network has seen that already.

The classifier is asked about the others alone. How little of anything else may be suspected for a candidate to be settled is chosen on
validation images (`training.fit_screening`).
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.special import expit

from malaria_cells.inference.error_rates import MAX_NUMBER

SMALLEST = 1e-6  # probability; smaller ones are raised to it before the logarithm
Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Screening:
    """Which candidates are settled by the screening head of the proposal network (`proposals.learned`), and their probabilities.

    Attributes:
        max_other: the head's probability of any class but the common one and background below which a candidate is settled.
        given_cell: probability of each label, given that a settled candidate is a cell: the classifier's mean on validation images.
        slope: factor of the head's log odds of background against the common class, over 0 (Platt scaling).
        offset: what is added to them.
    """

    max_other: Probability
    given_cell: tuple[Probability, ...]
    slope: Annotated[float, Field(gt=0)] = 1.0
    offset: float = 0.0

    def check(self, n_labels: int) -> None:
        """Check what a type cannot tell.

        Raises:
            ValueError: `given_cell` has another length than there are labels or does not add up to 1, or a number is too large.
        """
        if len(self.given_cell) != n_labels or not abs(sum(self.given_cell) - 1) < 1e-3:
            raise ValueError(f"screening.given_cell: found {list(self.given_cell)}, expected {n_labels} probabilities that add up to 1")
        if not all(abs(value) <= MAX_NUMBER for value in (self.slope, self.offset)):  # false for NaN too
            raise ValueError(f"screening: found slope {self.slope} and offset {self.offset}, expected numbers up to {MAX_NUMBER:.0e}")

    def settles(self, screening: np.ndarray) -> np.ndarray:
        """Whether each candidate is settled: bool (n,).

        Args:
            screening: output of the head, float32 (n, 3): common class, background, other.
        """
        return screening[:, 2] < self.max_other

    def probabilities(self, screening: np.ndarray) -> np.ndarray:
        """Class probabilities of settled candidates, the background class last: float32 (n, n_labels + 1).

        Args:
            screening: as in `settles`.
        """
        background = expit(self.slope * background_log_odds(screening) + self.offset)[:, None]
        return np.concatenate([(1 - background) * np.array(self.given_cell), background], axis=1).astype(np.float32)


def background_log_odds(screening: np.ndarray) -> np.ndarray:
    """The head's log odds of background against the common class: float64 (n,)."""
    common, background, _ = np.log(np.maximum(screening.astype(np.float64), SMALLEST)).T
    return background - common
