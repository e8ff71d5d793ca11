"""The results of a run, as they are collected image by image."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from malaria_cells.data.detections import Detections
from malaria_cells.inference.familiarity import Familiarity
from malaria_cells.results.held_results import HeldResults


class Detected(NamedTuple):
    """The result of a detection: the detections of an image, and its familiarity, None if the model has no familiarity model."""

    detections: Detections
    familiarity: Familiarity | None


@dataclass
class RunResults:
    """The results of a run so far.

    Attributes:
        results: detections or class probabilities by image key, in order.
        failed: reason by key of each image that failed.
        not_drawn: reason by key of each image with results whose drawn image could not be written.
        sizes_wh: width and height in pixels by image key.
        familiarity: familiarity by key of the images in `results`; None if the model has no familiarity model.
        seconds: total time for the images in `results`, reading included.
        interrupted: whether the user stopped the run.
    """

    results: HeldResults = field(default_factory=HeldResults)
    failed: dict[str, str] = field(default_factory=dict)
    not_drawn: dict[str, str] = field(default_factory=dict)
    sizes_wh: dict[str, tuple[int, int]] = field(default_factory=dict)
    familiarity: dict[str, Familiarity | None] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False

    def add(self, key: str, size_wh: tuple[int, int], result: Any) -> None:
        """Add the result of an image: `Detected`, or class probabilities."""
        self.sizes_wh[key] = size_wh
        if isinstance(result, Detected):
            self.results[key], self.familiarity[key] = result
        else:
            self.results[key] = result

    def put_in_order(self, keys: Iterable[str]) -> None:
        """Order the results as these keys; a resumed run added them otherwise."""
        self.results = self.results.ordered(keys)
        self.familiarity = {key: self.familiarity[key] for key in self.results if key in self.familiarity}

    @property
    def exit_code(self) -> int:
        """130 if interrupted, 3 if images failed, otherwise 0."""
        return 130 if self.interrupted else 3 if self.reasons else 0

    @property
    def reasons(self) -> dict[str, str]:
        """Reasons why images failed or could not be drawn, by image key."""
        return self.failed | {key: f"is in the tables, but could not be drawn: {why}" for key, why in self.not_drawn.items()}
