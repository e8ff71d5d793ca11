import numpy as np
import pytest
from scipy.special import softmax

from malaria_cells.inference.calibration import Calibration, InfectionSigmoid, calibration_error, calibration_figures, fit_calibration

NO_FINDING = np.zeros(3, dtype=bool)
THIRD_IS = np.array([False, False, True])


def world(n=20_000, temperature=0.5, seed=0):
    """Cells of three classes, 90 : 9 : 1 in life; a network trained on equal fractions, over-confident by `temperature`."""
    rng = np.random.default_rng(seed)
    fractions = np.array([0.90, 0.09, 0.01])
    truth = rng.choice(3, n, p=fractions)
    evidence = np.eye(3)[truth] * 3 + rng.normal(0, 1.0, (n, 3))
    # With unit noise, 3 * evidence is the log likelihood of each class, up to a constant.
    return softmax(3 * evidence / temperature, axis=1), truth, fractions


def test_temperature_and_prior_shift_are_recovered():
    probabilities, truth, fractions = world()
    fitted = fit_calibration(probabilities, truth, np.full(3, 1 / 3), NO_FINDING)
    assert fitted.infection is None
    assert fitted.temperature == pytest.approx(2.0, rel=0.1)
    assert fitted.shift == pytest.approx(1.0, abs=0.15)
    assert np.allclose(np.exp(fitted.log_prior_ratio), fractions * 3, rtol=0.1)


def test_fit_lowers_the_calibration_error_on_cells_not_fitted_to():
    fitted = fit_calibration(*world()[:2], np.full(3, 1 / 3), NO_FINDING)
    probabilities, truth, _ = world(seed=1)
    assert calibration_error(fitted(probabilities), truth) < 0.3 * calibration_error(probabilities, truth)


def test_calibrated_rows_sum_to_one_and_none_changes_nothing():
    probabilities, truth, _ = world(200)
    fitted = fit_calibration(probabilities, truth, np.full(3, 1 / 3), NO_FINDING)
    assert np.allclose(fitted(probabilities).sum(axis=1), 1, atol=1e-6)
    assert np.allclose(Calibration.none(3)(probabilities), probabilities, atol=1e-5)


def overconfident_about_findings(seed):
    """Cells of three classes of which the third is infected, called for too often and too surely."""
    probabilities, truth, fractions = world(temperature=1.0, seed=seed)
    life = np.log(probabilities) + np.log(fractions * 3)
    life -= np.log(np.exp(life).sum(axis=1, keepdims=True))
    distorted = InfectionSigmoid(tuple(THIRD_IS.tolist()), 0.7, 1.5)(life)
    return np.exp(distorted), truth, np.exp(life)


def test_findings_come_as_often_as_their_probabilities_say_on_cells_not_fitted_to():
    probabilities, truth, _ = overconfident_about_findings(0)
    fractions = np.bincount(truth) / len(truth)
    fitted = fit_calibration(probabilities, truth, fractions, THIRD_IS)
    without = fit_calibration(probabilities, truth, fractions, NO_FINDING)
    probabilities, truth, right = overconfident_about_findings(1)
    expected, annotated = fitted(probabilities)[:, 2].sum(), (truth == 2).sum()
    assert without(probabilities)[:, 2].sum() > 1.3 * annotated
    assert expected == pytest.approx(annotated, rel=0.1)
    assert np.abs(fitted(probabilities)[:, 2] - right[:, 2]).mean() < 0.2 * np.abs(without(probabilities)[:, 2] - right[:, 2]).mean()


def test_findings_keep_their_order_and_the_proportions_on_either_side():
    rng = np.random.default_rng(0)
    before = rng.dirichlet(np.ones(5), 200)
    is_infected = np.array([False, True, True, False, False])
    after = np.exp(InfectionSigmoid(tuple(is_infected.tolist()), 0.6, -1.2)(np.log(before)))
    assert np.allclose(after.sum(axis=1), 1)
    assert (np.argsort(after[:, is_infected].sum(axis=1)) == np.argsort(before[:, is_infected].sum(axis=1))).all()
    for side in (is_infected, ~is_infected):
        share_before, share_after = (p[:, side] / p[:, side].sum(axis=1, keepdims=True) for p in (before, after))
        assert np.allclose(share_before, share_after)
    p = before[:, is_infected].sum(axis=1)
    assert np.allclose(after[:, is_infected].sum(axis=1), 1 / (1 + np.exp(-(0.6 * np.log(p / (1 - p)) - 1.2))))


@pytest.mark.parametrize("class_ids", [np.zeros(50, dtype=int), np.full(50, 2)])
def test_without_findings_or_without_others_there_is_no_sigmoid(class_ids):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    assert fit_calibration(probabilities, class_ids, np.full(3, 1 / 3), THIRD_IS).infection is None


def test_two_findings_told_apart_without_fault_do_not_make_it_certain():
    probabilities = np.full((1000, 3), [0.98, 0.01, 0.01])
    probabilities[:2] = [0.01, 0.01, 0.98]
    class_ids = np.array([2, 2] + [0] * 998)
    fitted = fit_calibration(probabilities, class_ids, np.full(3, 1 / 3), THIRD_IS)
    assert 0.5 < fitted(probabilities)[0, 2] < 0.9  # Platt: (2 + 1) / (2 + 2)


def test_certain_and_absent_classes_stay_finite():
    probabilities = np.eye(3)[[0, 0, 1, 1]]
    fitted = fit_calibration(probabilities, np.array([0, 0, 1, 1]), np.array([0.5, 0.5, 0.0]), NO_FINDING)
    assert np.isfinite(fitted(probabilities)).all()


def test_calibration_error_by_hand():
    # One bin holds three cells of confidence 0.8, two of them right: |2.4 - 2| / 3.
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8]])
    assert calibration_error(probabilities, np.array([0, 1, 1])) == pytest.approx(0.4 / 3)
    assert calibration_error(np.zeros((0, 2)), np.zeros(0, dtype=int)) == 0


def test_expected_and_annotated_findings_by_hand():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    figures = calibration_figures(probabilities, np.array([0, 2]), np.array([False, True, True]))
    assert figures["infected"] == {"expected": pytest.approx(1.2), "annotated": 1}
    assert "infected" not in calibration_figures(probabilities, np.array([0, 2]), NO_FINDING)
