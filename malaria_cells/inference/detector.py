"""Detectors: from an image to labelled cells by proposals, a classifier, thresholds and non-maximum suppression."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import supervision as sv
from pydantic import Field

from malaria_cells.base.errors import InputError
from malaria_cells.data.images import read_image
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.patches import crop_boxes
from malaria_cells.data.stain import Normalization, normalized
from malaria_cells.inference.classifier import PatchClassifier
from malaria_cells.inference.counting import counted_as
from malaria_cells.inference.error_rates import ErrorRates, expected_elsewhere
from malaria_cells.inference.familiarity import FAMILIAR, Familiarity, FamiliarityModel, measure
from malaria_cells.inference.suppression import NestedBoxes, nested_decay, repeated, suppress
from malaria_cells.inference.unfamiliar import (
    IS_RED_CELL,
    UnfamiliarSigmoid,
    applies_to,
    corrected,
    log_ratio,
    most_suspect,
    red_cell,
    relative_evidence,
)
from malaria_cells.proposals import Proposer

Fraction = Annotated[float, Field(ge=0, le=1)]

FAMILIARITY = "_malaria_cells_familiarity"  # attribute of detections: the familiarity model and its verdict on their image
MAX_SECONDARY = 0.999  # fraction of the operating threshold: maximum score of an infected label other than the cell's own


@dataclass(frozen=True)
class DetectionSettings:
    """Thresholds and options by which the networks' outputs become detections.

    Attributes:
        nms: ``agnostic`` (one label per cell) or ``class``.
        nms_iou: IoU above which the lower-scored box is suppressed.
        score_threshold: minimum score of a detection.
        infected_threshold: operating threshold: the score from which a cell is counted as infected.
        cell_threshold: operating threshold of all other cells: the objectness from which a detection is counted.
        candidate_threshold: probability of infection from which a cell is labelled with its stage. It is lower than the operating
            threshold, so that the ranking of infected cells is not cut off there.
        tta: number of views averaged for each uncertain cell, 1 to 8.
        proposal_weight: exponent of the proposal score in a detection's score; 0: the proposal score is ignored.
    """

    nms: Literal["agnostic", "class"] = "agnostic"
    nms_iou: Fraction = 0.4
    score_threshold: Fraction = 0.05
    infected_threshold: Fraction = 0.5
    cell_threshold: Fraction = 0.5
    candidate_threshold: Fraction = 0.1
    tta: Annotated[int, Field(ge=1, le=8)] = 1
    proposal_weight: Annotated[float, Field(ge=0)] = 0.0


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
    def predict(self, image: np.ndarray) -> Predictions:
        """Run the networks on an image.

        Args:
            image: uint8 RGB (H, W, 3).

        Returns:
            The arguments of `decide`.
        """

    def detect(self, image: np.ndarray | str | Path) -> sv.Detections:
        """Detect the cells of one image.

        Args:
            image: uint8 RGB (H, W, 3), or the path of a file.

        Returns:
            Detections, best score first, with ``data["probabilities"]``, float32 (n, n_classes), the background class last;
            ``data["objectness"]``, float32 (n,), the probability of being a cell; ``data["label_scores"]``, float32 (n, n_labels),
            the score under each label, 0 below the score threshold; ``data["counted_as"]``, int64 (n,), the label that the detection is
            counted as, -1 if it is not counted (see `counting.counted_as`); and ``data["class_name"]``.

        Raises:
            InputError: the file cannot be read.
        """
        if not isinstance(image, np.ndarray):
            image = read_image(Path(image))
        return self.decide(*self.predict(image))

    def decide(
        self,
        boxes_xyxy: np.ndarray,
        probabilities: np.ndarray,
        proposal_scores: np.ndarray | None = None,
        familiarity: Familiarity | None = None,
    ) -> sv.Detections:
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
        labels = self.labels
        objectness = objectness_of(probabilities, len(labels), proposal_scores, self.settings.proposal_weight)
        class_ids, by_label = label_and_score(probabilities, labels, self.settings.candidate_threshold)
        by_label *= objectness[:, None]
        scores = np.take_along_axis(by_label, class_ids[:, None], axis=1)[:, 0]
        keep = scores >= self.settings.score_threshold
        indices = np.flatnonzero(keep)
        groups = class_ids[indices] if self.settings.nms == "class" else None
        indices = indices[suppress(boxes_xyxy[indices], scores[indices], self.settings.nms_iou, groups)]
        if self.settings.nms == "agnostic":
            parts_look_alike = labels.is_red_cell.any() & ~labels.is_red_cell
            decay = nested_decay(boxes_xyxy[indices], class_ids[indices], parts_look_alike, self.nested_boxes)
            scores[indices], objectness[indices] = scores[indices] * decay, objectness[indices] * decay
            by_label[indices] *= decay[:, None]
            indices = indices[scores[indices] >= self.settings.score_threshold]
            indices = indices[np.argsort(-scores[indices], kind="stable")]
        detections = sv.Detections(
            xyxy=boxes_xyxy[indices].reshape(-1, 4),
            confidence=scores[indices],
            class_id=class_ids[indices],
            data={
                "probabilities": probabilities[indices],
                "objectness": objectness[indices],
                "label_scores": self._label_scores(boxes_xyxy[indices], class_ids[indices], by_label[indices]),
                "class_name": np.array([labels.names[i] for i in class_ids[indices]], dtype=object),
            },
        )
        detections.data["counted_as"] = counted_as(detections, labels, self.settings.infected_threshold, self.settings.cell_threshold)
        if familiarity is not None:
            # An attribute and not an entry of `data`, so that the detections of several images can still be merged.
            setattr(detections, FAMILIARITY, (self.known, familiarity))
        return detections

    def familiarity(self, image: np.ndarray, found: sv.Detections) -> Familiarity | None:
        """Similarity of an image to the training images; None if the model does not store their appearance.

        Args:
            image: uint8 RGB (H, W, 3).
            found: its detections as `detect` returns them, those below the operating thresholds included.
        """
        judged_by, verdict = getattr(found, FAMILIARITY, (None, None))
        if verdict is not None and judged_by is self.known:
            return verdict
        if self.known is None or self.measured_cell_size is None:
            return None
        return self.known.judge(measure(image, found, self.labels, self.measured_cell_size))

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

    def _label_scores(self, boxes_xyxy: np.ndarray, class_ids: np.ndarray, by_label: np.ndarray) -> np.ndarray:
        """Scores for the ranking under each label, float32 (n, n_labels); except for the cell's label, 0 below the score threshold."""
        is_class_id = np.eye(len(self.labels), dtype=bool)[class_ids]
        secondary = np.where(by_label >= self.settings.score_threshold, by_label, 0)
        # Secondary scores stay below the operating threshold, so that comparing all scores with it counts a cell as infected once.
        is_infected = self.labels.is_infected
        secondary[:, is_infected] = secondary[:, is_infected].clip(max=MAX_SECONDARY * self.settings.infected_threshold)
        if self.settings.nms == "class":  # class-agnostic suppression leaves no two boxes that overlap by so much
            secondary[repeated(boxes_xyxy, class_ids, len(self.labels), self.settings.nms_iou)] = 0
        return np.where(is_class_id, by_label, secondary).astype(np.float32)

    def with_settings(self, **changes: object) -> Self:
        """A copy with some settings changed."""
        return replace(self, settings=replace(self.settings, **changes))  # type: ignore[arg-type] # the fields are checked by `replace`


@dataclass(frozen=True)
class TwoStageDetector(Detector):
    """Candidate boxes, then a classifier of the patch in each.

    Attributes:
        proposer: from an image to candidate boxes.
        classifier: from patches to probabilities.
        stain: normalization of an image before proposer and classifier, see `stain`.
        unfamiliar: from evidence to the probability of infection on images unlike all training images with infected cells; None: such
            images are treated like any others.
    """

    proposer: Proposer
    classifier: PatchClassifier
    stain: Normalization = "none"
    unfamiliar: UnfamiliarSigmoid | None = None

    @property
    def labels(self) -> LabelSet:
        """The classes."""
        return self.classifier.labels

    def predict(self, image: np.ndarray) -> Predictions:
        """Candidates, class probabilities, and proposal scores; see `Detector.predict`."""
        prepared = self.prepared(image)
        candidates, proposal_scores = self.proposer.candidates(prepared)
        predictions = Predictions(candidates, self.classify(prepared, candidates), proposal_scores)
        if self.unfamiliar is None or self.known is None or not applies_to(self.labels):
            return predictions
        verdict = self.familiarity(image, self.decide(*predictions))
        if verdict is not None and not verdict.infection_known:
            refined, relative = self._relative_evidence(prepared, predictions)
            if relative is not None:
                probabilities = corrected(predictions.probabilities, refined, relative, self.unfamiliar, self.labels)
                predictions = predictions._replace(probabilities=probabilities)
        return predictions._replace(familiarity=verdict)

    def evidence(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Candidates of an image, and their evidence for an infection relative to the image's median red cell (`relative_evidence`).

        Args:
            image: uint8 RGB (H, W, 3).

        Returns:
            Boxes, float32 (n, 4), highest proposal score first; and the evidence, float64 (n,), or None if the labels do not tell infected
            from healthy red cells or the image shows too few red cells.
        """
        prepared = self.prepared(image)
        candidates, proposal_scores = self.proposer.candidates(prepared)
        if proposal_scores is not None:
            order = np.argsort(-proposal_scores, kind="stable")
            candidates, proposal_scores = candidates[order], proposal_scores[order]
        if not applies_to(self.labels):
            return candidates, None
        predictions = Predictions(candidates, self.classify(prepared, candidates), proposal_scores)
        return candidates, self._relative_evidence(prepared, predictions)[1]

    def _relative_evidence(self, prepared: np.ndarray, predictions: Predictions) -> tuple[np.ndarray, np.ndarray | None]:
        """The refiner's uncalibrated probabilities of all candidates, float32 (n, n_classes), and their `relative_evidence`.

        All candidates are refined, not only those that the first classifier calls uncertain: in a laboratory without training images it
        gives one infected cell in four no hint of an infection, and half of the healthy cells one.
        """
        is_red_cell = red_cell(predictions.probabilities, self.labels) >= IS_RED_CELL
        size_hw = self.classifier.refiner_size_hw or self.classifier.image_size_hw
        patches = crop_boxes(prepared, predictions.boxes_xyxy, self.classifier.context, size_hw)
        refined = self.classifier.closest(patches, 1)
        indices = most_suspect(np.where(is_red_cell, log_ratio(refined, self.labels), -np.inf))
        refined[indices] = self.classifier.closest(patches[indices], self.settings.tta)
        return refined, relative_evidence(log_ratio(refined, self.labels), is_red_cell)

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


def objectness_of(probabilities: np.ndarray, n_labels: int, proposal_scores: np.ndarray | None, weight: float) -> np.ndarray:
    """Objectness: the classifier's probability of any label, times the proposal score to the power `weight`; float32 (n,)."""
    objectness = probabilities[:, :n_labels].sum(axis=1)
    return (objectness if proposal_scores is None else objectness * proposal_scores**weight).astype(np.float32)


def label_and_score(probabilities: np.ndarray, labels: LabelSet, candidate_threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The label of each candidate, given that it is a cell, and its score under each label.

    A cell whose probability of infection, summed over the stages, reaches `candidate_threshold` is labelled with its most
    probable stage. The score for a stage is the geometric mean of the probability of infection and that of the stage: the
    first ranks infected cells, the second stages. Any other cell gets its most probable label that is not infected, with its probability
    as the score.

    Args:
        probabilities: float (n, n_classes); a background class after the labels is ignored.
        labels: the classes.
        candidate_threshold: in [0, 1].

    Returns:
        int64 (n,) class ids within the labels and float32 (n, n_labels) scores.
    """
    p = probabilities[:, : len(labels)]
    p = p / np.maximum(p.sum(axis=1, keepdims=True), 1e-9)
    if not labels.is_infected.any():
        return p.argmax(axis=1), p.astype(np.float32)
    p_infected = p[:, labels.is_infected].sum(axis=1)
    stage = np.flatnonzero(labels.is_infected)[p[:, labels.is_infected].argmax(axis=1)]
    other = np.where(labels.is_infected, -1, p).argmax(axis=1)
    is_candidate = p_infected >= candidate_threshold
    if labels.is_infected.all():
        is_candidate[:] = True
    scores = np.where(labels.is_infected, np.sqrt(p_infected[:, None] * p), p)
    return np.where(is_candidate, stage, other), scores.astype(np.float32)
