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
WEIGHT_GRID = (0.0, 0.25, 0.5, 1.0)
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

    The weight of a learned proposer's score and the candidate threshold maximise mean AP50 over the classes present, the
    operating threshold the infected F1. A plateau is answered by its middle. Without infected labels there are no thresholds
    to choose.
    """
    labels = validation.labels
    is_learned = detector.proposer.method == "learned"
    if not labels.is_infected.any() and not is_learned:
        return detector
    pictures = list(validation.pictures)
    looked_at = [_look(detector, p) for p in progress(pictures, len(pictures), "choosing thresholds", "image")]

    def decided(d: CellDetector) -> list[sv.Detections]:
        return [d.decide(*seen) for seen in looked_at]

    def mean_ap50(**changes: float) -> float:
        return mean_present(average_precision(pictures, decided(detector.with_settings(**changes)), labels).ap50) or 0.0

    if is_learned:
        detector = detector.with_settings(proposal_weight=_middle_of_best(WEIGHT_GRID, [mean_ap50(proposal_weight=w) for w in WEIGHT_GRID]))
    if not labels.is_infected.any():
        return detector
    best = _middle_of_best(CANDIDATE_GRID, [mean_ap50(candidate_threshold=t) for t in CANDIDATE_GRID])
    detector = detector.with_settings(candidate_threshold=best)
    found = decided(detector)
    f1 = [infected_figures(pictures, found, labels, t)["f1"] or 0.0 for t in OPERATING_GRID]
    if not any(f1):
        return detector  # no infected cell in the validation part: nothing to choose by
    return detector.with_settings(infected_threshold=_middle_of_best(OPERATING_GRID, f1))


def _look(detector: CellDetector, picture: Picture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pixels = read_picture(picture.path)
    found, sureness = detector.proposer.candidates(pixels)
    return found, detector.classify(pixels, found), sureness


def _middle_of_best(grid: tuple[float, ...], values: list[float]) -> float:
    best = np.flatnonzero(np.array(values) >= max(values) - 1e-9)
    return float(grid[best[len(best) // 2]])
