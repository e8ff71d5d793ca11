"""Chooses what the detector decides by, on the training and validation images alone."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
import supervision as sv

from malaria_cells.base.progress import progress
from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.images import read_image
from malaria_cells.data.stain import Normalization, normalized
from malaria_cells.evaluation import (
    as_one_class,
    average_precision,
    cell_figures,
    error_rates,
    infected_figures,
    mean_present,
    unscored,
)
from malaria_cells.inference.counting import counted_as
from malaria_cells.inference.detector import Detector, Predictions, TwoStageDetector
from malaria_cells.proposals import Margins, find_sources

D = TypeVar("D", bound=Detector)

MARGIN_IMAGES = 40
FEWEST_OFFSETS = 20  # offsets of boxes; a median of fewer is no better than none
# The grid extends to 0.95 because an undertrained network spreads probability over all labels.
CANDIDATE_GRID = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
WEIGHT_GRID = (0.0, 0.25, 0.5, 1.0)
OVERLAP_GRID = (0.3, 0.4, 0.5, 0.6, 0.7)
CELL_GRID = tuple(np.round(np.arange(0.05, 0.81, 0.05), 2).tolist())
TOLERANCE = 0.003  # AP or F1: less than one cell in a hundred changes
# Tolerance of the infected F1 = TOLERANCE_BY_CELLS / number of infected cells: 0.02 for 60 cells, which is two cells. On images that
# were not used for the choice it gained 0.1 to 0.2 points (docs/results.md).
TOLERANCE_BY_CELLS = 1.2
WIDEST_TOLERANCE = 0.02
OPERATING_GRID = tuple(np.round(np.arange(0.05, 0.96, 0.01), 2).tolist())


def fit_margins(method: str, train: AnnotationSet, stain: Normalization = "none") -> dict[str, Margins]:
    """How far the annotators' left, top, right and bottom edges lie from those of a method's sources, in cell sizes.

    The median over boxes that overlap a true one by IoU 0.5, on up to `MARGIN_IMAGES` training images.
    """
    cell_size = train.median_cell_size
    offsets: dict[str, list[np.ndarray]] = defaultdict(list)
    for image in train.images[:: max(len(train) // MARGIN_IMAGES, 1)]:
        for source, found in find_sources(method, normalized(read_image(image.path), stain), cell_size).items():
            matched = boxes.match(found, image.cells_xyxy)
            offsets[source].append(image.cells_xyxy[matched[matched >= 0]] - found[matched >= 0])
    return {source: _median_margins(np.concatenate(parts) / cell_size) for source, parts in offsets.items()}


def _median_margins(offsets: np.ndarray) -> Margins:
    if len(offsets) < FEWEST_OFFSETS:
        return (0.0, 0.0, 0.0, 0.0)
    left, top, right, bottom = np.median(offsets, axis=0).tolist()
    return left, top, right, bottom


def choose_thresholds(
    detector: D, validation: AnnotationSet, predictions: Mapping[str, Predictions] | None = None, overlap: bool = False
) -> tuple[D, list[sv.Detections]]:
    """Set the thresholds that serve the validation images best; and what the detector then finds in them.

    The weight of a learned proposer's score and, if that is left to it, the overlap of suppression maximise the average precision of
    cells whatever their class, the cell threshold their F1, the candidate threshold the mean of three AP50 (over the classes present, of
    infected as one class, of cells as one class: a cell that is named by the faintest hint ranks low among cells), the operating
    threshold the infected F1. A plateau is answered by its middle. Without infected labels only the first three are chosen. Of several
    data sets each has its own average precision, and the mean decides: how crowded cells lie differs from laboratory to laboratory.

    Args:
        detector: whose thresholds are set.
        validation: the images to choose by.
        predictions: by image key, if they come from other networks than the detector's; None: the detector's own.
        overlap: whether `nms_iou` is chosen too.
    """
    labels = validation.labels
    images = list(validation.images)
    sets = [name for name, own in validation.by_data_set().items() if own.class_counts.sum()]
    rows = [[i for i, p in enumerate(images) if p.data_set == name] for name in sets]
    each = progress(images, len(images), "choosing thresholds", "image")
    predicted = [predictions[p.key] for p in images] if predictions else [detector.predict(read_image(p.path)) for p in each]

    def decided(d: Detector) -> list[sv.Detections]:
        return [d.decide(*each) for each in predicted]

    def by_set(figure: Callable[[list[AnnotatedImage], list[sv.Detections]], float | None], found: list[sv.Detections]) -> float:
        return mean_present([figure([images[i] for i in own], [found[i] for i in own]) for own in rows]) or 0.0

    def of_cells(some: list[AnnotatedImage], found: list[sv.Detections]) -> float | None:
        return cell_figures(some, found, labels).ap50[0]

    if isinstance(detector, TwoStageDetector) and detector.proposer.method == "learned":
        tried = [by_set(of_cells, decided(detector.with_settings(proposal_weight=w))) for w in WEIGHT_GRID]
        detector = detector.with_settings(proposal_weight=_middle_of_best(WEIGHT_GRID, tried))
    if overlap:
        tried = [by_set(of_cells, decided(detector.with_settings(nms_iou=iou))) for iou in OVERLAP_GRID]
        detector = detector.with_settings(nms_iou=_middle_of_best(OVERLAP_GRID, tried))
    detector = detector.with_settings(cell_threshold=_best_cell_threshold(images, decided(detector)))
    if not labels.is_infected.any():
        return detector, decided(detector)

    def ranking(some: list[AnnotatedImage], found: list[sv.Detections]) -> float | None:
        by_class = mean_present(average_precision(some, found, labels).ap50)
        infected = as_one_class(some, found, labels.is_infected).ap50[0]
        return mean_present([by_class, infected, of_cells(some, found)])

    tried = [by_set(ranking, decided(detector.with_settings(candidate_threshold=t))) for t in CANDIDATE_GRID]
    best = _middle_of_best(CANDIDATE_GRID, tried)
    detector = detector.with_settings(candidate_threshold=best)
    found = decided(detector)
    f1 = [infected_figures(images, _recounted(found, detector, t), labels)["f1"] or 0.0 for t in OPERATING_GRID]
    if not any(f1):
        return detector, decided(detector)  # no infected cell in the validation part: nothing to choose by
    tolerance = float(np.clip(TOLERANCE_BY_CELLS / validation.class_counts[labels.is_infected].sum(), TOLERANCE, WIDEST_TOLERANCE))
    threshold = _middle_of_best(OPERATING_GRID, f1, tolerance)
    found = _recounted(found, detector, threshold)
    errors = error_rates(images, found, labels)
    return replace(detector.with_settings(infected_threshold=threshold), errors=errors), found


def _recounted(found: list[sv.Detections], detector: Detector, infected_threshold: float) -> list[sv.Detections]:
    labels, cell_threshold = detector.labels, detector.settings.cell_threshold
    for detections in found:
        detections.data["counted_as"] = counted_as(detections, labels, infected_threshold, cell_threshold)
    return found


def _best_cell_threshold(images: list[AnnotatedImage], found: list[sv.Detections]) -> float:
    """The probability of being a cell from which counting gives the best F1 of cells, whatever their class (IoU 0.5).

    As in scoring, what lies on no cell, and on an ignore region or is of a class that was not annotated, is neither right nor wrong.
    """
    by_objectness = [d[np.argsort(-d.data["objectness"], kind="stable")] for d in found]
    right = np.concatenate([boxes.match(d.xyxy, p.cells_xyxy) >= 0 for p, d in zip(images, by_objectness, strict=True)])
    ignored = np.concatenate([unscored(d, p, np.asarray(d.class_id)) for p, d in zip(images, by_objectness, strict=True)])
    objectness = np.concatenate([d.data["objectness"] for d in by_objectness])
    annotated = sum(len(p.cells_xyxy) for p in images)
    counted = (objectness >= np.array(CELL_GRID)[:, None]) & (right | ~ignored)
    f1 = 2 * (counted & right).sum(axis=1) / np.maximum(counted.sum(axis=1) + annotated, 1)
    return _middle_of_best(CELL_GRID, f1.tolist())


def _middle_of_best(grid: tuple[float, ...], values: list[float], tolerance: float = TOLERANCE) -> float:
    """The middle of the stretch around the best value that is as good as it, to within a tolerance, since its ends are good by luck."""
    good = np.array(values) >= max(values) - tolerance
    low = high = int(np.argmax(values))
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(grid) - 1 and good[high + 1]:
        high += 1
    return float(grid[(low + high) // 2])
