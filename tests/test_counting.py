from dataclasses import replace

import numpy as np
import pytest

from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.counting import Count, count, counted_as
from malaria_cells.inference.error_rates import UNMEASURED, ErrorRates, expected_elsewhere, extra_variance


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


def detections(class_ids, scores, probabilities, objectness=1.0):
    n = len(class_ids)
    data = {"probabilities": np.array(probabilities), "objectness": np.broadcast_to(objectness, n)}
    return Detections.from_boxes(xyxy=np.zeros((n, 4)), class_id=np.array(class_ids), confidence=np.array(scores), **data)


def test_a_doubtful_infection_counts_as_the_best_healthy_label(six_classes):
    p = [[0.6, 0.1, 0, 0.3, 0, 0, 0], [0.1, 0.5, 0, 0.4, 0, 0, 0], [0.1, 0, 0, 0.9, 0, 0, 0]]
    found = detections([3, 3, 3], [0.3, 0.4, 0.9], p)
    assert counted_as(found, six_classes, 0.5, 0.5).tolist() == [0, 1, 3]
    assert counted_as(found, six_classes, 0.35, 0.5).tolist() == [0, 3, 3]


def test_what_may_be_no_cell_counts_only_as_a_finding(six_classes):
    p = [[0.4, 0, 0, 0, 0, 0, 0.6], [0, 0, 0, 0.4, 0, 0, 0.6], [0.1, 0, 0, 0.3, 0, 0, 0.6]]
    found = detections([0, 3, 3], [0.4, 0.4, 0.3], p, objectness=0.4)
    ids = counted_as(found, six_classes, 0.35, 0.5)
    assert ids.tolist() == [-1, 3, -1]
    assert count(ids, six_classes).by_label.tolist() == [0, 0, 0, 1, 0, 0]


def test_without_healthy_labels_nothing_is_counted_otherwise():
    labels = LabelSet(("ring",), infected=("ring",))
    assert counted_as(detections([0], [0.1], [[0.1, 0.9]]), labels, 0.5, 0.5).tolist() == [0]


def test_interval_with_error_rates_is_the_published_one(six_classes):
    """Lang and Reiczigel 2014, in an independent writing of their formula, term by term."""
    k, n, errors = 30, 1000, ErrorRates(infected=100, detected=90, healthy=5000, false_alarms=15)
    z = 1.959964
    se, sp = 91 / 102, (4985 + 1) / 5002
    p = (k + z * z / 2) / (n + z * z)
    fraction = (p + sp - 1) / (se + sp - 1)
    shift = 2 * z * z * (fraction * se * (1 - se) / 100 - (1 - fraction) * sp * (1 - sp) / 5000)
    variance = p * (1 - p) / (n + z * z) + fraction**2 * se * (1 - se) / 100 + (1 - fraction) ** 2 * sp * (1 - sp) / 5000
    spread = z * variance**0.5 / (se + sp - 1)
    found = count(np.array([3] * k + [0] * (n - k)), six_classes).interval(errors)
    assert found == pytest.approx((fraction + shift - spread, fraction + shift + spread), abs=1e-6)


@pytest.mark.parametrize(("prevalence", "cells"), [(0.005, 4000), (0.04, 2500), (0.10, 600)])
def test_the_interval_covers_the_truth(prevalence, cells):
    """Slides, detectors and their validation drawn at random: 95 % intervals hold the truth about as often as they say.

    Wilson's interval, which takes the counted fraction for the true one, does not.
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


def test_chance_alone_is_no_extra_variance():
    rng = np.random.default_rng(0)
    trials = rng.integers(50, 200, 400)
    assert extra_variance(rng.binomial(trials, 0.1), trials) < 5e-5


def test_extra_variance_is_that_of_the_images_own_rates():
    """Of a beta-binomial distribution, whose variance of rates is known: 0.1 * 0.9 / 11."""
    rng = np.random.default_rng(0)
    trials = rng.integers(50, 200, 2000)
    assert extra_variance(rng.binomial(trials, rng.beta(1, 9, 2000)), trials) == pytest.approx(0.09 / 11, rel=0.1)


@pytest.mark.parametrize(("events", "trials"), [([], []), ([3], [5]), ([0, 0], [0, 9]), ([0, 0, 0], [4, 5, 6]), ([7, 9], [4, 5])])
def test_extra_variance_of_little_is_none(events, trials):
    assert extra_variance(np.array(events), np.array(trials)) == 0


def test_rates_that_vary_widen_the_interval_of_an_image_more_than_that_of_many():
    errors = ErrorRates(100, 90, 5000, 10)
    varying = replace(errors, misses_vary=0.01, alarms_vary=1e-3)
    one = Count(np.array([100, 5]), 5, 105)
    many = Count(np.array([10_000, 500]), 500, 10_500, images=100)

    def widened(counted):
        (low, high), (lower, higher) = counted.interval(errors), counted.interval(varying)
        return (higher - lower) - (high - low)

    assert widened(one) > 4 * widened(many) > 0


def test_errors_elsewhere_differ_as_laboratories_do():
    """The mean over laboratories, the small one counting as much as the large; by hand: misses 0.1 and 0.5, alarms 0.002 and 0.01."""
    found = expected_elsewhere(
        {"large": ErrorRates(1000, 900, 10_000, 20), "small": ErrorRates(10, 5, 1000, 10), "healthy": ErrorRates(0, 0, 500, 3)}
    )
    assert (found.infected, found.detected, found.healthy) == (1010, 707, 11_500)
    assert found.false_alarms == round(11_500 * 0.006)
    # Student's 0.975 quantile with one degree of freedom is 12.706, the normal one 1.960.
    assert found.misses_differ == pytest.approx(0.08 * 1.5 * (12.7062 / 1.95996) ** 2, rel=1e-4)


@pytest.mark.parametrize("by_set", [{}, {"a": ErrorRates(10, 9, 100, 1)}, {"a": ErrorRates(10, 9, 100, 1), "b": ErrorRates(0, 0, 100, 1)}])
def test_one_laboratory_with_infected_cells_tells_nothing_of_another(by_set):
    assert expected_elsewhere(by_set) is UNMEASURED
    counted = Count(np.array([96, 4]), 4, 100)
    assert counted.interval(UNMEASURED) is None
    assert counted.interval_in_words(UNMEASURED) == "no interval, since errors on such images were not measured"


def test_the_interval_of_a_laboratory_left_out_holds_its_annotated_parasitemia():
    """Drawn laboratories, each with its own rates of misses and false alarms, and each image with rates around those."""
    rng = np.random.default_rng(0)

    def laboratory():
        miss, alarm = rng.beta(2, 8), min(rng.lognormal(np.log(0.004), 1), 0.2)
        infected = rng.binomial(120, np.minimum(rng.gamma(1, 0.02, 30), 0.5))
        found = rng.binomial(infected, rng.beta((1 - miss) * 30, miss * 30, 30))
        alarms = rng.binomial(120 - infected, rng.beta(alarm * 30, (1 - alarm) * 30, 30))
        return infected, found, 120 - infected, alarms

    def rates(infected, found, healthy, alarms):
        spread = extra_variance(infected - found, infected), extra_variance(alarms, healthy)
        return ErrorRates(infected.sum(), found.sum(), healthy.sum(), alarms.sum(), *spread)

    held = []
    for _ in range(30):
        *known, (infected, found, _, alarms) = [laboratory() for _ in range(5)]
        errors = expected_elsewhere({str(i): rates(*one) for i, one in enumerate(known)})
        for truth, counted in zip(infected[:10], (found + alarms)[:10], strict=True):
            low, high = Count(np.zeros(1), int(counted), 120).interval(errors)
            held.append(low <= truth / 120 <= high)
    assert np.mean(held) >= 0.95
