import numpy as np
import pytest
from scipy.special import softmax

from malaria_cells.calibration import Calibration, calibration_error, fit_calibration


def world(n=20_000, temperature=0.5, seed=0):
    """Cells of three classes, 90 : 9 : 1 in life; a network trained on equal shares, over-confident by `temperature`."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.90, 0.09, 0.01])
    truth = rng.choice(3, n, p=shares)
    evidence = np.eye(3)[truth] * 3 + rng.normal(0, 1.0, (n, 3))
    # With unit noise, 3 * evidence is the log likelihood of each class, up to a constant.
    return softmax(3 * evidence / temperature, axis=1), truth, shares


def test_temperature_and_prior_shift_are_recovered():
    probabilities, truth, shares = world()
    fitted = fit_calibration(probabilities, truth, np.full(3, 1 / 3))
    assert fitted.temperature == pytest.approx(2.0, rel=0.1)
    assert fitted.shift == pytest.approx(1.0, abs=0.15)
    assert np.allclose(np.exp(fitted.log_prior_ratio), shares * 3, rtol=0.1)


def test_fit_lowers_the_calibration_error_on_cells_not_fitted_to():
    fitted = fit_calibration(*world()[:2], np.full(3, 1 / 3))
    probabilities, truth, _ = world(seed=1)
    assert calibration_error(fitted(probabilities), truth) < 0.3 * calibration_error(probabilities, truth)


def test_calibrated_rows_sum_to_one_and_none_changes_nothing():
    probabilities, truth, _ = world(200)
    fitted = fit_calibration(probabilities, truth, np.full(3, 1 / 3))
    assert np.allclose(fitted(probabilities).sum(axis=1), 1, atol=1e-6)
    assert np.allclose(Calibration.none(3)(probabilities), probabilities, atol=1e-5)


def test_certain_and_absent_classes_stay_finite():
    probabilities = np.eye(3)[[0, 0, 1, 1]]
    fitted = fit_calibration(probabilities, np.array([0, 0, 1, 1]), np.array([0.5, 0.5, 0.0]))
    assert np.isfinite(fitted(probabilities)).all()


def test_calibration_error_by_hand():
    # One bin holds three cells of confidence 0.8, two of them right: |2.4 - 2| / 3.
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8]])
    assert calibration_error(probabilities, np.array([0, 1, 1])) == pytest.approx(0.4 / 3)
    assert calibration_error(np.zeros((0, 2)), np.zeros(0, dtype=int)) == 0
