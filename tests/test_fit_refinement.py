"""From which probability of an infection on cells are refined, and from which in several views."""

from dataclasses import replace

import numpy as np
import pytest

from malaria_cells.inference.calibration import Calibration
from malaria_cells.inference.tta import Refinement
from malaria_cells.training.fit_refinement import FURTHER_GRID, GRID, MAX_LOST, Answers, choose_refinement

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
    return Answers(probabilities(first), probabilities(refined), probabilities(refined)), class_ids


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weakest", [0.25, 0.45])
def test_it_goes_as_high_as_no_infected_cell_is_lost(seed, weakest):
    answers, class_ids = cells(seed, weakest)
    chosen = choose_refinement(answers, class_ids, IS_INFECTED, PLAIN)
    assert chosen.min_infected in GRID
    assert chosen.further_views == 0  # there was one view only, so nothing can be said
    first, refined = answers.first[:, 1], answers.refined[:, 1]
    suspected = first >= chosen.min_infected
    decided = np.where(suspected, refined, first)
    infected = class_ids == 1
    recognised = infected & (refined >= 0.5)
    assert (recognised & (decided < 0.5)).sum() <= MAX_LOST * recognised.sum()
    assert suspected.sum() < (first >= USUAL).sum()


@pytest.mark.parametrize("seed", range(3))
def test_further_views_are_left_out_where_one_view_says_the_same(seed):
    answers, class_ids = cells(seed, 0.45)
    rng = np.random.default_rng(seed)
    agreeing = probabilities(np.clip(answers.refined[:, 1] + rng.normal(0, 0.01, 1200), 0, 1))
    chosen = choose_refinement(replace(answers, once=agreeing), class_ids, IS_INFECTED, PLAIN)
    assert chosen.further_views == FURTHER_GRID[-1]


def test_further_views_stay_where_one_view_misses_what_all_recognise():
    answers, class_ids = cells(0, 0.45)
    missed = np.where((class_ids == 1) & (np.arange(1200) % 20 == 0), 0.16, answers.refined[:, 1])
    chosen = choose_refinement(replace(answers, once=probabilities(missed)), class_ids, IS_INFECTED, PLAIN)
    assert chosen.further_views == FURTHER_GRID[0]  # from 0.15 on these are seen again


def test_the_usual_threshold_stays_where_the_refiner_finds_what_the_first_hardly_suspects():
    answers, class_ids = cells(0, 0.11)
    assert choose_refinement(answers, class_ids, IS_INFECTED, PLAIN).min_infected == USUAL


@pytest.mark.parametrize("ids", [0, 1])
def test_one_kind_of_cells_says_nothing(ids):
    answers, class_ids = cells(0, 0.5)
    assert choose_refinement(answers, np.full_like(class_ids, ids), IS_INFECTED, PLAIN) == Refinement()
