"""Base class of detectors: from an image to labelled cells, their familiarity, and the error rates to expect."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from malaria_cells.data.detections import Detections
from malaria_cells.data.images import LARGE_PIXELS, LargeImage, as_large, open_image
from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.decision import DetectionSettings, decide
from malaria_cells.inference.error_rates import ErrorRates, expected_elsewhere
from malaria_cells.inference.familiarity import FAMILIAR, Familiarity, FamiliarityModel, measure, measure_fields
from malaria_cells.inference.suppression import NestedBoxes


class Predictions(NamedTuple):
    """Outputs of the networks for an image: the arguments of `Detector.decide`.

    Attributes:
        boxes_xyxy: candidate boxes, float32 (n, 4).
        probabilities: class probabilities, float32 (n, n_classes), the background class last.
        proposal_scores: proposal scores of the boxes, float32 (n,); None: all 1.
        familiarity: verdict on the image if the probabilities depend on it, otherwise None.
    """

    boxes_xyxy: np.ndarray
    probabilities: np.ndarray
    proposal_scores: np.ndarray | None = None
    familiarity: Familiarity | None = None


@dataclass(frozen=True)
class Detector(ABC):
    """Base class of detectors. Subclasses produce boxes and probabilities; thresholding and non-maximum suppression are shared.

    Attributes:
        settings: thresholds.
        errors: error rates on the red cells of the validation images; None if unknown.
        errors_elsewhere: error rates on each data set, measured by a training that left the data set out; None if unknown.
        known: appearance of the training images; None in models that were saved before it was stored.
        measured_cell_size: median longer side of a cell in the training images in pixels, with which `known` was measured.
        nested_boxes: what happens to the scores of nested boxes.
    """

    settings: DetectionSettings = field(kw_only=True)
    errors: ErrorRates | None = field(default=None, kw_only=True)
    errors_elsewhere: Mapping[str, ErrorRates] | None = field(default=None, kw_only=True)
    known: FamiliarityModel | None = field(default=None, kw_only=True)
    measured_cell_size: float | None = field(default=None, kw_only=True)
    nested_boxes: NestedBoxes = field(default=NestedBoxes(), kw_only=True)

    @property
    @abstractmethod
    def labels(self) -> LabelSet:
        """The classes."""

    @abstractmethod
    def predict(self, image: np.ndarray | LargeImage) -> Predictions:
        """Run the networks on an image.

        Args:
            image: uint8 RGB (H, W, 3), or an image whose regions are read.

        Returns:
            The arguments of `decide`.
        """

    def detect(self, image: np.ndarray | LargeImage | str | Path) -> Detections:
        """Detect the cells of one image.

        Args:
            image: uint8 RGB (H, W, 3), an image whose regions are read, or the path of a file. An array of more than `LARGE_PIXELS` is
                worked on region by region, too.

        Returns:
            Detections, best score first.

        Raises:
            InputError: the file cannot be read.
        """
        opened = _by_regions_if_large(image if isinstance(image, np.ndarray | LargeImage) else open_image(image))
        try:
            return self._detect(opened)
        finally:
            if isinstance(opened, LargeImage):
                opened.close()

    def _detect(self, image: np.ndarray | LargeImage) -> Detections:
        """Detect the cells of an image, uint8 RGB (H, W, 3), or one whose regions are read."""
        return self.decide(*self.predict(image))

    def decide(
        self,
        boxes_xyxy: np.ndarray,
        probabilities: np.ndarray,
        proposal_scores: np.ndarray | None = None,
        familiarity: Familiarity | None = None,
    ) -> Detections:
        """Label candidates and apply thresholds and non-maximum suppression. The networks need not run again for other thresholds.

        Args:
            boxes_xyxy: candidate boxes, float32 (n, 4).
            probabilities: class probabilities, float32 (n, n_classes).
            proposal_scores: float32 (n,), or None.
            familiarity: verdict on the image, which is stored with the detections: measured again, on probabilities that were corrected
                because of it, it would differ.

        Returns:
            Detections as `detect` returns them.
        """
        detections = decide(boxes_xyxy, probabilities, proposal_scores, self.labels, self.settings, self.nested_boxes)
        return detections if familiarity is None else replace(detections, judged=(self.known, familiarity))

    def familiarity(self, image: np.ndarray | LargeImage, detections: Detections) -> Familiarity | None:
        """Similarity of an image to the training images; None if the model does not store their appearance.

        Args:
            image: uint8 RGB (H, W, 3), or an image whose regions are read.
            detections: its detections as `detect` returns them, those below the operating thresholds included.
        """
        if detections.judged is not None and detections.judged[0] is self.known:
            return detections.judged[1]
        if self.known is None or self.measured_cell_size is None:
            return None
        seen, cell_size = _by_regions_if_large(image), self.measured_cell_size
        if isinstance(seen, np.ndarray):
            return self.known.judge(measure(seen, detections, self.labels, cell_size))
        return self.known.judge(measure_fields(seen, detections, self.labels, cell_size))

    def errors_for(self, *familiarities: Familiarity | None) -> ErrorRates | None:
        """Error rates to expect on images: those of the validation images or, if not all of the images are as learned, those elsewhere.

        If the error rates elsewhere were not measured, those of the validation images also apply to familiar images whose data sets have
        no infected cell.
        """
        if all(f is None or f.is_as_learned for f in familiarities):
            return self.errors
        errors = expected_elsewhere(self.errors_elsewhere or {})
        if not errors.measured and all(f is None or f.level == FAMILIAR for f in familiarities):
            return self.errors
        return errors

    def with_settings(self, **changes: object) -> Self:
        """A copy with some settings changed."""
        return replace(self, settings=replace(self.settings, **changes))  # type: ignore[arg-type] # the fields are checked by `replace`


def _by_regions_if_large(image: np.ndarray | LargeImage) -> np.ndarray | LargeImage:
    """An array of more than `LARGE_PIXELS` as an image whose regions are read, so that it is worked on and judged as its file would be."""
    return as_large(image) if isinstance(image, np.ndarray) and image.shape[0] * image.shape[1] > LARGE_PIXELS else image
