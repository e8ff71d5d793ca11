"""Operating thresholds, chosen on validation images."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.training.thresholds import _best_cell_threshold, _middle_of_best


def test_a_plateau_of_thresholds_is_answered_by_its_middle():
    assert _middle_of_best((0.1, 0.2, 0.3, 0.4, 0.5), [0.1, 0.9, 0.9, 0.9, 0.2]) == 0.3
    assert _middle_of_best((0.1, 0.2, 0.3, 0.4, 0.5), [0.899, 0.2, 0.898, 0.9, 0.899]) == 0.4  # the best stretch, not all good ones
    assert _middle_of_best((0.1, 0.2, 0.3, 0.4, 0.5), [0.5, 0.885, 0.9, 0.86, 0.885], tolerance=0.02) == 0.2
    assert _middle_of_best((0.1, 0.2, 0.3, 0.4, 0.5), [0.5, 0.885, 0.9, 0.885, 0.885], tolerance=0.02) == 0.3


def test_thresholds_are_chosen_on_validation(six_classes, monkeypatch):
    """Ten cells of which two are rings, and five candidates that are none: each threshold falls into its gap."""
    from malaria_cells.data.annotations import AnnotationSet
    from malaria_cells.inference.decision import DetectionSettings
    from malaria_cells.inference.error_rates import ErrorRates
    from malaria_cells.inference.two_stage_detector import TwoStageDetector
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
    truth = AnnotatedImage("a.png", Path("a.png"), (640, 64), "a.png", squares[:10], ids, np.zeros(10, dtype=bool))
    monkeypatch.setattr(TwoStageDetector, "predict", lambda *_: (squares, p, None))
    monkeypatch.setattr(thresholds, "read_image", lambda _: None)
    untuned = TwoStageDetector(Proposer(cell_size=40), classifier(six_classes), settings=DetectionSettings())
    detector, found = thresholds.choose_thresholds(untuned, AnnotationSet(six_classes, (truth,)))
    assert 0.3 < detector.settings.cell_threshold <= 0.8
    assert (found[0].counted_as == ring).sum() == 2
    assert 0.3 < detector.settings.infected_threshold <= 0.65
    assert detector.errors == ErrorRates(infected=2, detected=2, healthy=8, false_alarms=0)
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
    truth = AnnotatedImage("a.png", Path("a.png"), (800, 200), "a.png", np.concatenate([cells, region]), np.where(ignore, -1, 0), ignore)
    objectness = np.array([0.25] * 10 + [0.7] * 20)
    found = Detections.from_boxes(xyxy=np.concatenate([cells, crowd]), class_id=np.zeros(30, int), objectness=objectness)
    assert _best_cell_threshold([truth], [found]) <= 0.25
    without = replace(truth, boxes_xyxy=cells, class_ids=np.zeros(10, int), ignore=np.zeros(10, bool))
    assert _best_cell_threshold([truth], [found]) == _best_cell_threshold([without], [found[:10]])
    on_cells_too = replace(truth, boxes_xyxy=np.concatenate([cells, [[0, 0, 800, 200]]]).astype(np.float32))
    assert _best_cell_threshold([on_cells_too], [found]) <= 0.25  # a cell in such a region that is annotated is one


def crowded(overlap, labels, monkeypatch):
    """An image of six pairs of cells that overlap by so much (IoU), all found, and on each first cell of a pair a shifted box more."""
    from malaria_cells.inference.decision import DetectionSettings
    from malaria_cells.inference.two_stage_detector import TwoStageDetector
    from malaria_cells.proposals import Proposer
    from malaria_cells.training import thresholds
    from tests.test_detection import classifier

    shift = 40 * (1 - overlap) / (1 + overlap)  # of two squares of 40 pixels
    left = np.array([[100 * i + 10, 10, 100 * i + 50, 50] for i in range(6)], dtype=np.float32)
    right = left + np.array([shift, 0, shift, 0], dtype=np.float32)
    doubled = left + np.array([0, 3, 0, 3], dtype=np.float32)  # IoU 0.86
    boxes_xyxy = np.concatenate([left, right, doubled])
    p = np.zeros((18, len(labels) + 1), dtype=np.float32)
    p[:12, 0], p[12:, 0] = 0.99, 0.9
    p[:, -1] = 1 - p[:, 0]
    ids = np.zeros(12, dtype=int)
    truth = AnnotatedImage("a.png", Path("a.png"), (640, 64), "a.png", boxes_xyxy[:12], ids, np.zeros(12, dtype=bool))
    monkeypatch.setattr(TwoStageDetector, "predict", lambda *_: (boxes_xyxy, p, None))
    monkeypatch.setattr(thresholds, "read_image", lambda _: None)
    return TwoStageDetector(Proposer(cell_size=40), classifier(labels), settings=DetectionSettings()), truth


def test_the_overlap_is_chosen_by_how_crowded_cells_lie(six_classes, monkeypatch):
    from malaria_cells.data.annotations import AnnotationSet
    from malaria_cells.training.thresholds import choose_thresholds

    for overlap, expected in ((0.0, 0.5), (0.55, 0.6)):  # the middle of what serves as well; what keeps both cells of a pair
        detector, truth = crowded(overlap, six_classes, monkeypatch)
        chosen, _ = choose_thresholds(detector, AnnotationSet(six_classes, (truth,)), overlap=True)
        assert chosen.settings.nms_iou == expected
        left_alone, _ = choose_thresholds(detector, AnnotationSet(six_classes, (truth,)))
        assert left_alone.settings.nms_iou == detector.settings.nms_iou


def test_each_data_set_has_its_say(six_classes, monkeypatch):
    """Nine images of one laboratory would do with any overlap; the one of another needs 0.6 or more."""
    from malaria_cells.data.annotations import AnnotationSet
    from malaria_cells.training.thresholds import choose_thresholds

    detector, truth = crowded(0.55, six_classes, monkeypatch)
    apart = replace(truth, boxes_xyxy=truth.boxes_xyxy[:6], class_ids=truth.class_ids[:6], ignore=truth.ignore[:6], data_set="apart")
    predictions = detector.predict(None)
    few = predictions[0][:6], predictions[1][:6], None
    images = [replace(apart, key=f"{i}.png") for i in range(9)] + [replace(truth, data_set="crowded")]
    by_key = {p.key: few if p.data_set == "apart" else predictions for p in images}
    chosen, _ = choose_thresholds(detector, AnnotationSet(six_classes, tuple(images)), by_key, overlap=True)
    assert chosen.settings.nms_iou >= 0.6
