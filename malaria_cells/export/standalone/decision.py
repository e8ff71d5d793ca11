"""Cells from candidates: labels, scores, thresholds, non-maximum suppression and counting."""

from typing import Any, NamedTuple

import cv2
import numpy as np

from .model import Model


class Cell(NamedTuple):
    """A detection: label and score, the label that it is counted as (None: not counted), and the box xyxy in pixels."""

    label: str
    score: float
    counted_as: str | None
    box: tuple[float, float, float, float]


def decide(boxes: np.ndarray, probabilities: np.ndarray, proposal_scores: np.ndarray, model: Model) -> list[Cell]:
    """Label candidates, apply thresholds and non-maximum suppression, and count: the cells of an image, best score first."""
    names, settings, infected = model.about["labels"]["names"], model.about["settings"], model.infected
    p = probabilities[:, : len(names)]
    objectness = (p.sum(axis=1) * proposal_scores ** settings["proposal_weight"]).astype(np.float32)
    label, score = label_and_score(p, infected, settings["candidate_threshold"])
    score = score * objectness
    indices = np.flatnonzero(score >= settings["score_threshold"])
    indices = indices[suppress(boxes[indices], score[indices], settings["nms_iou"], label[indices] if settings["nms"] == "class" else None)]
    if settings["nms"] == "agnostic":
        red = np.isin(names, model.about["labels"]["red_cells"]) | infected
        decay = nested_decay(boxes[indices], label[indices], red.any() & ~red, model.inference("nested_boxes"))
        score[indices], objectness[indices] = score[indices] * decay, objectness[indices] * decay
        indices = indices[score[indices] >= settings["score_threshold"]]
        indices = indices[np.argsort(-score[indices], kind="stable")]
    is_counted_infected = infected[label] & (score >= settings["infected_threshold"])
    healthy = label if infected.all() else np.where(infected, -1, p.astype(np.float64)).argmax(axis=1)
    counted = np.where(infected[label] & ~is_counted_infected, healthy, label)
    is_counted = is_counted_infected | (objectness >= settings["cell_threshold"])
    return [Cell(names[label[i]], float(score[i]), names[counted[i]] if is_counted[i] else None, tuple(boxes[i].tolist())) for i in indices]


def label_and_score(p: np.ndarray, infected: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The label of each candidate, given that it is a cell, (n,), and its score, float32 (n,); see the package's `label_and_score`."""
    rows = np.arange(len(p))
    p = p / np.maximum(p.sum(axis=1, keepdims=True), 1e-9)
    if not infected.any():
        return p.argmax(axis=1), p.max(axis=1).astype(np.float32)
    sick = p[:, infected].sum(axis=1)
    is_suspect = (sick >= threshold) | infected.all()
    label = np.where(is_suspect, np.where(infected, p, -1).argmax(axis=1), np.where(infected, -1, p).argmax(axis=1))
    best = p[rows, label]
    return label, np.where(is_suspect, np.sqrt(sick * best), best).astype(np.float32)


def suppress(boxes: np.ndarray, score: np.ndarray, iou: float, groups: np.ndarray | None) -> np.ndarray:
    """Non-maximum suppression, within each of any groups: indices of the remaining boxes, best score first."""
    if not len(boxes):
        return np.zeros(0, dtype=np.int64)
    corner_and_size = np.c_[boxes[:, :2], boxes[:, 2:] - boxes[:, :2]].astype(np.float64).tolist()
    if groups is None:
        remaining = cv2.dnn.NMSBoxes(corner_and_size, score.tolist(), 0.0, iou)
    else:
        remaining = cv2.dnn.NMSBoxesBatched(corner_and_size, score.tolist(), groups.tolist(), 0.0, iou)
    indices = np.asarray(remaining, dtype=np.int64).ravel()
    return indices[np.argsort(-score[indices], kind="stable")]


def nested_decay(boxes: np.ndarray, label: np.ndarray, parts_look_alike: np.ndarray, values: dict[str, Any]) -> np.ndarray:
    """Score multipliers for nested boxes, sorted by score: `decay` of the values for the lower-scored one, 0 for a leukocyte's nucleus."""
    low, high = boxes[:, :2], boxes[:, 2:]
    area = np.prod(np.clip(high - low, 0, None), axis=1)
    decay = np.ones(len(boxes), dtype=np.float32)
    for i in range(len(boxes)):
        shared = np.prod(np.clip(np.minimum(high[i], high[i + 1 :]) - np.maximum(low[i], low[i + 1 :]), 0, None), axis=1)
        nested = (shared > 0) & (shared >= values["containment"] * np.minimum(area[i], area[i + 1 :]))
        for j in np.flatnonzero(nested) + i + 1:
            if decay[i] < 1 or decay[j] == 0:
                continue
            if label[i] == label[j] and parts_look_alike[label[i]]:
                decay[i if area[j] > area[i] else j] = 0
            elif not (parts_look_alike[label[i]] or parts_look_alike[label[j]]):
                decay[j] = values["decay"]
    return decay
