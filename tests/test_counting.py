import numpy as np
import pytest
import supervision as sv

from malaria_cells.counting import count, decided_class_ids
from malaria_cells.labels import LabelSet


def test_counts_and_parasitemia(six_classes):
    found = count(np.array([0, 0, 0, 1, 3, 4]), six_classes)
    assert found.by_label.tolist() == [3, 1, 0, 1, 1, 0]
    assert (found.infected, found.red_cells) == (2, 5)  # the leukocyte is no red cell
    assert found.parasitemia == pytest.approx(0.4)


def test_wilson_interval_is_the_published_one(six_classes):
    # Newcombe 1998 (Statistics in Medicine 17), table I: 81 of 263 gives 0.2553 to 0.3662 by Wilson's score method.
    found = count(np.array([3] * 81 + [0] * 182), six_classes)
    assert found.interval == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_no_red_cells_no_parasitemia(six_classes):
    assert count(np.array([1]), six_classes).parasitemia is None
    assert count(np.zeros(0, dtype=int), six_classes).interval is None


def test_sum(six_classes):
    total = count(np.array([0, 3]), six_classes) + count(np.array([0, 1]), six_classes)
    assert (total.by_label.tolist(), total.infected, total.red_cells) == ([2, 1, 0, 1, 0, 0], 1, 3)


def detections(class_ids, scores, probabilities):
    n = len(class_ids)
    return sv.Detections(
        xyxy=np.zeros((n, 4)), class_id=np.array(class_ids), confidence=np.array(scores), data={"probabilities": np.array(probabilities)}
    )


def test_a_doubtful_infection_counts_as_the_best_healthy_label(six_classes):
    p = [[0.6, 0.1, 0, 0.3, 0, 0, 0], [0.1, 0.5, 0, 0.4, 0, 0, 0], [0.1, 0, 0, 0.9, 0, 0, 0]]
    found = detections([3, 3, 3], [0.3, 0.4, 0.9], p)
    assert decided_class_ids(found, six_classes, 0.5).tolist() == [0, 1, 3]
    assert decided_class_ids(found, six_classes, 0.35).tolist() == [0, 3, 3]


def test_without_healthy_labels_nothing_is_decided_otherwise():
    labels = LabelSet(("ring",), infected=("ring",))
    assert decided_class_ids(detections([0], [0.1], [[0.1, 0.9]]), labels, 0.5).tolist() == [0]
