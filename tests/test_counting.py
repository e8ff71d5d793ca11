import numpy as np
import pytest
import supervision as sv

from malaria_cells.counting import Count, ErrorRates, count, counted_as
from malaria_cells.labels import LabelSet


def test_counts_and_parasitemia(six_classes):
    found = count(np.array([0, 0, 0, 1, 3, 4]), six_classes)
    assert found.by_label.tolist() == [3, 1, 0, 1, 1, 0]
    assert (found.infected, found.red_cells) == (2, 5)  # the leukocyte is no red cell
    assert found.parasitemia == pytest.approx(0.4)


def test_wilson_interval_is_the_published_one(six_classes):
    # Newcombe 1998 (Statistics in Medicine 17), table I: 81 of 263 gives 0.2553 to 0.3662 by Wilson's score method.
    found = count(np.array([3] * 81 + [0] * 182), six_classes)
    assert found.interval() == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_no_red_cells_no_parasitemia(six_classes):
    assert count(np.array([1]), six_classes).parasitemia is None
    assert count(np.zeros(0, dtype=int), six_classes).interval() is None


def test_sum(six_classes):
    total = count(np.array([0, 3]), six_classes) + count(np.array([0, 1]), six_classes)
    assert (total.by_label.tolist(), total.infected, total.red_cells) == ([2, 1, 0, 1, 0, 0], 1, 3)


def detections(class_ids, scores, probabilities, existence=1.0):
    n = len(class_ids)
    data = {"probabilities": np.array(probabilities), "existence": np.broadcast_to(existence, n)}
    return sv.Detections(xyxy=np.zeros((n, 4)), class_id=np.array(class_ids), confidence=np.array(scores), data=data)


def test_a_doubtful_infection_counts_as_the_best_healthy_label(six_classes):
    p = [[0.6, 0.1, 0, 0.3, 0, 0, 0], [0.1, 0.5, 0, 0.4, 0, 0, 0], [0.1, 0, 0, 0.9, 0, 0, 0]]
    found = detections([3, 3, 3], [0.3, 0.4, 0.9], p)
    assert counted_as(found, six_classes, 0.5, 0.5).tolist() == [0, 1, 3]
    assert counted_as(found, six_classes, 0.35, 0.5).tolist() == [0, 3, 3]


def test_what_may_be_no_cell_counts_only_as_a_finding(six_classes):
    p = [[0.4, 0, 0, 0, 0, 0, 0.6], [0, 0, 0, 0.4, 0, 0, 0.6], [0.1, 0, 0, 0.3, 0, 0, 0.6]]
    found = detections([0, 3, 3], [0.4, 0.4, 0.3], p, existence=0.4)
    ids = counted_as(found, six_classes, 0.35, 0.5)
    assert ids.tolist() == [-1, 3, -1]
    assert count(ids, six_classes).by_label.tolist() == [0, 0, 0, 1, 0, 0]


def test_without_healthy_labels_nothing_is_counted_otherwise():
    labels = LabelSet(("ring",), infected=("ring",))
    assert counted_as(detections([0], [0.1], [[0.1, 0.9]]), labels, 0.5, 0.5).tolist() == [0]


def test_interval_with_error_rates_is_the_published_one(six_classes):
    """Lang and Reiczigel 2014, in an independent writing of their formula, term by term."""
    k, n, errors = 30, 1000, ErrorRates(infected=100, found=90, healthy=5000, false_alarms=15)
    z = 1.959964
    se, sp = 91 / 102, (4985 + 1) / 5002
    p = (k + z * z / 2) / (n + z * z)
    share = (p + sp - 1) / (se + sp - 1)
    shift = 2 * z * z * (share * se * (1 - se) / 100 - (1 - share) * sp * (1 - sp) / 5000)
    variance = p * (1 - p) / (n + z * z) + share**2 * se * (1 - se) / 100 + (1 - share) ** 2 * sp * (1 - sp) / 5000
    spread = z * variance**0.5 / (se + sp - 1)
    found = count(np.array([3] * k + [0] * (n - k)), six_classes).interval(errors)
    assert found == pytest.approx((share + shift - spread, share + shift + spread), abs=1e-6)


@pytest.mark.parametrize(("prevalence", "cells"), [(0.005, 4000), (0.04, 2500), (0.10, 600)])
def test_the_interval_covers_the_truth(prevalence, cells):
    """Slides, detectors and their validation drawn at random: 95 % intervals hold the truth about as often as they say.

    Wilson's interval, which takes the counted share for the true one, does not.
    """
    rng = np.random.default_rng(0)
    sensitivity, false_alarm = 0.85, 0.004
    held = wilson_held = 0
    runs = 600
    for _ in range(runs):
        errors = ErrorRates(70, int(rng.binomial(70, sensitivity)), 5000, int(rng.binomial(5000, false_alarm)))
        positive = int(rng.binomial(cells, prevalence * sensitivity + (1 - prevalence) * false_alarm))
        c = Count(np.zeros(1, dtype=np.int64), positive, cells)
        low, high = c.interval(errors)
        assert 0 <= low <= c.parasitemia <= high <= 1
        held += low <= prevalence <= high
        low, high = c.interval()
        wilson_held += low <= prevalence <= high
    assert held / runs >= 0.94
    assert wilson_held / runs < 0.93


def test_without_infected_cells_to_know_the_rates_by_it_is_wilsons(six_classes):
    found = count(np.array([3] * 81 + [0] * 182), six_classes)
    assert found.interval(ErrorRates(0, 0, 100, 2)) == found.interval()
