"""Chooses what the detector decides by, on the training and validation pictures alone."""

from dataclasses import replace

import numpy as np
import supervision as sv

from malaria_cells import boxes
from malaria_cells.annotations import AnnotationSet, Picture
from malaria_cells.detection import CellDetector
from malaria_cells.evaluation import average_precision, infected_figures, mean_present
from malaria_cells.pictures import read_picture
from malaria_cells.progress import progress
from malaria_cells.proposals import Proposer

MARGIN_PICTURES = 40
CANDIDATE_GRID = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
OPERATING_GRID = tuple(np.round(np.arange(0.05, 0.96, 0.01), 2).tolist())


def fit_margins(proposer: Proposer, train: AnnotationSet, cell_size: float) -> tuple[float, float, float, float]:
    """How far the annotators' left, top, right and bottom edges lie from the proposals', in cell sizes.

    The median over proposals that overlap a true box by IoU 0.5, on up to `MARGIN_PICTURES` training pictures.
    """
    step = max(len(train) // MARGIN_PICTURES, 1)
    offsets = [np.zeros((0, 4), dtype=np.float32)]
    for picture in train.pictures[::step]:
        found = proposer(read_picture(picture.path))
        matched = boxes.match(found, picture.cells_xyxy)
        offsets.append(picture.cells_xyxy[matched[matched >= 0]] - found[matched >= 0])
    every = np.concatenate(offsets)
    left, top, right, bottom = np.median(every, axis=0) / cell_size if len(every) else np.zeros(4)
    return float(left), float(top), float(right), float(bottom)


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
    found = detector.candidates(pixels)
    return found, detector.classify(pixels, found)


def _middle_of_best(grid: tuple[float, ...], values: list[float]) -> float:
    best = np.flatnonzero(np.array(values) >= max(values) - 1e-9)
    return float(grid[best[len(best) // 2]])


def with_margins(detector: CellDetector, train: AnnotationSet) -> CellDetector:
    """Fit the margins and put them into a detector that knows its cell size."""
    if detector.cell_size is None:
        return detector
    margins = fit_margins(detector.proposer, train, detector.cell_size)
    return replace(detector, settings=replace(detector.settings, box_margins=margins))
