"""Chooses what the detector decides by, on the training and validation pictures alone."""

from collections import defaultdict

import numpy as np
import supervision as sv

from malaria_cells import boxes
from malaria_cells.annotations import AnnotationSet, Picture
from malaria_cells.detection import CellDetector
from malaria_cells.evaluation import average_precision, infected_figures, mean_present
from malaria_cells.pictures import read_picture
from malaria_cells.progress import progress
from malaria_cells.proposals import Margins, find_sources

MARGIN_PICTURES = 40
FEWEST_OFFSETS = 20  # a median of fewer is no better than none
CANDIDATE_GRID = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
OPERATING_GRID = tuple(np.round(np.arange(0.05, 0.96, 0.01), 2).tolist())


def fit_margins(method: str, train: AnnotationSet) -> dict[str, Margins]:
    """How far the annotators' left, top, right and bottom edges lie from those of a method's sources, in cell sizes.

    The median over boxes that overlap a true one by IoU 0.5, on up to `MARGIN_PICTURES` training pictures.
    """
    cell_size = train.median_cell_size
    offsets: dict[str, list[np.ndarray]] = defaultdict(list)
    for picture in train.pictures[:: max(len(train) // MARGIN_PICTURES, 1)]:
        for source, found in find_sources(method, read_picture(picture.path), cell_size).items():
            matched = boxes.match(found, picture.cells_xyxy)
            offsets[source].append(picture.cells_xyxy[matched[matched >= 0]] - found[matched >= 0])
    return {source: _median_margins(np.concatenate(parts) / cell_size) for source, parts in offsets.items()}


def _median_margins(offsets: np.ndarray) -> Margins:
    if len(offsets) < FEWEST_OFFSETS:
        return (0.0, 0.0, 0.0, 0.0)
    left, top, right, bottom = np.median(offsets, axis=0).tolist()
    return left, top, right, bottom


def choose_thresholds(detector: CellDetector, validation: AnnotationSet) -> CellDetector:
    """Set the thresholds that serve the validation pictures best.

    The candidate threshold maximises mean AP50 over the classes present, the operating threshold the infected F1. A
    plateau is answered by its middle. Without infected labels there is nothing to choose.
    """
    labels = validation.labels
    if not labels.is_infected.any():
        return detector
    pictures = list(validation.pictures)
    looked_at = [_look(detector, p) for p in progress(pictures, len(pictures), "choosing thresholds", "image")]

    def decided(d: CellDetector) -> list[sv.Detections]:
        return [d.decide(*seen) for seen in looked_at]

    def mean_ap50(threshold: float) -> float:
        found = decided(detector.with_settings(candidate_threshold=threshold))
        return mean_present(average_precision(pictures, found, labels).ap50) or 0.0

    detector = detector.with_settings(candidate_threshold=_middle_of_best(CANDIDATE_GRID, [mean_ap50(t) for t in CANDIDATE_GRID]))
    found = decided(detector)
    f1 = [infected_figures(pictures, found, labels, t)["f1"] or 0.0 for t in OPERATING_GRID]
    if not any(f1):
        return detector  # no infected cell in the validation part: nothing to choose by
    return detector.with_settings(infected_threshold=_middle_of_best(OPERATING_GRID, f1))


def _look(detector: CellDetector, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
    pixels = read_picture(picture.path)
    found = detector.proposer(pixels)
    return found, detector.classify(pixels, found)


def _middle_of_best(grid: tuple[float, ...], values: list[float]) -> float:
    best = np.flatnonzero(np.array(values) >= max(values) - 1e-9)
    return float(grid[best[len(best) // 2]])
