"""Candidate boxes, by a file or package for each method.

In: an image. Out: boxes (n, 4) and their scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.proposals.learned.prediction import CentreNetwork, ScoredBoxes, learned_boxes, seen_mirrored
from malaria_cells.proposals.learned.remembered_trials import RememberedTrials
from malaria_cells.proposals.learned.scale import detect_at_own_scale, estimate_scale, own_scale
from malaria_cells.proposals.learned.settings import ProposalSettings
from malaria_cells.proposals.methods import LEARNED, METHODS, check_method
from malaria_cells.proposals.watershed import estimate_cell_size

Margins = tuple[float, float, float, float]

_NO_MARGINS: Margins = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Proposer:
    """Finds candidates.

    Attributes:
        method: ``learned`` (centres predicted by a network), or one of `METHODS`.
        cell_size: median longer side of a cell in pixels; None: estimated for each image.
        cell_sizes: reference cell sizes of the data sets that the network was trained on, if there were several.
        follows: whether learned proposals estimate the cell size of each image (see `scale`), or take `cell_size` as it is.
        margins: box offsets by source: corrections of the left, top, right and bottom edges in cell sizes, fitted to the boxes of the
            training images.
        network: of the method ``learned``.
        views: number of mirrored views that the network averages, 1, 2 or 4.
        settings: tuned values of the learned proposals, those of the model.
    """

    method: str = "watershed"
    cell_size: float | None = None
    margins: Mapping[str, Margins] = field(default_factory=dict)
    network: CentreNetwork | None = None
    views: int = 1
    follows: bool = True
    cell_sizes: tuple[float, ...] = ()
    settings: ProposalSettings = field(default=ProposalSettings())

    def __post_init__(self) -> None:
        check_method(self.method)
        if self.method == LEARNED and self.network is None:
            raise InputError(
                "--proposals learned: this model holds no learned proposer; train one with `proposals: learned`, or use watershed"
            )

    @property
    def reference_sizes(self) -> tuple[float, ...]:
        """Sizes of a cell in pixels at which cells are expected: that set by the user, or those of the training."""
        if self.cell_size is None:
            return ()
        return self.cell_sizes if len(self.cell_sizes) > 1 and self.follows else (self.cell_size,)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Candidate boxes alone; see `candidates`."""
        return self.candidates(image)[0]

    def candidates(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Candidates of an image.

        Args:
            image: uint8 RGB (H, W, 3).

        Returns:
            float32 (n, 4), xyxy in pixels, inside the image, with area; and float32 (n,), the proposal scores, 0 to 1
            (1 from methods that give none).
        """
        boxes, scores, _ = self.screened_candidates(image)
        return boxes, scores

    def screened_candidates(self, image: np.ndarray) -> ScoredBoxes:
        """Candidates of an image as `candidates` returns them, with what the network's screening head tells of each.

        Args:
            image: uint8 RGB (H, W, 3).
        """
        if self.method == LEARNED and self.network is not None:
            boxes, scores, screening = self._learned(image, self.network)
        else:
            boxes = self._classical(image, self.cell_size or estimate_cell_size(image))
            scores, screening = np.ones(len(boxes), dtype=np.float32), None
        height, width = image.shape[:2]
        inside = np.clip(boxes, 0, np.array([width, height] * 2, dtype=np.float32))
        has_area = (inside[:, 2:] - inside[:, :2] >= 1).all(axis=1)
        return ScoredBoxes(inside[has_area], scores[has_area], None if screening is None else screening[has_area])

    def sized_by(self, part: np.ndarray) -> "Proposer":
        """A copy that takes the cell size which part of an image shows for all parts of that image.

        Args:
            part: uint8 RGB (h, w, 3), from the middle of the image.
        """
        size = self.cell_size
        if self.method != LEARNED or self.network is None:
            size = size or estimate_cell_size(part)
        elif size is None or self.follows:
            trials = RememberedTrials(self.network, part)
            detect = partial(learned_boxes, trials.network, min_score=self.settings.min_score, to_scale=trials.to_working_scale)
            size = own_scale(detect, part, self.settings, size, self.reference_sizes)
        return replace(self, cell_size=size, follows=False)

    def _learned(self, image: np.ndarray, network: CentreNetwork) -> ScoredBoxes:
        settings = self.settings
        trials = RememberedTrials(network, image)
        search = partial(learned_boxes, min_score=settings.min_score, to_scale=trials.to_working_scale)
        detect = partial(search, seen_mirrored(trials.network, self.views), image)
        detect_fast = partial(search, trials.network)
        if self.cell_size is None:
            return detect(estimate_scale(detect_fast, image, settings))
        if not self.follows:
            return detect(self.cell_size)
        return detect_at_own_scale(detect, detect_fast, image, settings, self.cell_size, self.reference_sizes)

    def _classical(self, image: np.ndarray, cell_size: float) -> np.ndarray:
        sources = proposals_by_source(self.method, image, cell_size)
        moved = [boxes + np.asarray(self.margins.get(name, _NO_MARGINS), dtype=np.float32) * cell_size for name, boxes in sources.items()]
        return np.concatenate(moved)


def proposals_by_source(method: str, image: np.ndarray, cell_size: float) -> dict[str, np.ndarray]:
    """Return the boxes of each source of a method, without offsets: float32 (n, 4) each.

    Raises:
        InputError: the method is unknown, or needs a network.
    """
    if method == LEARNED:
        raise InputError(f"proposals: '{method}' finds no boxes without a network; expected one of {', '.join(METHODS)}")
    return METHODS[method](image, cell_size)


__all__ = [
    "METHODS",
    "CentreNetwork",
    "Margins",
    "ProposalSettings",
    "Proposer",
    "ScoredBoxes",
    "check_method",
    "estimate_cell_size",
    "proposals_by_source",
]
