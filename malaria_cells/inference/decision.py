"""From boxes and class probabilities to labelled detections: thresholds, scores and non-maximum suppression."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.counting import counted_as
from malaria_cells.inference.suppression import NestedBoxes, nested_decay, repeated, suppress

Fraction = Annotated[float, Field(ge=0, le=1)]

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


def decide(
    boxes_xyxy: np.ndarray,
    probabilities: np.ndarray,
    proposal_scores: np.ndarray | None,
    labels: LabelSet,
    settings: DetectionSettings,
    nested: NestedBoxes,
) -> Detections:
    """Label candidates and apply thresholds and non-maximum suppression.

    Args:
        boxes_xyxy: candidate boxes, float32 (n, 4).
        probabilities: class probabilities, float32 (n, n_classes).
        proposal_scores: float32 (n,), or None.
        labels: the classes.
        settings: thresholds.
        nested: score decay of nested boxes.

    Returns:
        Detections, best score first.
    """
    objectness = objectness_of(probabilities, len(labels), proposal_scores, settings.proposal_weight)
    class_ids, by_label = label_and_score(probabilities, labels, settings.candidate_threshold)
    by_label *= objectness[:, None]
    scores = np.take_along_axis(by_label, class_ids[:, None], axis=1)[:, 0]
    indices = np.flatnonzero(scores >= settings.score_threshold)
    groups = class_ids[indices] if settings.nms == "class" else None
    indices = indices[suppress(boxes_xyxy[indices], scores[indices], settings.nms_iou, groups)]
    if settings.nms == "agnostic":
        decay = nested_decay(boxes_xyxy[indices], class_ids[indices], labels.is_red_cell.any() & ~labels.is_red_cell, nested)
        scores[indices], objectness[indices] = scores[indices] * decay, objectness[indices] * decay
        by_label[indices] *= decay[:, None]
        indices = indices[scores[indices] >= settings.score_threshold]
        indices = indices[np.argsort(-scores[indices], kind="stable")]
    boxes, ids = boxes_xyxy[indices].reshape(-1, 4), class_ids[indices]
    detections = Detections.from_boxes(
        boxes,
        ids,
        scores[indices],
        probabilities=probabilities[indices],
        objectness=objectness[indices],
        label_scores=_label_scores(boxes, ids, by_label[indices], labels, settings),
        names=labels.names,
    )
    return recounted(detections, labels, settings)


def recounted(detections: Detections, labels: LabelSet, settings: DetectionSettings) -> Detections:
    """Detections with `counted_as` by the thresholds of `settings`."""
    return replace(detections, counted_as=counted_as(detections, labels, settings.infected_threshold, settings.cell_threshold))


def _label_scores(
    boxes_xyxy: np.ndarray, class_ids: np.ndarray, by_label: np.ndarray, labels: LabelSet, settings: DetectionSettings
) -> np.ndarray:
    """Scores for the ranking under each label, float32 (n, n_labels); except for the cell's label, 0 below the score threshold."""
    is_class_id = np.eye(len(labels), dtype=bool)[class_ids]
    secondary = np.where(by_label >= settings.score_threshold, by_label, 0)
    # Secondary scores stay below the operating threshold, so that comparing all scores with it counts a cell as infected once.
    is_infected = labels.is_infected
    secondary[:, is_infected] = secondary[:, is_infected].clip(max=MAX_SECONDARY * settings.infected_threshold)
    if settings.nms == "class":  # class-agnostic suppression leaves no two boxes that overlap by so much
        secondary[repeated(boxes_xyxy, class_ids, len(labels), settings.nms_iou)] = 0
    return np.where(is_class_id, by_label, secondary).astype(np.float32)


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
