"""Detector of two stages: candidate boxes, then a classifier of the patch in each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Self

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import LargeImage
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.patches import crop_boxes
from malaria_cells.data.stain import Normalization, Stain, normalized, with_stain
from malaria_cells.inference.classifier import PatchClassifier
from malaria_cells.inference.detector import Detector, Predictions
from malaria_cells.inference.regions import RegionWise, centre
from malaria_cells.inference.screening import Screening
from malaria_cells.inference.unfamiliar import (
    FURTHER_VIEWS,
    IS_RED_CELL,
    MAY_BE_RED_CELL,
    UnfamiliarSigmoid,
    applies_to,
    corrected,
    log_ratio,
    red_cell,
    relative_evidence,
)
from malaria_cells.proposals import Proposer, ScoredBoxes


class Scene(NamedTuple):
    """What the proposer and the classifier say of one image.

    Attributes:
        candidates: finds the candidates.
        classify: from boxes, (n, 4), to class probabilities, see `TwoStageDetector.classify`.
        closest: from boxes, (n, 4), a number of views, and what was given for one view, if that is known, to uncalibrated probabilities,
            see `TwoStageDetector.closest`.
    """

    candidates: Callable[[], ScoredBoxes]
    classify: Callable[[np.ndarray], np.ndarray]
    closest: Callable[..., np.ndarray]


@dataclass(frozen=True)
class TwoStageDetector(Detector):
    """Candidate boxes, then a classifier of the patch in each.

    Attributes:
        proposer: from an image to candidate boxes.
        classifier: from patches to probabilities.
        stain: normalization of an image before proposer and classifier, see `stain`.
        unfamiliar: from evidence to the probability of infection on images unlike all training images with infected cells; None: such
            images are treated like any others.
        screening: which candidates of familiar images are not classified, as the proposer's network has a screening head; None: none.
    """

    proposer: Proposer
    classifier: PatchClassifier
    stain: Normalization = "none"
    unfamiliar: UnfamiliarSigmoid | None = None
    screening: Screening | None = None

    @property
    def labels(self) -> LabelSet:
        """The classes."""
        return self.classifier.labels

    def predict(self, image: np.ndarray | LargeImage) -> Predictions:
        """Candidates, class probabilities, and proposal scores; see `Detector.predict`.

        The screening head learned what is common in the training images, so only where an image is familiar are its settled candidates not
        classified.
        """
        return self._predict_and_decide(image)[0]

    def _detect(self, image: np.ndarray | LargeImage) -> Detections:
        predictions, detections = self._predict_and_decide(image)
        return self.decide(*predictions) if detections is None else detections

    def _predict_and_decide(self, image: np.ndarray | LargeImage) -> tuple[Predictions, Detections | None]:
        """The predictions, and their detections if these were needed to judge the image and the predictions are still the same."""
        scene = self._scene(image)
        proposed = scene.candidates()
        settled = self._settled(proposed)
        predictions = Predictions(proposed.boxes_xyxy, self._screened(scene, proposed, settled), proposed.scores)
        compares = self.unfamiliar is not None and applies_to(self.labels)
        if self.known is None or not (compares or settled.any()):
            return predictions, None
        detections = self.decide(*predictions)
        verdict = self.familiarity(image, detections)
        predictions = predictions._replace(familiarity=verdict)
        if verdict is None or verdict.is_as_learned or not (settled.any() or (compares and not verdict.infection_known)):
            judged = None if verdict is None else (self.known, verdict)
            return predictions, replace(detections, judged=judged)
        return self._classified_whole(scene, proposed, settled, predictions), None

    def _scene(self, image: np.ndarray | LargeImage) -> Scene:
        """What proposer and classifier say of an image: of the whole, or region by region of a large one."""
        if isinstance(image, np.ndarray):
            prepared = self.prepared(image)
            return Scene(
                partial(self.proposer.screened_candidates, prepared), partial(self.classify, prepared), partial(self.closest, prepared)
            )
        proposer = self.proposer.sized_by(with_stain(centre(image), Stain.of_sample(image.overview.sample), self.stain))
        regions = RegionWise(image, self.stain, proposer.cell_size or 1.0, self.classifier.context)
        proposer = replace(proposer, cell_size=regions.cell_size)

        def classify(boxes_xyxy: np.ndarray) -> np.ndarray:
            return regions.of_boxes(boxes_xyxy, lambda pixels, boxes, _: self.classify(pixels, boxes))

        def closest(boxes_xyxy: np.ndarray, views: int, first: np.ndarray | None = None) -> np.ndarray:
            def look(pixels: np.ndarray, boxes: np.ndarray, rows: np.ndarray) -> np.ndarray:
                return self.closest(pixels, boxes, views, None if first is None else first[rows])

            return regions.of_boxes(boxes_xyxy, look)

        return Scene(partial(regions.candidates, proposer.screened_candidates), classify, closest)

    def _classified_whole(self, scene: Scene, proposed: ScoredBoxes, settled: np.ndarray, predictions: Predictions) -> Predictions:
        """The predictions of an image that is not as learned: all candidates classified and, if need be, compared with each other."""
        predictions.probabilities[settled] = scene.classify(proposed.boxes_xyxy[settled])
        verdict = predictions.familiarity
        if self.unfamiliar is not None and applies_to(self.labels) and verdict is not None and not verdict.infection_known:
            refined, relative = self._relative_evidence(scene, predictions)
            if relative is not None:
                probabilities = corrected(predictions.probabilities, refined, relative, self.unfamiliar, self.labels)
                return predictions._replace(probabilities=probabilities)
        return predictions

    def _settled(self, proposed: ScoredBoxes) -> np.ndarray:
        """Whether each candidate is settled by the screening head: bool (n,)."""
        if self.screening is None or proposed.screening is None:
            return np.zeros(len(proposed.boxes_xyxy), dtype=bool)
        return self.screening.settles(proposed.screening)

    def _screened(self, scene: Scene, proposed: ScoredBoxes, settled: np.ndarray) -> np.ndarray:
        """Class probabilities, of settled candidates by the screening head, of the others by the classifiers: float32 (n, n_classes)."""
        classified = scene.classify(proposed.boxes_xyxy[~settled])
        probabilities = np.empty((len(settled), classified.shape[1]), dtype=np.float32)
        probabilities[~settled] = classified
        if self.screening is not None and proposed.screening is not None and settled.any():
            probabilities[settled] = self.screening.probabilities(proposed.screening[settled])
        return probabilities

    def evidence(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Candidates of an image, and their evidence for an infection relative to the image's median red cell (`relative_evidence`).

        Args:
            image: uint8 RGB (H, W, 3).

        Returns:
            Boxes, float32 (n, 4), highest proposal score first; and the evidence, float64 (n,), or None if the labels do not tell infected
            from healthy red cells or the image shows too few red cells.
        """
        scene = self._scene(image)
        candidates, proposal_scores, _ = scene.candidates()
        if proposal_scores is not None:
            order = np.argsort(-proposal_scores, kind="stable")
            candidates, proposal_scores = candidates[order], proposal_scores[order]
        if not applies_to(self.labels):
            return candidates, None
        predictions = Predictions(candidates, scene.classify(candidates), proposal_scores)
        return candidates, self._relative_evidence(scene, predictions)[1]

    def _relative_evidence(self, scene: Scene, predictions: Predictions) -> tuple[np.ndarray, np.ndarray | None]:
        """The refiner's uncalibrated probabilities of all red cells, float32 (n, n_classes), and their `relative_evidence`.

        All red cells are refined, not only those that the first classifier calls uncertain: in a laboratory without training images it
        gives one infected cell in four no hint of an infection, and half of the healthy cells one. A candidate that is hardly a red cell
        keeps its probabilities, and has the evidence of the median one.
        """
        red = red_cell(predictions.probabilities, self.labels)
        rows = np.flatnonzero(red >= MAY_BE_RED_CELL)
        is_red_cell = red[rows] >= IS_RED_CELL
        boxes_xyxy = predictions.boxes_xyxy[rows]
        seen = scene.closest(boxes_xyxy, 1)
        evidence = relative_evidence(log_ratio(seen, self.labels), is_red_cell)
        if evidence is None:
            return predictions.probabilities, None
        suspect = np.flatnonzero(evidence >= FURTHER_VIEWS)
        seen[suspect] = scene.closest(boxes_xyxy[suspect], self.settings.tta, seen[suspect])
        refined, relative = predictions.probabilities.copy(), np.zeros(len(red))
        refined[rows], relative[rows] = seen, relative_evidence(log_ratio(seen, self.labels), is_red_cell)
        return refined, relative

    def prepared(self, image: np.ndarray) -> np.ndarray:
        """An image with normalized stain, as the proposer and the classifier expect it: uint8 RGB (H, W, 3)."""
        return normalized(image, self.stain)

    def with_proposals(self, method: str) -> Self:
        """A copy with another proposal method."""
        return replace(self, proposer=replace(self.proposer, method=method))

    def with_cell_size(self, cell_size: float) -> Self:
        """A copy with a fixed cell size, the median longer side of a cell in pixels, instead of one estimated for each image.

        Raises:
            InputError: the size is not positive and finite.
        """
        if not 0 < cell_size < np.inf:
            raise InputError(f"cell_size: found {cell_size}, expected the median longer side of a cell in pixels")
        return replace(self, proposer=replace(self.proposer, cell_size=cell_size, follows=False))

    def classify(self, image: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Class probabilities of boxes: float32 (n, n_classes).

        Args:
            image: as `prepared` returns it.
            boxes_xyxy: (n, 4).
        """
        context, size_hw = self.classifier.context, self.classifier.refiner_size_hw
        crop_for_refiner = None if size_hw is None else lambda rows: crop_boxes(image, boxes_xyxy[rows], context, size_hw)
        return self.classifier(crop_boxes(image, boxes_xyxy, context, self.classifier.image_size_hw), self.settings.tta, crop_for_refiner)

    def closest(self, image: np.ndarray, boxes_xyxy: np.ndarray, views: int, first: np.ndarray | None = None) -> np.ndarray:
        """Uncalibrated probabilities of boxes by the refiner or, if there is none, by the only network: float32 (n, n_classes).

        Args:
            image: as `prepared` returns it.
            boxes_xyxy: (n, 4).
            views: number of views averaged, 1 to 8.
            first: what this method gave for one view, if that is known.
        """
        size_hw = self.classifier.refiner_size_hw or self.classifier.image_size_hw
        return self.classifier.closest(crop_boxes(image, boxes_xyxy, self.classifier.context, size_hw), views, first)
