"""Screening: what the head settles is not classified, nothing rare is settled, and unfamiliar images are classified whole."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.assembly import proposal_inference_function
from malaria_cells.inference.screening import Screening
from malaria_cells.proposals import Proposer, ScoredBoxes
from malaria_cells.proposals.learned import centre_network
from malaria_cells.proposals.learned.prediction import MULTIPLE, PLACE_CHANNELS, RECEPTIVE_RADIUS, SCREENING_RADIUS, STRIDE
from malaria_cells.proposals.learned.screening_network import with_screening, without_screening
from malaria_cells.proposals.learned.screening_training import ScreenedImage, screening_crop, screening_loss
from malaria_cells.proposals.learned.training_images import CROP
from malaria_cells.proposals.tiles import in_tiles
from malaria_cells.training.fit_screening import MAX_LOST, choose_screening
from tests.test_unfamiliar import CELLS, FAMILIAR, LABELS, UNUSUAL, Grid, detector_of, scene

GIVEN = (0.97, 0.01, 0.01, 0.01)


# --- the network


@pytest.fixture(scope="module")
def networks():
    """A network of learned proposals, and the same with a screening head, for pixels."""
    keras.utils.set_random_seed(0)
    plain = centre_network.build()
    screened = with_screening(plain)
    return proposal_inference_function(plain), proposal_inference_function(screened), screened


def test_the_head_changes_no_candidate(networks):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 128, 192, 3), dtype=np.uint8)
    plain, screened = networks[0](pixels), networks[1](pixels)
    assert np.array_equal(plain, screened[..., :PLACE_CHANNELS])
    assert np.allclose(screened[..., PLACE_CHANNELS:].sum(axis=-1), 1, atol=1e-5)


def test_the_head_can_be_taken_off_again(networks):
    plain = without_screening(networks[2])
    assert plain.output_shape == centre_network.build().output_shape
    assert without_screening(plain) is plain
    assert with_screening(networks[2]).output_shape == networks[2].output_shape


def test_a_tiled_image_is_screened_as_a_whole_one(networks):
    pixels = np.random.default_rng(0).integers(0, 256, (448, 320, 3), dtype=np.uint8)
    tiled = in_tiles(networks[1], pixels, STRIDE, MULTIPLE, SCREENING_RADIUS, side=96)
    assert np.abs(tiled - networks[1](pixels[None])[0]).max() < 1e-5


def test_the_halo_is_as_wide_as_the_head_sees(networks):
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    changed = pixels.copy()
    changed[256, 256] = 255 - changed[256, 256]
    rows, columns = np.nonzero(np.abs(networks[1](changed[None])[0] - networks[1](pixels[None])[0]).max(axis=-1) > 0)
    reach = np.abs(np.concatenate([rows, columns]) * STRIDE - 256).max()
    assert RECEPTIVE_RADIUS < reach <= SCREENING_RADIUS


# --- its training


@given(seed=st.integers(0, 2**32 - 1))
def test_a_crop_holds_what_was_said_of_each_candidate_where_it_is(seed):
    """Property: where the pixels of a candidate are, its probabilities are, however the crop is turned."""
    rng = np.random.default_rng(seed)
    pixels = np.full((400, 300, 3), 255, dtype=np.uint8)
    centre = np.array([[60, 80], [200, 300], [150, 150]])
    for x, y in centre:
        pixels[y - 12 : y + 12, x - 12 : x + 12] = 60
    boxes = np.concatenate([centre - 20, centre + 20], axis=1).astype(np.float32)
    said = np.array([[0.9, 0.1, 0], [0.1, 0.9, 0], [0, 0, 1]], dtype=np.float32)
    image = ScreenedImage(pixels, boxes, said, np.arange(3))
    crop, target = screening_crop(image, rng, 2)
    assert crop.shape == (CROP, CROP, 3)
    weight = target[..., 3]
    assert (target[weight == 1][:, :3] == [0, 0, 1]).all()
    assert ((weight > 0) <= (target[..., :3].sum(axis=-1) > 0.99)).all()
    rows, columns = np.nonzero(weight == 1)
    assert len(rows) <= 1  # the third candidate alone is other than common, and may lie at the crop's edge
    dark = crop.mean(axis=2) < crop.mean() - 20
    for row, column in zip(rows, columns, strict=True):
        assert dark[row * STRIDE : (row + 1) * STRIDE, column * STRIDE : (column + 1) * STRIDE].any()


def test_the_loss_is_the_mean_cross_entropy_by_weight():
    target = np.zeros((1, 2, 2, 4), dtype=np.float32)
    target[0, 0, 0], target[0, 1, 1] = (0.9, 0.1, 0, 0.2), (0, 0, 1, 1)
    predicted = np.full((1, 2, 2, 8), 1 / 3, dtype=np.float32)
    predicted[0, 1, 1, 5:] = 0.25, 0.25, 0.5
    expected = (0.2 * np.log(3) + np.log(2)) / 1.2
    assert float(screening_loss(target, predicted)) == pytest.approx(expected, rel=1e-5)


# --- what is settled


def heads(rng, n, centre):
    other = 1 / (1 + np.exp(-rng.normal(centre, 1.0, n)))
    background = rng.uniform(0.02, 0.2, n) * (1 - other)
    return np.stack([1 - other - background, background, other], axis=1).astype(np.float32)


def validated(rng, healthy=2000, infected=100, white=30):
    labels = LABELS
    head = np.concatenate([heads(rng, healthy, -6), heads(rng, infected, 1), heads(rng, white, 2)])
    ids = np.repeat([0, 2, 1], [healthy, infected, white])
    probabilities = np.full((len(ids), len(labels) + 1), 0.01, dtype=np.float32)
    probabilities[np.arange(len(ids)), ids] = 1 - 0.01 * len(labels)
    return head, probabilities, ids


@pytest.mark.parametrize("seed", range(4))
def test_few_of_what_is_rare_are_settled_and_most_of_what_is_common(seed):
    rng = np.random.default_rng(seed)
    head, probabilities, ids = validated(rng)
    chosen = choose_screening(head, probabilities, ids, LABELS, 0)
    chosen.check(len(LABELS))
    others, _, other_ids = validated(np.random.default_rng(seed + 100), infected=20_000)
    assert chosen.settles(others)[other_ids == 2].mean() <= 4 * MAX_LOST  # other cells than those of the choice
    settled = chosen.settles(head)
    assert settled[ids == 0].mean() > 0.8
    told = chosen.probabilities(head[settled])
    assert np.allclose(told.sum(axis=1), 1, atol=1e-5)
    assert told[:, 2].mean() == pytest.approx(probabilities[settled, 2].mean(), abs=0.01)
    assert told[:, -1].mean() == pytest.approx(probabilities[settled, -1].mean(), abs=0.02)


def test_what_the_classifier_does_not_recognise_either_cannot_be_lost():
    head, probabilities, ids = validated(np.random.default_rng(0))
    before = choose_screening(head, probabilities, ids, LABELS, 0)
    head[-131], probabilities[-131] = (0.98, 0.0199, 0.0001), probabilities[0]  # an infected cell that looks healthy to both
    ids[-131] = 2
    assert choose_screening(head, probabilities, ids, LABELS, 0).max_other == pytest.approx(before.max_other, rel=0.1)


def test_nothing_is_settled_where_the_head_cannot_tell():
    rng = np.random.default_rng(0)
    head, probabilities, ids = validated(rng)
    head[:] = (0.3, 0.3, 0.4)
    assert choose_screening(head, probabilities, ids, LABELS, 0) is None


@pytest.mark.parametrize("unknown", [2, None])
def test_nothing_is_settled_where_the_classifier_recognises_nothing_that_could_be_lost(unknown):
    """As after a training of a few steps: no infected cell, or no cell at all but the common ones."""
    head, probabilities, ids = validated(np.random.default_rng(0))
    probabilities[(ids == unknown) if unknown else (ids > 0)] = probabilities[0]
    assert choose_screening(head, probabilities, ids, LABELS, 0) is None


@pytest.mark.parametrize(
    "wrong", [{"given_cell": (1.0,)}, {"given_cell": (0.2, 0.2, 0.2, 0.2)}, {"slope": float("nan")}, {"offset": 1e300}]
)
def test_a_wrong_screening_is_refused(wrong):
    with pytest.raises(ValueError, match="screening"):
        replace(Screening(0.1, GIVEN), **wrong).check(4)


# --- in the detector


class Screened(Grid):
    """Of one row of boxes the head is sure of all but the fourth."""

    def screened_candidates(self, image):
        screening = np.tile(np.float32([0.97, 0.02, 0.01]), (CELLS, 1))
        screening[3] = 0.3, 0.1, 0.6
        return ScoredBoxes(super().screened_candidates(image).boxes_xyxy, np.ones(CELLS, dtype=np.float32), screening)


def counting_detector(level):
    asked = []
    plain = detector_of(level)
    cascade = plain.classifier.cascade

    def network(patches):
        asked.append(len(patches))
        return cascade.network(patches)

    classifier = replace(plain.classifier, cascade=replace(cascade, network=network))
    return replace(plain, proposer=Screened(), classifier=classifier, screening=Screening(0.1, GIVEN), unfamiliar=None), asked


def test_only_what_is_not_settled_is_classified():
    detector, asked = counting_detector(FAMILIAR)
    predictions = detector.predict(scene())
    assert asked[0] == 1
    assert len(asked) <= 2  # the second is for its other views
    whole = replace(detector, screening=None).predict(scene()).probabilities
    assert np.array_equal(predictions.probabilities[3], whole[3])
    rest = np.delete(predictions.probabilities, 3, axis=0)
    assert np.allclose(rest[:, :-1] / rest[:, :-1].sum(axis=1, keepdims=True), GIVEN, atol=1e-6)


def test_an_unfamiliar_image_is_classified_whole():
    detector, _ = counting_detector(UNUSUAL)
    predictions = detector.predict(scene())
    assert np.allclose(predictions.probabilities, replace(detector, screening=None).predict(scene()).probabilities)
    assert predictions.familiarity.level == UNUSUAL


def test_classical_proposals_are_all_classified():
    detector, asked = counting_detector(FAMILIAR)
    replace(detector, proposer=Proposer("sliding", 20.0)).predict(scene())
    assert asked[0] > 1


def test_labels_other_than_of_malaria_are_screened_too():
    labels = LabelSet(("cell", "debris"))
    rng = np.random.default_rng(3)
    head = np.concatenate([heads(rng, 900, -6), heads(rng, 100, 2)])
    ids = np.repeat([0, 1], [900, 100])
    probabilities = np.full((1000, 3), 0.05, dtype=np.float32)
    probabilities[np.arange(1000), ids] = 0.9
    chosen = choose_screening(head, probabilities, ids, labels, 0)
    assert chosen.settles(head)[ids == 0].mean() > 0.8
    assert chosen.settles(head)[ids == 1].sum() == 0
