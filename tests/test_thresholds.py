"""Operating thresholds, chosen on validation pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import supervision as sv

from malaria_cells.annotations import Picture
from malaria_cells.labels import LabelSet
from malaria_cells.training.thresholds import _best_cell_threshold, _middle_of_best


def test_a_plateau_of_thresholds_is_answered_by_its_middle():
    assert _middle_of_best((0.1, 0.2, 0.3, 0.4, 0.5), [0.1, 0.9, 0.9, 0.9, 0.2]) == 0.3
    assert _middle_of_best((0.1, 0.2, 0.3, 0.4, 0.5), [0.899, 0.2, 0.898, 0.9, 0.899]) == 0.4  # the best stretch, not all good ones
    assert _middle_of_best((0.1, 0.2, 0.3, 0.4, 0.5), [0.5, 0.885, 0.9, 0.86, 0.885], tolerance=0.02) == 0.2
    assert _middle_of_best((0.1, 0.2, 0.3, 0.4, 0.5), [0.5, 0.885, 0.9, 0.885, 0.885], tolerance=0.02) == 0.3


def test_thresholds_are_chosen_on_validation(six_classes, monkeypatch):
    """Ten cells of which two are rings, and five candidates that are none: each threshold falls into its gap."""
    from malaria_cells.annotations import AnnotationSet
    from malaria_cells.counting import ErrorRates
    from malaria_cells.detection import DetectionSettings, TwoStageDetector
    from malaria_cells.proposals import Proposer
    from malaria_cells.training import thresholds
    from tests.test_detection import classifier

    squares = np.array([[40 * i, 10, 40 * i + 30, 40] for i in range(15)], dtype=np.float32)
    red, ring, background = 0, 3, 6
    p = np.zeros((15, 7), dtype=np.float32)
    p[:, red], p[10:, red], p[10:, background] = 1, 0.3, 0.7  # the last five are hardly cells
    p[:2] = [0.35, 0, 0, 0.65, 0, 0, 0]
    p[2] = [0.7, 0, 0, 0.3, 0, 0, 0]  # a healthy cell that looks a little like a ring
    ids = np.array([ring] * 2 + [red] * 8)
    truth = Picture("a.png", Path("a.png"), (640, 64), "a.png", squares[:10], ids, np.zeros(10, dtype=bool))
    monkeypatch.setattr(TwoStageDetector, "look", lambda *_: (squares, p, None))
    monkeypatch.setattr(thresholds, "read_picture", lambda _: None)
    untuned = TwoStageDetector(Proposer(cell_size=40), classifier(six_classes), settings=DetectionSettings())
    detector, found = thresholds.choose_thresholds(untuned, AnnotationSet(six_classes, (truth,)))
    assert 0.3 < detector.settings.cell_threshold <= 0.8
    assert (found[0].data["counted_as"] == ring).sum() == 2
    assert 0.3 < detector.settings.infected_threshold <= 0.65
    assert detector.errors == ErrorRates(infected=2, found=2, healthy=8, false_alarms=0)
    only_cells = replace(untuned, classifier=classifier(LabelSet(("a", "b", "c", "d", "e", "f"))))
    chosen, _ = thresholds.choose_thresholds(only_cells, AnnotationSet(only_cells.classifier.labels, (truth,)))
    assert 0.3 < chosen.settings.cell_threshold <= 0.8
    assert (chosen.settings.infected_threshold, chosen.errors) == (0.5, None)


def test_what_lies_on_an_ignore_region_is_no_false_cell():
    """Ten cells that are hardly sure, and twenty surer detections on a region of which nothing is known."""
    cells = np.array([[40 * i, 10, 40 * i + 30, 40] for i in range(10)], dtype=np.float32)
    crowd = np.array([[40 * i, 110, 40 * i + 30, 140] for i in range(20)], dtype=np.float32)
    region = np.array([[0, 100, 800, 150]], dtype=np.float32)
    ignore = np.array([False] * 10 + [True])
    truth = Picture("a.png", Path("a.png"), (800, 200), "a.png", np.concatenate([cells, region]), np.where(ignore, -1, 0), ignore)
    existence = np.array([0.25] * 10 + [0.7] * 20)
    found = sv.Detections(xyxy=np.concatenate([cells, crowd]), class_id=np.zeros(30, int), data={"existence": existence})
    assert _best_cell_threshold([truth], [found]) <= 0.25
    without = replace(truth, boxes_xyxy=cells, class_ids=np.zeros(10, int), ignore=np.zeros(10, bool))
    assert _best_cell_threshold([truth], [found]) == _best_cell_threshold([without], [found[:10]])
    on_cells_too = replace(truth, boxes_xyxy=np.concatenate([cells, [[0, 0, 800, 200]]]).astype(np.float32))
    assert _best_cell_threshold([on_cells_too], [found]) <= 0.25  # a cell in such a region that is annotated is one
