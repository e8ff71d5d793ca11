"""A trial of one cell size: what the proposal network finds in an image at that scale, and how well it fits."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.proposals.learned.prediction import ScoredBoxes
from malaria_cells.proposals.learned.settings import ProposalSettings


@dataclass(frozen=True)
class ScaleTrial:
    """Detections in an image, or in its centre, under the assumption of one cell size.

    Attributes:
        size: assumed longer side of a cell in pixels.
        detections: what was found.
        area: area of the image that was searched, in pixels.
        settings: what counts as consistent, plausible and conclusive.
    """

    size: float
    detections: ScoredBoxes
    area: float
    settings: ProposalSettings

    @cached_property
    def _relative_sizes(self) -> np.ndarray:
        """Predicted size of each detection divided by the assumed one."""
        return np.maximum(boxes.cell_sizes(self.detections.boxes_xyxy) / self.size, 1e-6)

    @cached_property
    def _weights(self) -> np.ndarray:
        """Weight of each detection: its score times its relative size."""
        return self.detections.scores * self._relative_sizes

    @cached_property
    def _is_confident(self) -> np.ndarray:
        """Whether each detection is confident."""
        return self.detections.scores >= self.settings.confident

    @cached_property
    def _is_consistent(self) -> np.ndarray:
        """Whether each detection is confident and of about the assumed size."""
        relative, tolerance = self._relative_sizes, self.settings.size_tolerance
        return self._is_confident & (relative < tolerance) & (relative > 1 / tolerance)

    @cached_property
    def is_plausible(self) -> bool:
        """Whether enough of the detections are consistent with the assumed size."""
        weights, is_consistent = self._weights, self._is_consistent
        enough_weight = weights[is_consistent].sum() >= self.settings.min_consistent * weights.sum()
        return bool(is_consistent.sum() >= self.settings.min_cells and enough_weight)

    @property
    def has_enough_cells(self) -> bool:
        """Whether enough detections are consistent for a size that is not of the training; fewer may be the lobes of a leukocyte."""
        return bool(self._is_consistent.sum() >= boxes.ENOUGH)

    @cached_property
    def median(self) -> float:
        """Median predicted longer side of the consistent detections, in pixels; the assumed size where there are none."""
        relative = self._relative_sizes[self._is_consistent]
        return self.size * float(np.median(relative)) if len(relative) else self.size

    @property
    def corrected_size(self) -> float:
        """Median predicted size, corrected for the network's bias towards the assumed size."""
        return self.size * (self.median / self.size) ** self.settings.shrinkage_power

    @cached_property
    def is_conclusive(self) -> bool:
        """Whether the assumed size fits so well that no other size needs to be tried."""
        if not self.is_plausible or not self.has_enough_cells:
            return False
        low, high = self.settings.conclusive
        return bool(low <= np.median(self._relative_sizes[self._is_confident]) <= high)

    @cached_property
    def evidence(self) -> float:
        """Evidence for the assumed size: the sum over confident detections of size x score x closeness to the assumed size, per area.

        The first power of the size is used: a count would prefer the many specks of an enlarged image, an area the few leukocytes of a
        shrunken one.
        """
        near = np.exp(-0.5 * (np.log(self._relative_sizes) / self.settings.log_size_sd) ** 2)
        return float((self._weights * near)[self._is_confident].sum() * self.size / self.area)
