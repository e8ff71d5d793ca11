"""What a trial of a cell size computed is not computed again, and is the same."""

import numpy as np
import pytest

from malaria_cells.proposals import Proposer
from malaria_cells.proposals.learned.prediction import PADDING, STRIDE, learned_boxes, seen_mirrored, to_working_scale
from malaria_cells.proposals.learned.remembered_trials import MAX_PIXELS, MAX_REMEMBERED, RememberedTrials


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class Counted:
    """A network that finds confident cells of the expected size in images 640 pixels wide, nothing in others, and counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, pixels):
        self.calls += 1
        grid = np.zeros((1, pixels.shape[1] // STRIDE, pixels.shape[2] // STRIDE, 5), dtype=np.float32)
        if pixels.shape[2] == 640 + 2 * PADDING:
            grid[:, ::4, ::4, 0] = 0.5 + pixels[:, ::16, ::16, 0] / 600
        return grid


@pytest.mark.parametrize(("views", "calls"), [(1, 1), (4, 4)])
def test_the_detection_at_a_tried_size_begins_with_the_trial(views, calls):
    image, network = noise(480, 640), Counted()
    proposer = Proposer("learned", 40.0, network=network, views=views, cell_sizes=(20.0, 40.0))
    found, scores = proposer.candidates(image)
    trials = network.calls - calls
    expected, expected_scores, _ = learned_boxes(seen_mirrored(Counted(), views), image, 40.0)
    inside = ((expected[:, 2:].clip(max=[640, 480]) - expected[:, :2].clip(min=0)) >= 1).all(axis=1)
    assert np.array_equal(found, expected.clip(0, [640, 480, 640, 480])[inside])
    assert np.array_equal(scores, expected_scores[inside])
    assert trials == 1  # of the larger size, and that of the chosen size is the detection's first view


def test_only_equal_pixels_have_the_remembered_output():
    network = Counted()
    trials = RememberedTrials(network, noise(32, 32))
    first, other = noise(64, 64)[None], noise(64, 64)[None]
    other[0, -1, -1, -1] ^= 1
    output = trials.network(first)
    assert trials.network(first.copy()) is output
    assert network.calls == 1
    assert trials.network(other) is not output
    assert network.calls == 2
    for seed in range(MAX_REMEMBERED):
        trials.network(noise(64, 64, seed=1 + seed)[None])
    trials.network(first)
    assert network.calls == 3 + MAX_REMEMBERED  # the oldest is forgotten


def test_large_inputs_are_not_remembered():
    network = Counted()
    trials = RememberedTrials(network, noise(8, 8))
    pixels = np.zeros((1, 16, (MAX_PIXELS // 16 + 16) // 16 * 16, 3), dtype=np.uint8)
    trials.network(pixels)
    trials.network(pixels)
    assert network.calls == 2


def test_a_part_is_not_taken_for_the_whole_image():
    image = noise(100, 100)
    trials = RememberedTrials(Counted(), image)
    whole = trials.to_working_scale(image, 50)
    assert trials.to_working_scale(image, 50) is whole
    assert np.array_equal(whole, to_working_scale(image, 50))
    other = noise(100, 100, seed=1)
    assert np.array_equal(trials.to_working_scale(other, 50), to_working_scale(other, 50))
    assert np.array_equal(trials.to_working_scale(image[:50], 50), to_working_scale(image[:50], 50))
    assert np.array_equal(trials.to_working_scale(image, 60), to_working_scale(image, 60))
