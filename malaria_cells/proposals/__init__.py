"""Candidate boxes, by a file or package for each method.

In: an image. Out: boxes (n, 4) and their scores.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.proposals.learned.prediction import CentreNetwork, learned_boxes, seen_mirrored
from malaria_cells.proposals.learned.scale import ScoredBoxes, detect_at_own_scale, estimate_scale
from malaria_cells.proposals.outlines import nucleus_boxes, round_boxes
from malaria_cells.proposals.sliding import sliding_boxes
from malaria_cells.proposals.transmission import Field
from malaria_cells.proposals.watershed import estimate_cell_size, watershed_boxes

Margins = tuple[float, float, float, float]

Method = Literal["watershed", "sliding", "learned"]
_NO_MARGINS: Margins = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Proposer:
    """Finds candidates.

    Attributes:
        method: ``learned`` (a network's centres), ``watershed`` (regions by watershed, round outlines, dark nuclei) or
            ``sliding`` (a window of several sizes).
        cell_size: median longer side of a cell in pixels; None: estimated from each image.
        cell_sizes: those of the data sets that the network was trained on, where there were several.
        follows: whether learned proposals look again at an image whose cells seem to be of another size (see `scale`).
        margins: by source, correction of the left, top, right and bottom edges in cell sizes, fitted to how the annotators
            of the training images draw.
        network: of the method ``learned``.
        views: mirror images of the image that it looks at, 1, 2 or 4.
    """

    method: str = "watershed"
    cell_size: float | None = None
    margins: Mapping[str, Margins] = field(default_factory=dict)
    network: CentreNetwork | None = None
    views: int = 1
    follows: bool = True
    cell_sizes: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InputError(f"proposals: '{self.method}' is unknown; expected {', '.join(get_args(Method))}")
        if self.method == "learned" and self.network is None:
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
        if self.method == "learned" and self.network is not None:
            found, scores = self._learned(image, self.network)
        else:
            found = self._classical(image, self.cell_size or estimate_cell_size(image))
            scores = np.ones(len(found), dtype=np.float32)
        height, width = image.shape[:2]
        inside = np.clip(found, 0, np.array([width, height] * 2, dtype=np.float32))
        has_area = (inside[:, 2:] - inside[:, :2] >= 1).all(axis=1)
        return inside[has_area], scores[has_area]

    def _learned(self, image: np.ndarray, network: CentreNetwork) -> ScoredBoxes:
        detect = partial(learned_boxes, seen_mirrored(network, self.views), image)
        detect_fast = partial(learned_boxes, network)
        if self.cell_size is None:
            return detect(estimate_scale(detect_fast, image))
        return (
            detect_at_own_scale(detect, detect_fast, image, self.cell_size, self.reference_sizes)
            if self.follows
            else detect(self.cell_size)
        )

    def _classical(self, image: np.ndarray, cell_size: float) -> np.ndarray:
        sources = find_sources(self.method, image, cell_size)
        moved = [found + np.asarray(self.margins.get(name, _NO_MARGINS), dtype=np.float32) * cell_size for name, found in sources.items()]
        return np.concatenate(moved)


def find_sources(method: str, image: np.ndarray, cell_size: float) -> dict[str, np.ndarray]:
    """Boxes as each source of a method finds them, without margins: float32 (n, 4) each.

    Raises:
        InputError: the method is neither sliding nor watershed, the two that need no network.
    """
    if method == "sliding":
        return {"window": sliding_boxes(image.shape, cell_size)}
    if method != "watershed":
        raise InputError(f"proposals: '{method}' finds no boxes without a network; expected watershed or sliding")
    seen = Field.of(image, cell_size)
    by_name: dict[str, Callable[[Field], np.ndarray]] = {"regions": watershed_boxes, "outlines": round_boxes, "nuclei": nucleus_boxes}
    return {name: find(seen) for name, find in by_name.items()}


__all__ = ["CentreNetwork", "Margins", "Method", "Proposer", "estimate_cell_size", "find_sources"]
