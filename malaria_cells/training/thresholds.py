"""Chooses the detector's thresholds and box offsets, on training and validation images only."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from malaria_cells.base.progress import progress
from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.detections import Detections
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
from malaria_cells.inference.decision import recounted
from malaria_cells.inference.detector import Detector, Predictions
from malaria_cells.inference.two_stage_detector import TwoStageDetector
from malaria_cells.proposals import Margins, proposals_by_source

D = TypeVar("D", bound=Detector)
Figure = Callable[[list[AnnotatedImage], list[Detections]], float | None]

MARGIN_IMAGES = 40  # training images that the box offsets are measured on
MIN_OFFSETS = 20  # matched boxes; the median offset of fewer is no better than zero
# The grid extends to 0.95 because an undertrained network spreads probability over all labels.
CANDIDATE_GRID = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
WEIGHT_GRID = (0.0, 0.25, 0.5, 1.0)
OVERLAP_GRID = (0.3, 0.4, 0.5, 0.6, 0.7)
CELL_GRID = tuple(np.round(np.arange(0.05, 0.81, 0.05), 2).tolist())
TOLERANCE = 0.003  # AP or F1; a difference this small is less than one cell in a hundred
# Tolerance of the infected F1 = TOLERANCE_BY_CELLS / number of infected cells: 0.02 for 60 cells, which is two cells. On images
# that were not used for the choice this gained 0.1 to 0.2 points (docs/results.md).
TOLERANCE_BY_CELLS = 1.2
MAX_TOLERANCE = 0.02
OPERATING_GRID = tuple(np.round(np.arange(0.05, 0.96, 0.01), 2).tolist())


def fit_margins(method: str, train: AnnotationSet, stain: Normalization = "none") -> dict[str, Margins]:
    """Measure the offsets between annotated boxes and the boxes of a proposal method, so that they can be corrected.

    An offset is the median over proposals that match an annotated box (IoU 0.5), on `MARGIN_IMAGES` to twice as many training images,
    evenly spaced.

    Args:
        method: a proposal method of `proposals.proposals_by_source`.
        train: the training images.
        stain: stain normalization applied before the search.

    Returns:
        Offsets of the left, top, right and bottom edge in median cell sizes, by source of proposals; 0 where fewer than `MIN_OFFSETS`
        proposals match.
    """
    cell_size = train.median_cell_size
    offsets: dict[str, list[np.ndarray]] = defaultdict(list)
    for image in train.images[:: max(len(train) // MARGIN_IMAGES, 1)]:
        for source, proposals_xyxy in proposals_by_source(method, normalized(read_image(image.path), stain), cell_size).items():
            matched = boxes.match(proposals_xyxy, image.cells_xyxy)
            offsets[source].append(image.cells_xyxy[matched[matched >= 0]] - proposals_xyxy[matched >= 0])
    return {source: _median_margins(np.concatenate(source_offsets) / cell_size) for source, source_offsets in offsets.items()}


def _median_margins(offsets: np.ndarray) -> Margins:
    if len(offsets) < MIN_OFFSETS:
        return (0.0, 0.0, 0.0, 0.0)
    left, top, right, bottom = np.median(offsets, axis=0).tolist()
    return left, top, right, bottom


def choose_thresholds(
    detector: D, validation: AnnotationSet, predictions: Mapping[str, Predictions] | None = None, overlap: bool = False
) -> tuple[D, list[Detections]]:
    """Choose the thresholds that score best on the validation images.

    Each setting is chosen by a grid search, in this order:

    - the weight of a learned proposer's score and, if `overlap`, the IoU threshold of NMS: class-agnostic AP50 of cells;
    - the cell threshold: class-agnostic F1 of cells;
    - the candidate threshold: mean of three AP50 (over the classes present, of infected cells as one class, of all cells as one class);
    - the infected threshold: F1 of infected cells.

    Where several neighbouring values are about equally good, the middle one is taken. Without infected labels the last two are not
    chosen. AP50 is computed for each data set and averaged, since the density of cells differs between laboratories.

    Args:
        detector: the detector whose thresholds are chosen.
        validation: the images that the choice is made on.
        predictions: predictions by image key, if they come from other networks than the detector's; None: the detector predicts.
        overlap: whether `nms_iou` is chosen too.

    Returns:
        The detector with these thresholds and its error rates, and its detections in each validation image.
    """
    images, labels = list(validation.images), validation.labels
    reported = progress(images, len(images), "choosing thresholds", "image")
    predicted = [predictions[p.key] for p in images] if predictions else [detector.predict(read_image(p.path)) for p in reported]
    compared = _Compared(validation, predicted)
    if isinstance(detector, TwoStageDetector) and detector.proposer.method == "learned":
        detector = compared.best(detector, "proposal_weight", WEIGHT_GRID, compared.cell_ap50)
    if overlap:
        detector = compared.best(detector, "nms_iou", OVERLAP_GRID, compared.cell_ap50)
    detector = detector.with_settings(cell_threshold=_best_cell_threshold(images, compared.detections(detector)))
    if not labels.is_infected.any():
        return detector, compared.detections(detector)
    detector = compared.best(detector, "candidate_threshold", CANDIDATE_GRID, compared.ranking)
    detections = compared.detections(detector)
    counted = [[recounted(d, labels, replace(detector.settings, infected_threshold=t)) for d in detections] for t in OPERATING_GRID]
    f1 = [infected_figures(images, c, labels).f1 or 0.0 for c in counted]
    if not any(f1):
        return detector, detections  # no infected cell in the validation part, so the threshold cannot be chosen
    tolerance = float(np.clip(TOLERANCE_BY_CELLS / validation.class_counts[labels.is_infected].sum(), TOLERANCE, MAX_TOLERANCE))
    threshold = _middle_of_best(OPERATING_GRID, f1, tolerance)
    detections = counted[OPERATING_GRID.index(threshold)]
    errors = error_rates(images, detections, labels)
    return replace(detector.with_settings(infected_threshold=threshold), errors=errors), detections


@dataclass(frozen=True)
class _Compared:
    """Validation images with the networks' predictions, on which settings of a detector are compared."""

    validation: AnnotationSet
    predictions: list[Predictions]

    def detections(self, detector: Detector) -> list[Detections]:
        """What a detector makes of the predictions."""
        return [detector.decide(*p) for p in self.predictions]

    def best(self, detector: D, setting: str, grid: tuple[float, ...], figure: Figure) -> D:
        """The detector with the value of a setting whose figure, averaged over the data sets, is best."""
        tried = [self._mean_over_sets(figure, self.detections(detector.with_settings(**{setting: value}))) for value in grid]
        return detector.with_settings(**{setting: _middle_of_best(grid, tried)})

    def cell_ap50(self, images: list[AnnotatedImage], detections: list[Detections]) -> float | None:
        """AP50 of all cells as one class."""
        return cell_figures(images, detections, self.validation.labels).ap50[0]

    def ranking(self, images: list[AnnotatedImage], detections: list[Detections]) -> float | None:
        """Mean of three AP50: over the classes present, of infected cells, of all cells."""
        labels = self.validation.labels
        by_class = mean_present(average_precision(images, detections, labels).ap50)
        infected = as_one_class(images, detections, labels.is_infected).ap50[0]
        return mean_present([by_class, infected, self.cell_ap50(images, detections)])

    def _mean_over_sets(self, figure: Figure, detections: list[Detections]) -> float:
        by_key = dict(zip((image.key for image in self.validation.images), detections, strict=True))
        sets = [list(part.images) for part in self.validation.by_data_set().values() if part.class_counts.sum()]
        return mean_present([figure(images, [by_key[image.key] for image in images]) for images in sets]) or 0.0


def _best_cell_threshold(images: list[AnnotatedImage], detections: list[Detections]) -> float:
    """Return the objectness threshold with the best class-agnostic F1 of cells (IoU 0.5).

    As in scoring, an unmatched detection in an ignore region, or of a class that was not annotated, is neither right nor wrong.
    """
    by_objectness = [d[np.argsort(-d.objectness, kind="stable")] for d in detections]
    right = np.concatenate([boxes.match(d.xyxy, p.cells_xyxy) >= 0 for p, d in zip(images, by_objectness, strict=True)])
    ignored = np.concatenate([unscored(d, p, d.class_id) for p, d in zip(images, by_objectness, strict=True)])
    objectness = np.concatenate([d.objectness for d in by_objectness])
    annotated = sum(len(p.cells_xyxy) for p in images)
    counted = (objectness >= np.array(CELL_GRID)[:, None]) & (right | ~ignored)
    f1 = 2 * (counted & right).sum(axis=1) / np.maximum(counted.sum(axis=1) + annotated, 1)
    return _middle_of_best(CELL_GRID, f1.tolist())


def _middle_of_best(grid: tuple[float, ...], values: list[float], tolerance: float = TOLERANCE) -> float:
    """Return the middle of the grid values around the best one that are within `tolerance` of it; the ends may be good by chance."""
    good = np.array(values) >= max(values) - tolerance
    low = high = int(np.argmax(values))
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(grid) - 1 and good[high + 1]:
        high += 1
    return float(grid[(low + high) // 2])
