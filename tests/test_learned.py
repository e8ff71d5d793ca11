"""Learned proposals: targets and decoding are each other's inverse, the loss disregards what it must, and it learns."""

import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from malaria_cells import boxes
from malaria_cells.cli import main
from malaria_cells.errors import InputError
from malaria_cells.proposals import Proposer
from malaria_cells.proposals.learned import FRAME, MULTIPLE, STRIDE, WORKING_CELL_SIZE, decode, learned_boxes, seen_mirrored
from malaria_cells.training.proposer import CROP, RareCells, _crop, _target, _turned, centre_loss, train_proposer

PLACES = CROP // STRIDE


def cells(rng, n=25, size=CROP):
    """Boxes whose centres are at least three places apart, so that each has a peak of its own."""
    centre = rng.permutation(np.stack(np.meshgrid(np.arange(1, 8), np.arange(1, 8)), axis=-1).reshape(-1, 2))[:n] * (size / 8)
    centre = centre + rng.uniform(-6, 6, centre.shape)
    half = rng.uniform(12, 28, centre.shape)
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def as_places(target):
    """What a perfect network would answer."""
    return np.concatenate([target[..., :1], target[..., 2:6]], axis=-1)


def same_boxes(found, expected):
    overlap = boxes.iou_matrix(found, expected)
    assert len(found) == len(expected)
    assert overlap.max(axis=0).min() > 0.999


@pytest.mark.parametrize("seed", range(5))
def test_decoding_a_target_gives_its_boxes(seed):
    truth = cells(np.random.default_rng(seed))
    target = _target(truth, np.zeros((0, 4), dtype=np.float32), np.ones((PLACES, PLACES), dtype=np.float32))
    found, scores = decode(as_places(target), (CROP, CROP))
    same_boxes(found + FRAME, truth)
    assert scores.tolist() == [1.0] * len(truth)


@given(x=st.integers(0, 47), y=st.integers(0, 31), views=st.sampled_from([1, 2, 4]))
def test_mirrored_looks_agree_on_what_is_there(x, y, views):
    def sees_the_dot(pixels):
        assert pixels.flags.c_contiguous
        _, rows, columns, _ = np.nonzero(pixels)
        centre = np.array([columns[0] + 0.5, rows[0] + 0.5]) / STRIDE
        places = np.zeros((1, 8, 12, 5), dtype=np.float32)
        column, row = np.floor(centre).astype(int)
        places[0, row, column] = 1, *(centre % 1), 0.2, -0.3
        return places

    pixels = np.zeros((1, 32, 48, 3), dtype=np.uint8)
    pixels[0, y, x] = 255
    once, averaged = sees_the_dot(pixels)[0], seen_mirrored(sees_the_dot, views)(pixels)[0]
    there = once[..., 0] > 0
    assert averaged[..., 0] == pytest.approx(once[..., 0])
    assert averaged[there] == pytest.approx(once[there], abs=1e-6)


def test_targets_turn_with_the_pixels():
    truth = cells(np.random.default_rng(0))
    target = _target(truth, np.zeros((0, 4), dtype=np.float32), np.ones((PLACES, PLACES), dtype=np.float32))
    pixels = np.zeros((CROP, CROP, 3), dtype=np.float32)
    for left, top, right, bottom in np.rint(truth).astype(int):  # a frame that shows where each box is
        pixels[top : top + 2, left:right] = pixels[bottom - 2 : bottom, left:right] = 255
    seen = set()
    for seed in range(40):
        turned_pixels, turned = _turned(pixels, target, np.random.default_rng(seed))
        seen.add(turned_pixels.tobytes())
        found, _ = decode(as_places(turned), (CROP, CROP))
        found = found + FRAME
        assert len(found) == len(truth)
        # The frames of the turned picture lie on the turned boxes: edges are bright where a box begins.
        edges = turned_pixels[..., 0] > 0
        on_edge = [
            edges[np.clip(np.rint([t, b - 1]).astype(int), 0, CROP - 1)][:, int((le + r) / 2)].mean()
            + edges[int((t + b) / 2)][np.clip(np.rint([le, r - 1]).astype(int), 0, CROP - 1)].mean()
            for le, t, r, b in found
        ]
        assert np.mean(on_edge) > 0.8
    assert len(seen) == 8


def test_ignore_regions_and_unmarked_cells_have_their_share():
    weight = np.full((PLACES, PLACES), 0.2, dtype=np.float32)
    target = _target(cells(np.random.default_rng(0), 4), np.array([[40, 40, 80, 80]], dtype=np.float32), weight)
    assert target[10:20, 10:20, 6].max() == 0
    assert target[25:, 25:, 6].min() == np.float32(0.2)


def test_the_loss_disregards_places_without_weight():
    truth = cells(np.random.default_rng(1), 5)
    target = _target(truth, np.zeros((0, 4), dtype=np.float32), np.ones((PLACES, PLACES), dtype=np.float32))
    target[:8, :8, 6] = 0
    perfect = as_places(target)
    alarm = perfect.copy()
    alarm[2:6, 2:6, 0] = 0.9
    elsewhere = perfect.copy()
    free = np.argwhere(target[..., 0] < 1e-3)[-1]
    elsewhere[free[0], free[1], 0] = 0.9
    loss = [float(centre_loss(target[None], p[None].astype(np.float32))) for p in (perfect, alarm, elsewhere)]
    assert loss[0] == pytest.approx(loss[1], rel=1e-3)
    assert loss[2] > loss[0] + 0.1


def test_the_loss_by_hand():
    """One centre of heat 0.5, off by 0.25 of a place in x: CenterNet's eq. 1 and L1."""
    target = np.zeros((1, 4, 4, 7), dtype=np.float32)
    target[0, 1, 1, [0, 1, 2]] = [1, 1, 0.5]
    predicted = np.full((1, 4, 4, 5), 1e-4, dtype=np.float32)
    predicted[..., 1:] = 0
    predicted[0, 1, 1, :2] = [0.5, 0.25]
    assert float(centre_loss(target, predicted)) == pytest.approx(0.25 * np.log(2) + 0.25, abs=1e-4)


@pytest.mark.parametrize("shape", [(480, 640), (333, 517), (64, 64)])
def test_boxes_are_in_pixels_of_the_picture(shape):
    """A network that knows the truth, asked about pictures of any size and aspect."""
    cell_size = 30.0
    height, width = shape
    truth = np.array([[10, 12, 38, 44], [width - 34, height - 31, width - 4, height - 1]], dtype=np.float32)
    asked = []

    def network(pixels):
        asked.append(pixels.shape)
        rows, columns = pixels.shape[1] // STRIDE, pixels.shape[2] // STRIDE
        scale = np.array([round(width * WORKING_CELL_SIZE / cell_size) / width, round(height * WORKING_CELL_SIZE / cell_size) / height] * 2)
        side = max(rows, columns)
        target = _target(
            (truth * scale + FRAME).astype(np.float32), np.zeros((0, 4), dtype=np.float32), np.ones((side, side), dtype=np.float32)
        )
        return as_places(target)[None, :rows, :columns]

    found, scores = learned_boxes(network, np.zeros((*shape, 3), dtype=np.uint8), cell_size)
    assert all(n % MULTIPLE == 0 for n in asked[0][1:3])
    same_boxes(found, truth)
    assert (scores == 1).all()
    inside, sureness = Proposer("learned", cell_size, network=network).candidates(np.zeros((*shape, 3), dtype=np.uint8))
    same_boxes(inside, truth)
    assert len(sureness) == 2


@pytest.fixture(scope="module")
def annotated(sample, six_classes):
    from malaria_cells.annotations import load_annotations

    return load_annotations(sample / "training.json", six_classes)


def test_crops_hold_the_rare_cell(annotated):
    from malaria_cells.training.proposer import _prepared

    rare = RareCells.of(annotated)
    assert len(rare.by_class) == (annotated.class_counts > 0).sum()
    picture = _prepared(annotated.pictures[0], 72.0)
    assert 0.2 <= picture.weight.min() < picture.weight.max() == 1
    for seed in range(10):
        pixels, target = _crop(picture, np.random.default_rng(seed), picture.boxes_xyxy[0])
        assert pixels.shape == (CROP, CROP, 3)
        assert target.shape == (PLACES, PLACES, 7)
        assert target[..., 1].sum() >= 1
        again = _crop(picture, np.random.default_rng(seed), picture.boxes_xyxy[0])
        assert np.array_equal(pixels, again[0])


def test_what_the_edge_cuts_off_is_not_excused(annotated):
    """Stain that no box holds counts less, but not at the edge, where annotators leave cells out on purpose."""
    from malaria_cells.training.proposer import CUT_OFF, UNMARKED_WEIGHT, _prepared

    bare = replace(annotated.pictures[0], **{k: getattr(annotated.pictures[0], k)[:0] for k in ("boxes_xyxy", "class_ids", "ignore")})
    picture = _prepared(bare, 72.0)
    rim = int(FRAME + CUT_OFF * WORKING_CELL_SIZE) // STRIDE - 1
    inner = picture.weight[rim:-rim, rim:-rim]
    assert inner.min() == pytest.approx(UNMARKED_WEIGHT)
    assert picture.weight[:rim].min() == picture.weight[:, :rim].min() == 1
    assert (picture.pixels[:FRAME] == 0).all()
    assert (picture.pixels[:, :FRAME] == 0).all()


@pytest.fixture(scope="module")
def trained(annotated):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")  # as a classifier's training before in the same process may leave it
    return train_proposer(annotated, annotated.median_cell_size, epochs=2, steps=45, batch_size=4, seed=1)


@pytest.mark.slow
def test_it_learns_where_cells_are(trained, annotated, sample, six_classes):
    assert {layer.compute_dtype for layer in trained.layers} == {"float32"}
    from malaria_cells.annotations import load_annotations
    from malaria_cells.model_folder import compiled_centres
    from malaria_cells.pictures import read_picture

    assert trained.count_params() < 250_000
    proposer = Proposer("learned", annotated.median_cell_size, network=compiled_centres(trained))
    found = total = 0
    for picture in load_annotations(sample / "test.json", six_classes).pictures:
        best = boxes.iou_matrix(picture.cells_xyxy, proposer(read_picture(picture.path))).max(axis=1, initial=0)
        found, total = found + int((best >= 0.5).sum()), total + len(best)
    assert found / total > 0.7


@pytest.mark.slow
def test_a_model_folder_with_a_proposer(trained, untrained_model, sample, tmp_path, capsys):
    from malaria_cells.model_description import load_description
    from malaria_cells.model_folder import load_detector, load_network, save_model

    description, _ = load_description(untrained_model)
    folder = tmp_path / "m"
    folder.mkdir()
    network = load_network(untrained_model / "classifier.keras")
    save_model(folder, [network], replace(description, proposals="learned"), trained)
    detector, _ = load_detector(folder)
    assert detector.proposer.method == "learned"
    picture = str(sorted((sample / "images").iterdir())[0])
    for options in ([], ["--proposals", "watershed"]):  # a learned proposer can be exchanged for a classical one
        assert main(["run", "--model", str(folder), "--image", picture, "--output", str(tmp_path / "out"), *options]) == 0
    (folder / "proposer.keras").unlink()
    with pytest.raises(InputError, match=r"proposer\.keras: no such file"):
        load_detector(folder)


def test_a_model_without_a_proposer_says_so(untrained_model, sample, tmp_path, capsys):
    folder = shutil.copytree(untrained_model, tmp_path / "m")
    picture = str(sorted((sample / "images").iterdir())[0])
    assert main(["run", "--model", str(folder), "--image", picture, "--output", str(tmp_path / "out"), "--proposals", "learned"]) == 2
    assert "this model holds no learned proposer; train one with `proposals: learned`" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
