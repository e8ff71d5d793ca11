"""Image in, cells out: proposals, classifier, rejection, non-maximum suppression."""

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
from malaria_cells.inference.counting import ErrorRates, counted_as, elsewhere
from malaria_cells.inference.familiarity import FAMILIAR, Familiarity, FamiliarityModel, measure
from malaria_cells.inference.suppression import nested_decay, repeated, suppress
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

Share = Annotated[float, Field(ge=0, le=1)]

FAMILIARITY = "_malaria_cells_familiarity"  # attribute of detections: what judged their image, and the verdict
UNDER = 0.999  # of the operating threshold: what a further infected label scores at most


@dataclass(frozen=True)
class DetectionSettings:
    """What is decided after the classifier has spoken.

    Attributes:
        nms: ``agnostic`` (one label a cell) or ``class``.
        nms_iou: overlap from which the lower-scored box is suppressed.
        score_threshold: detections scored lower are dropped.
        infected_threshold: operating threshold: the score from which a cell is counted as infected.
        cell_threshold: operating threshold of the rest: the probability of being a cell at all from which one is counted.
        candidate_threshold: probability of any infection from which a cell is labelled with its stage at all; lower
            than the operating threshold, so that a ranking has something to rank.
        tta: views averaged for each cell, 1 to 8.
        proposal_weight: power of the proposer's score in a detection's score; 0: it does not count.
    """

    nms: Literal["agnostic", "class"] = "agnostic"
    nms_iou: Share = 0.4
    score_threshold: Share = 0.05
    infected_threshold: Share = 0.5
    cell_threshold: Share = 0.5
    candidate_threshold: Share = 0.1
    tta: Annotated[int, Field(ge=1, le=8)] = 1
    proposal_weight: Annotated[float, Field(ge=0)] = 0.0


class Predictions(NamedTuple):
    """Outputs of the networks for an image: the arguments of `Detector.decide`.

    Attributes:
        boxes_xyxy: candidate boxes, float32 (n, 4).
        probabilities: class probabilities, float32 (n, n_classes), the background class last.
        proposal_scores: scores of the boxes from the proposer, float32 (n,); None: 1.
        familiarity: verdict on the image if the probabilities depend on it, else None.
    """

    boxes_xyxy: np.ndarray
    probabilities: np.ndarray
    proposal_scores: np.ndarray | None = None
    familiarity: Familiarity | None = None


@dataclass(frozen=True)
class Detector(ABC):
    """Base class of detectors. Subclasses produce boxes and probabilities; thresholds and non-maximum suppression are common to all.

    Attributes:
        settings: thresholds.
        errors: how often it was right about the validation images' red cells; None where that is not known.
        errors_elsewhere: the same by data set, each measured by a training that left it out; None where that is not known.
        known: what images of the training look like; None in models of before that was stored.
        measured_cell_size: median longer side of a cell in the training images in pixels, which `known` was measured by.
    """

    settings: DetectionSettings = field(kw_only=True)
    errors: ErrorRates | None = field(default=None, kw_only=True)
    errors_elsewhere: Mapping[str, ErrorRates] | None = field(default=None, kw_only=True)
    known: FamiliarityModel | None = field(default=None, kw_only=True)
    measured_cell_size: float | None = field(default=None, kw_only=True)

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
            image: uint8 RGB (H, W, 3), or a file.

        Returns:
            Detections, best score first, with ``data["probabilities"]``, float32 (n, n_classes), the background class last;
            ``data["objectness"]``, float32 (n,), the probability of being a cell; ``data["label_scores"]``, float32 (n, n_labels),
            its score under each label, 0 where that is out of the question; ``data["counted_as"]``, int64 (n,), the
            label each is counted as, -1 if it is not (see `counting.counted_as`); and ``data["class_name"]``.

        Raises:
            InputError: a file that cannot be read.
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
        """Label candidates, apply thresholds and non-maximum suppression; thresholds can be changed without running the networks again.

        Args:
            boxes_xyxy: see `Predictions`, as are the rest.
            probabilities: float32 (n, n_classes).
            proposal_scores: float32 (n,), or None.
            familiarity: it is kept for `familiarity`, which would measure it anew on other probabilities than it was judged by.
        """
        labels = self.labels
        objectness = objectness_of(probabilities, len(labels), proposal_scores, self.settings.proposal_weight)
        class_ids, by_label = label_and_score(probabilities, labels, self.settings.candidate_threshold)
        by_label *= objectness[:, None]
        scores = np.take_along_axis(by_label, class_ids[:, None], axis=1)[:, 0]
        keep = scores >= self.settings.score_threshold
        kept = np.flatnonzero(keep)
        groups = class_ids[kept] if self.settings.nms == "class" else None
        kept = kept[suppress(boxes_xyxy[kept], scores[kept], self.settings.nms_iou, groups)]
        if self.settings.nms == "agnostic":
            decay = nested_decay(boxes_xyxy[kept], class_ids[kept], labels.is_red_cell.any() & ~labels.is_red_cell)
            scores[kept], objectness[kept] = scores[kept] * decay, objectness[kept] * decay
            by_label[kept] *= decay[:, None]
            kept = kept[scores[kept] >= self.settings.score_threshold]
            kept = kept[np.argsort(-scores[kept], kind="stable")]
        found = sv.Detections(
            xyxy=boxes_xyxy[kept].reshape(-1, 4),
            confidence=scores[kept],
            class_id=class_ids[kept],
            data={
                "probabilities": probabilities[kept],
                "objectness": objectness[kept],
                "label_scores": self._scores_of_all_labels(boxes_xyxy[kept], class_ids[kept], by_label[kept]),
                "class_name": np.array([labels.names[i] for i in class_ids[kept]], dtype=object),
            },
        )
        found.data["counted_as"] = counted_as(found, labels, self.settings.infected_threshold, self.settings.cell_threshold)
        if familiarity is not None:
            # No part of the detections' data: those of several images can still be merged.
            setattr(found, FAMILIARITY, (self.known, familiarity))
        return found

    def familiarity(self, image: np.ndarray, found: sv.Detections) -> Familiarity | None:
        """How like the training images an image is; None where the model does not know what those look like.

        Args:
            image: uint8 RGB (H, W, 3).
            found: what `detect` gave for it, unsure detections included.
        """
        judged_by, verdict = getattr(found, FAMILIARITY, (None, None))
        if verdict is not None and judged_by is self.known:
            return verdict
        if self.known is None or self.measured_cell_size is None:
            return None
        return self.known.judge(measure(image, found, self.labels, self.measured_cell_size))

    def errors_for(self, *familiarities: Familiarity | None) -> ErrorRates | None:
        """Error rates to expect on images: those of the validation part or, if not all are as learned, those elsewhere.

        Where those were not measured, familiar images have those of the validation part, even if no infected cell was seen in such.
        """
        if all(f is None or f.is_as_learned for f in familiarities):
            return self.errors
        errors = elsewhere(self.errors_elsewhere or {})
        if not errors.measured and all(f is None or f.level == FAMILIAR for f in familiarities):
            return self.errors
        return errors

    def _scores_of_all_labels(self, boxes_xyxy: np.ndarray, class_ids: np.ndarray, by_label: np.ndarray) -> np.ndarray:
        """Scores for ranking by label: of what is not the label that a cell has, 0 below the score threshold; (n, n_labels)."""
        own = np.eye(len(self.labels), dtype=bool)[class_ids]
        further = np.where(by_label >= self.settings.score_threshold, by_label, 0)
        # A cell counts as infected once, also to who compares scores with the operating threshold without looking whose they are.
        further[:, self.labels.is_infected] = further[:, self.labels.is_infected].clip(max=UNDER * self.settings.infected_threshold)
        if self.settings.nms == "class":  # else no two boxes overlap by as much
            further[repeated(boxes_xyxy, class_ids, len(self.labels), self.settings.nms_iou)] = 0
        return np.where(own, by_label, further).astype(np.float32)

    def with_settings(self, **changes: object) -> Self:
        """A copy with some settings changed."""
        return replace(self, settings=replace(self.settings, **changes))  # type: ignore[arg-type]


@dataclass(frozen=True)
class TwoStageDetector(Detector):
    """Candidate boxes, then a classifier of the patch in each.

    Attributes:
        proposer: from an image to candidate boxes.
        classifier: from patches to probabilities.
        stain: what is done to an image before both see it, see `stain`.
        unfamiliar: what evidence means on images like none with infected cells in the training; None: what it means on others.
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
        seen = Predictions(candidates, self.classify(prepared, candidates), proposal_scores)
        if self.unfamiliar is None or self.known is None or not applies_to(self.labels):
            return seen
        verdict = self.familiarity(image, self.decide(*seen))
        if verdict is not None and not verdict.infection_known:
            closely, relative = self._beside_each_other(prepared, seen)
            if relative is not None:
                seen = seen._replace(probabilities=corrected(seen.probabilities, closely, relative, self.unfamiliar, self.labels))
        return seen._replace(familiarity=verdict)

    def evidence(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Candidates of an image, float32 (n, 4), and how much more like an infected cell each is than the median red cell, float64 (n,).

        The candidates with the highest proposal scores come first. The second is None where the labels hold no infected red cell, or where
        the image shows too few red cells (`relative_evidence`).

        Args:
            image: uint8 RGB (H, W, 3).
        """
        prepared = self.prepared(image)
        candidates, proposal_scores = self.proposer.candidates(prepared)
        if proposal_scores is not None:
            order = np.argsort(-proposal_scores, kind="stable")
            candidates, proposal_scores = candidates[order], proposal_scores[order]
        if not applies_to(self.labels):
            return candidates, None
        return candidates, self._beside_each_other(prepared, Predictions(candidates, self.classify(prepared, candidates), proposal_scores))[
            1
        ]

    def _beside_each_other(self, prepared: np.ndarray, seen: Predictions) -> tuple[np.ndarray, np.ndarray | None]:
        """What the last classifier gives for every candidate, not calibrated, and its evidence (`relative_evidence`).

        The first classifier's hint is not asked: elsewhere it misses one infected cell in four, and sees one in half of the healthy ones.
        """
        is_red_cell = red_cell(seen.probabilities, self.labels) >= IS_RED_CELL
        size_hw = self.classifier.refiner_size_hw or self.classifier.image_size_hw
        patches = crop_boxes(prepared, seen.boxes_xyxy, self.classifier.context, size_hw)
        closely = self.classifier.closest(patches, 1)
        again = most_suspect(np.where(is_red_cell, log_ratio(closely, self.labels), -np.inf))
        closely[again] = self.classifier.closest(patches[again], self.settings.tta)
        return closely, relative_evidence(log_ratio(closely, self.labels), is_red_cell)

    def prepared(self, image: np.ndarray) -> np.ndarray:
        """An image, uint8 RGB (H, W, 3), as the proposer and the classifier are to be shown it."""
        return normalized(image, self.stain)

    def with_proposals(self, method: str) -> Self:
        """A copy that finds candidates by another method."""
        return replace(self, proposer=replace(self.proposer, method=method))

    def with_cell_size(self, cell_size: float) -> Self:
        """A copy for images whose median cell has a longer side of `cell_size` pixels, whatever the images seem to show.

        Raises:
            InputError: that is no size.
        """
        if not 0 < cell_size < np.inf:
            raise InputError(f"cell_size: found {cell_size}, expected the median longer side of a cell in pixels")
        return replace(self, proposer=replace(self.proposer, cell_size=cell_size, follows=False))

    def classify(self, image: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Probabilities of each box of an image that is `prepared`: float32 (n, n_classes)."""
        context, size_hw = self.classifier.context, self.classifier.refiner_size_hw
        crop_for_refiner = None if size_hw is None else lambda rows: crop_boxes(image, boxes_xyxy[rows], context, size_hw)
        return self.classifier(crop_boxes(image, boxes_xyxy, context, self.classifier.image_size_hw), self.settings.tta, crop_for_refiner)


def objectness_of(probabilities: np.ndarray, n_labels: int, proposal_scores: np.ndarray | None, weight: float) -> np.ndarray:
    """The proposal scores to the power `weight`, times the classifier's probability of any label: float32 (n,)."""
    objectness = probabilities[:, :n_labels].sum(axis=1)
    return (objectness if proposal_scores is None else objectness * proposal_scores**weight).astype(np.float32)


def label_and_score(probabilities: np.ndarray, labels: LabelSet, candidate_threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Give each candidate the label it would have if it is a cell, and scores to rank it by among cells of each label.

    A cell whose probability of being infected, with any stage, reaches `candidate_threshold` is labelled with its most
    probable stage. The score for a stage is the geometric mean of the probability of infection and that of the stage: the
    first ranks infected cells, the second stages. Any other cell has its most probable label; the score is that label's probability.

    Args:
        probabilities: float (n, n_classes); a background class after the labels does not count.
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
