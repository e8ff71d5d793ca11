"""Targets of the learned proposals: decoding is their inverse, they turn with the image, and the loss counts what it must."""

import numpy as np
import pytest

from malaria_cells.data import boxes
from malaria_cells.data.boxes import WORKING_CELL_SIZE
from malaria_cells.proposals import Proposer
from malaria_cells.proposals.learned.prediction import MULTIPLE, PADDING, STRIDE, decode, learned_boxes
from malaria_cells.proposals.learned.targets import (
    CENTRE,
    CHANNELS,
    HEAT,
    NEAR,
    NEARNESS,
    SHAPE,
    WEIGHT,
    X,
    centre_loss,
    centre_targets,
    random_dihedral,
)

SIDE = 256  # pixels of a crop
GRID = SIDE // STRIDE
NONE = np.zeros((0, 4), dtype=np.float32)
WHOLE = np.ones((GRID, GRID), dtype=np.float32)


def cells(rng, n=25, size=SIDE):
    """Boxes whose centres are at least three grid cells apart, so that each has a peak of its own."""
    centre = rng.permutation(np.stack(np.meshgrid(np.arange(1, 8), np.arange(1, 8)), axis=-1).reshape(-1, 2))[:n] * (size / 8)
    centre = centre + rng.uniform(-6, 6, centre.shape)
    half = rng.uniform(12, 28, centre.shape)
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def ones(truth):
    return np.ones(len(truth))


def as_places(target):
    """What a perfect network would answer."""
    return np.concatenate([target[..., :1], target[..., SHAPE]], axis=-1)


def same_boxes(found, expected):
    overlap = boxes.iou_matrix(found, expected)
    assert len(found) == len(expected)
    assert overlap.max(axis=0).min() > 0.999


@pytest.mark.parametrize("seed", range(5))
def test_decoding_a_target_gives_its_boxes(seed):
    truth = cells(np.random.default_rng(seed))
    target = centre_targets(truth, ones(truth), NONE, WHOLE)
    found, scores, _ = decode(as_places(target), (SIDE, SIDE))
    same_boxes(found + PADDING, truth)
    assert scores.tolist() == [1.0] * len(truth)


@pytest.mark.parametrize("seed", range(5))
def test_every_place_near_a_centre_knows_the_whole_cell(seed):
    truth = cells(np.random.default_rng(seed))
    importance = np.random.default_rng(seed).choice([1.0, 8.0], len(truth))
    target = centre_targets(truth, importance, NONE, WHOLE)
    rows, columns = np.nonzero(target[..., NEARNESS])
    assert np.array_equal(target[..., NEARNESS] > 0, target[..., HEAT] >= NEAR)
    assert len(rows) > 5 * len(truth)
    centre = (np.stack([columns, rows], axis=1) + target[rows, columns, 2:4]) * STRIDE
    half = np.exp(target[rows, columns, 4:6]) * WORKING_CELL_SIZE / 2
    overlap = boxes.iou_matrix(np.concatenate([centre - half, centre + half], axis=1).astype(np.float32), truth)
    assert overlap.max(axis=1).min() > 0.999
    assert np.bincount(overlap.argmax(axis=1), target[rows, columns, NEARNESS]) == pytest.approx(importance, abs=1e-5)


def test_of_two_cells_at_one_place_the_last_is_learnt():
    truth = np.array([[90, 90, 130, 130], [80, 80, 140, 140]], dtype=np.float32)
    target = centre_targets(truth, ones(truth), NONE, WHOLE)
    found, *_ = decode(as_places(target), (SIDE, SIDE))
    same_boxes(found + PADDING, truth[1:])
    assert np.isfinite(target).all()


def test_targets_turn_with_the_pixels():
    truth = cells(np.random.default_rng(0))
    target = centre_targets(truth, ones(truth), NONE, WHOLE)
    pixels = np.zeros((SIDE, SIDE, 3), dtype=np.float32)
    for left, top, right, bottom in np.rint(truth).astype(int):  # a frame that shows where each box is
        pixels[top : top + 2, left:right] = pixels[bottom - 2 : bottom, left:right] = 255
    seen = set()
    for seed in range(40):
        turned_pixels, turned_target = random_dihedral(pixels, target, np.random.default_rng(seed))
        seen.add(turned_pixels.tobytes())
        found, *_ = decode(as_places(turned_target), (SIDE, SIDE))
        found = found + PADDING
        assert len(found) == len(truth)
        # The frames of the turned image lie on the turned boxes: edges are bright where a box begins.
        edges = turned_pixels[..., 0] > 0
        on_edge = [
            edges[np.clip(np.rint([t, b - 1]).astype(int), 0, SIDE - 1)][:, int((le + r) / 2)].mean()
            + edges[int((t + b) / 2)][np.clip(np.rint([le, r - 1]).astype(int), 0, SIDE - 1)].mean()
            for le, t, r, b in found
        ]
        assert np.mean(on_edge) > 0.8
    assert len(seen) == 8


def test_ignore_regions_and_unmarked_cells_have_their_share():
    weight = np.full((GRID, GRID), 0.2, dtype=np.float32)
    truth = cells(np.random.default_rng(0), 4)
    target = centre_targets(truth, ones(truth), np.array([[40, 40, 80, 80]], dtype=np.float32), weight)
    assert target[10:20, 10:20, WEIGHT].max() == 0
    assert target[25:, 25:, WEIGHT].min() == np.float32(0.2)


def test_the_loss_disregards_places_without_weight():
    truth = cells(np.random.default_rng(1), 5)
    target = centre_targets(truth, ones(truth), NONE, WHOLE)
    target[:8, :8, WEIGHT] = 0
    perfect = as_places(target)
    alarm = perfect.copy()
    alarm[2:6, 2:6, 0] = 0.9
    elsewhere = perfect.copy()
    free = np.argwhere(target[..., HEAT] < 1e-3)[-1]
    elsewhere[free[0], free[1], 0] = 0.9
    loss = [float(centre_loss(target[None], p[None].astype(np.float32))) for p in (perfect, alarm, elsewhere)]
    assert loss[0] == pytest.approx(loss[1], rel=1e-3)
    assert loss[2] > loss[0] + 0.1


def test_the_loss_by_hand():
    """One centre of heat 0.5, off by 0.25 of a place in x, and a place beside it, off by 0.1: CenterNet's eq. 1 and L1."""
    target = np.zeros((1, 4, 4, CHANNELS), dtype=np.float32)
    target[0, 1, 1, [HEAT, CENTRE, X, NEARNESS]] = [1, 1, 0.5, 0.6]
    target[0, 1, 2, [X, NEARNESS]] = [-0.5, 0.4]
    predicted = np.full((1, 4, 4, 5), 1e-4, dtype=np.float32)
    predicted[..., 1:] = 0
    predicted[0, 1, 1, :2] = [0.5, 0.25]
    predicted[0, 1, 2, 1] = -0.4
    assert float(centre_loss(target, predicted)) == pytest.approx(0.25 * np.log(2) + 0.6 * 0.25 + 0.4 * 0.1, abs=1e-4)


@pytest.mark.parametrize("shape", [(480, 640), (333, 517), (64, 64)])
def test_boxes_are_in_pixels_of_the_image(shape):
    """A network that knows the truth, asked about images of any size and aspect."""
    cell_size = 30.0
    height, width = shape
    truth = np.array([[10, 12, 38, 44], [width - 34, height - 31, width - 4, height - 1]], dtype=np.float32)
    asked = []

    def network(pixels):
        asked.append(pixels.shape)
        rows, columns = pixels.shape[1] // STRIDE, pixels.shape[2] // STRIDE
        scale = np.array([round(width * WORKING_CELL_SIZE / cell_size) / width, round(height * WORKING_CELL_SIZE / cell_size) / height] * 2)
        side = max(rows, columns)
        target = centre_targets((truth * scale + PADDING).astype(np.float32), ones(truth), NONE, np.ones((side, side), dtype=np.float32))
        return as_places(target)[None, :rows, :columns]

    found, scores, _ = learned_boxes(network, np.zeros((*shape, 3), dtype=np.uint8), cell_size)
    assert all(n % MULTIPLE == 0 for n in asked[0][1:3])
    same_boxes(found, truth)
    assert (scores == 1).all()
    inside, proposal_scores = Proposer("learned", cell_size, network=network).candidates(np.zeros((*shape, 3), dtype=np.uint8))
    same_boxes(inside, truth)
    assert len(proposal_scores) == 2
