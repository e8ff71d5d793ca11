from pathlib import Path

import numpy as np

from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation import error_rates, interval_coverage
from malaria_cells.inference.error_rates import UNMEASURED, ErrorRates

LABELS = LabelSet(("red blood cell", "ring"), infected=("ring",), red_cells=("red blood cell",))


def field(key, infected, healthy, data_set=""):
    ids = np.array([1] * infected + [0] * healthy, dtype=np.int64)
    boxes = 20 * np.arange(len(ids), dtype=np.float32)[:, None] + np.array([0, 0, 10, 10], dtype=np.float32)
    return AnnotatedImage(key, Path(key), (4000, 4000), key, boxes, ids, np.zeros(len(ids), dtype=bool), data_set=data_set)


def detected(image, infected):
    """All cells of an image, the first so many of them counted as infected."""
    ids = (np.arange(len(image.boxes_xyxy)) < infected).astype(np.int64)
    return Detections.from_boxes(xyxy=image.boxes_xyxy, class_id=ids, confidence=np.ones(len(ids)))


def test_coverage_is_told_by_data_set_and_without_images_that_have_no_interval():
    images = [field("a", 2, 98, "one"), field("b", 30, 70, "one"), field("c", 5, 95, "two"), field("d", 0, 0, "two")]
    detections = [detected(images[0], 2), detected(images[1], 2), detected(images[2], 5), Detections.from_boxes(np.zeros((0, 4)), [])]
    coverage = interval_coverage(images, detections, LABELS, [None, None, UNMEASURED, None])
    assert (coverage["images"], coverage["held"], coverage["share"]) == (2, 1, 0.5)
    assert coverage["by_data_set"] == {
        "one": {"images": 2, "held": 1, "share": 0.5},
        "two": {"images": 0, "held": 0, "share": None},
    }


def test_one_data_set_is_told_once():
    image = field("a", 2, 98)
    coverage = interval_coverage([image], [detected(image, 2)], LABELS, [ErrorRates(10, 9, 1000, 2)])
    assert coverage == {"images": 1, "held": 1, "share": 1.0}


def test_error_rates_know_how_much_images_vary():
    """One image in two has all its infected cells missed: no chance makes that of a rate of a half."""
    images = [field(str(i), 20, 80) for i in range(10)]
    detections = [detected(p, 20 if i % 2 else 0) for i, p in enumerate(images)]
    rates = error_rates(images, detections, LABELS)
    assert (rates.infected, rates.detected, rates.false_alarms) == (200, 100, 0)
    assert 0.2 < rates.misses_vary < 0.35
    assert rates.alarms_vary == 0
