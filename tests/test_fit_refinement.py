"""From which probability of an infection on cells are refined."""

import numpy as np
import pytest

from malaria_cells.inference.calibration import Calibration
from malaria_cells.inference.tta import Refinement
from malaria_cells.training.fit_refinement import GRID, MAX_LOST, choose_refinement

IS_INFECTED = np.array([False, True, False])
PLAIN = Calibration.none(3)
USUAL = Refinement().min_infected


def probabilities(infection):
    return np.stack([0.9 * (1 - infection), infection, 0.1 * (1 - infection)], axis=1)


def cells(seed, weakest):
    """Healthy cells of which many are suspected and cleared, and infected ones that are suspected from `weakest` on."""
    rng = np.random.default_rng(seed)
    class_ids = np.repeat([0, 1, 2], [900, 100, 200])
    first = np.where(class_ids == 1, rng.uniform(weakest, 1, 1200), rng.beta(0.4, 6, 1200))
    refined = np.where(first < USUAL, first, np.where(class_ids == 1, 0.9 + 0.1 * first, 0.04 * first))
    return probabilities(first), probabilities(refined), class_ids


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weakest", [0.25, 0.45])
def test_it_goes_as_high_as_no_infected_cell_is_lost(seed, weakest):
    first, refined, class_ids = cells(seed, weakest)
    chosen = choose_refinement(first, refined, class_ids, IS_INFECTED, PLAIN).min_infected
    assert chosen in GRID
    suspected = first[:, 1] >= chosen
    decided = np.where(suspected, refined[:, 1], first[:, 1])
    infected = class_ids == 1
    recognised = infected & (refined[:, 1] >= 0.5)
    assert (recognised & (decided < 0.5)).sum() <= MAX_LOST * recognised.sum()
    assert suspected.sum() < (first[:, 1] >= USUAL).sum()


def test_the_usual_threshold_stays_where_the_refiner_finds_what_the_first_hardly_suspects():
    first, refined, class_ids = cells(0, 0.11)
    assert choose_refinement(first, refined, class_ids, IS_INFECTED, PLAIN).min_infected == USUAL


@pytest.mark.parametrize("ids", [0, 1])
def test_one_kind_of_cells_says_nothing(ids):
    first, refined, class_ids = cells(0, 0.5)
    assert choose_refinement(first, refined, np.full_like(class_ids, ids), IS_INFECTED, PLAIN) == Refinement()
