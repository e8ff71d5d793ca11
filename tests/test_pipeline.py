import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from sklearn.utils.class_weight import compute_sample_weight

from malaria_cells.base.errors import InputError
from malaria_cells.data.augment import imgaug_policies, keras_policies, make_augmenter, make_batch_policy, needs_soft_labels
from malaria_cells.data.patch_store import PatchStore
from malaria_cells.data.pipeline import Sampler, Targets, class_fractions, class_weights, plain_batches, row_fractions, training_batches


def make_store(class_ids, size=16):
    n = len(class_ids)
    patches = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    patches[:, 0, 0, 0] = np.arange(n)
    return PatchStore(
        patches, np.array(class_ids), np.zeros(n, dtype=np.int64), np.zeros((n, 4)), np.zeros(n, dtype=bool), ("a.png",), 3, "f"
    )


@pytest.mark.parametrize("policy", [*imgaug_policies.POLICIES, "flips+microscope"])
def test_policies_keep_form_and_follow_the_seed(policy):
    batch = np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), dtype=np.uint8)
    before = batch.copy()
    augment = make_augmenter(policy)
    one = augment(batch, 1)
    assert one.shape == batch.shape
    assert one.dtype == np.uint8
    assert np.array_equal(one, make_augmenter(policy)(batch, 1))
    assert np.array_equal(one, augment(batch, 1))
    assert np.array_equal(batch, before)
    if policy != "none":
        assert not np.array_equal(one, augment(batch, 2))


def test_flips_only_move_pixels():
    batch = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    flipped = make_augmenter("flips")(batch, 3)
    assert np.array_equal(np.sort(flipped.reshape(20, -1)), np.sort(batch.reshape(20, -1)))


def test_slides_differ_more_in_density_and_colour_than_stain():
    cells = np.full((256, 16, 16, 3), (190, 120, 160), dtype=np.uint8)

    def spread(policy):
        of_channels = make_augmenter(policy)(cells, 5).reshape(256, -1, 3).mean(axis=1)
        density = -np.log(np.maximum(of_channels, 1) / 255).mean(axis=1)
        return density.std(), (np.ptp(of_channels, axis=1) < 12).mean()

    (stain, grey), (slides, faded) = spread("stain"), spread("slides")
    assert slides > 1.5 * stain
    assert faded > grey + 0.02


def test_policies_joined_by_a_plus_sign_follow_each_other():
    batch = np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), dtype=np.uint8)
    flipped = make_augmenter("flips")(batch, 7)
    assert np.array_equal(make_augmenter("flips + slides")(batch, 7), make_augmenter("slides")(flipped, 7))
    assert np.array_equal(make_augmenter("flips+mixup")(batch, 7), flipped)
    assert make_batch_policy("flips+slides", (24, 24), 0) is None
    # Layers change the images and leave the labels to mixup.
    images, labels = make_batch_policy("layers+mixup", (24, 24), 0)(ops.cast(batch, "float32"), ops.eye(5), np.int64(0))
    assert images.shape == batch.shape
    assert 0 < (np.asarray(labels) > 0).sum() - 5 <= 5
    assert [needs_soft_labels(policy) for policy in ("flips+slides", "slides+mixup", "none")] == [False, True, False]


@pytest.mark.parametrize("policy", ["stains", "flips+stains", "stains+mixup"])
def test_unknown_policy(policy):
    with pytest.raises(InputError, match=r"augmentation: 'stains' is unknown \(did you mean 'stain'\?\)"):
        make_augmenter(policy)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=60),
    st.integers(1, 16),
    st.one_of(st.none(), st.integers(1, 20)),
    st.sampled_from([None, 0.0, 0.5]),
)
def test_sampler(class_ids, batch_size, steps, power):
    ids = np.array(class_ids)
    rows = np.arange(len(ids)) * 7
    sampler = Sampler(rows, ids, batch_size, steps, power, seed=1)
    batches = list(sampler.batches(0))
    assert len(batches) == sampler.steps_per_epoch
    drawn = np.concatenate(batches)
    assert set(drawn) <= set(rows)
    assert all(np.array_equal(a, b) for a, b in zip(batches, sampler.batches(0), strict=True))
    if power == 0:
        counts = np.bincount(ids[drawn // 7], minlength=4)[np.unique(ids)]
        assert counts.max() - counts.min() <= 1
    if power is not None:
        fractions = class_fractions(np.bincount(ids), power)
        assert np.abs(np.bincount(ids[drawn // 7], minlength=len(fractions)) - fractions * sampler.steps_per_epoch * batch_size).max() <= 1
    elif steps is None:
        assert sorted(drawn) == sorted(rows)
    else:
        assert len(drawn) == steps * batch_size


def test_class_shares_by_hand():
    counts = np.array([10_000, 100, 0, 1])
    assert class_fractions(counts, 0).tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])
    assert class_fractions(counts, 0.5).tolist() == pytest.approx([100 / 111, 10 / 111, 0, 1 / 111])
    assert class_fractions(counts, 1).tolist() == pytest.approx(counts / counts.sum())


def test_draws_are_the_ones_that_they_always_were():
    """Pinned, since a run that is resumed by another version must go on with the same rows."""
    ids, rows = np.array([0] * 9 + [1] * 3 + [3]), np.arange(13) * 7
    whole = [[56, 14, 21, 0, 70, 63], [28, 77, 84, 35, 7, 42], [49]]
    balanced = [[21, 49, 84, 7, 14, 77], [70, 63, 77, 56, 28, 0], [35, 84, 70, 63, 42, 84]]
    alike = {"weights": np.ones(13), "strata": np.zeros(13, dtype=np.int64)}
    for more in ({}, alike):
        assert [b.tolist() for b in Sampler(rows, ids, 6, None, None, 4, **more).batches(2)] == whole
        assert [b.tolist() for b in Sampler(rows, ids, 6, 3, None, 4, **more).batches(2)] == [*whole[:2], [49, 21, 63, 84, 14, 56]]
        assert [b.tolist() for b in Sampler(rows, ids, 6, 3, 0.5, 4, **more).batches(2)] == balanced


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from([0.25, 1.0, 3.0])), min_size=1, max_size=60),
    st.integers(1, 20),
    st.sampled_from([None, 0.0, 0.5, 1.0]),
)
def test_rows_are_drawn_by_class_data_set_and_weight(table, steps, power):
    ids, strata, weights = (np.array(column) for column in zip(*table, strict=True))
    sampler = Sampler(np.arange(len(ids)), ids, 16, steps, power, 1, weights, strata)
    drawn = np.concatenate(list(sampler.batches(0)))
    assert len(drawn) == steps * 16
    fractions = row_fractions(ids, 1.0 if power is None else power, weights, None if power is None else strata)
    assert fractions.sum() == pytest.approx(1)
    expected = fractions * len(drawn)
    times = np.bincount(drawn, minlength=len(ids))
    # Groups are rounded to within one, and rows within their group once more.
    assert np.abs(times - expected).max() <= 2 + 1e-6
    if power is not None:
        of_classes = class_fractions(np.bincount(ids, weights), power)
        assert np.bincount(ids, fractions) == pytest.approx(of_classes)
        assert np.abs(np.bincount(ids[drawn], minlength=len(of_classes)) - of_classes * len(drawn)).max() <= 1 + 1e-6


def test_the_largest_data_set_does_not_have_all_of_a_class():
    ids, strata = np.zeros(10_100, dtype=np.int64), np.repeat([0, 1], [10_000, 100])
    fractions = row_fractions(ids, 0.5, strata=strata)
    assert np.bincount(strata, fractions) == pytest.approx([10 / 11, 1 / 11])
    halved = row_fractions(ids, 0.5, np.where(strata == 0, 0.01, 1.0), strata)
    assert np.bincount(strata, halved) == pytest.approx([0.5, 0.5])
    never = Sampler(np.arange(4), np.zeros(4, dtype=np.int64), 8, 4, None, 0, np.array([1.0, 1, 0, 2]))
    assert np.bincount(np.concatenate(list(never.batches(0)))).tolist() == [8, 8, 0, 16]


def test_epochs_differ():
    sampler = Sampler(np.arange(50), np.zeros(50, dtype=int), 10, None, None, seed=1)
    assert not np.array_equal(np.concatenate(list(sampler.batches(0))), np.concatenate(list(sampler.batches(1))))


def test_class_weights_are_scikit_learns():
    ids = np.array([0] * 90 + [1] * 9 + [3])
    weights = class_weights(ids, 5)
    assert np.allclose(weights[ids], compute_sample_weight("balanced", ids))
    assert weights[[2, 4]].tolist() == [1, 1]
    drawn = np.where(ids == 0, 0.5, 1.0)  # as if there were half as many of the first class
    assert class_weights(ids, 5, drawn) == pytest.approx(class_weights(ids[45:], 5))


def test_batches_carry_patches_classes_weights():
    store = make_store([0, 1, 2, 3, 0])
    weights = np.array([1, 2, 3, 4], dtype=np.float32)
    images, ids, w = next(iter(plain_batches(store, np.array([4, 1, 3]), 8, Targets(weights))))
    assert np.array_equal(images.numpy(), store.patches[[4, 1, 3]].astype(np.float32))
    assert ids.numpy().tolist() == [0, 1, 3]
    assert w.numpy().tolist() == [1, 2, 4]


@pytest.mark.parametrize("policy", ["stain", "flips+mixup", "layers+cutmix"])
def test_a_run_resumed_at_an_epoch_sees_the_same_batches(policy):
    store = make_store(np.arange(40) % 4, size=16)
    sampler = Sampler(np.arange(40), store.class_ids, 8, 3, 0.0, seed=5)
    targets, augment = Targets(np.ones(4, dtype=np.float32), needs_soft_labels(policy)), make_augmenter(policy)

    def batches(first_epoch, count):
        return list(training_batches(store, sampler, targets, augment, first_epoch, make_batch_policy(policy, (16, 16), 3)).take(count))

    whole, resumed = batches(0, 9), batches(2, 3)
    assert not np.array_equal(whole[6][0].numpy(), whole[7][0].numpy())
    for a, b in zip(whole[6:], resumed, strict=True):
        assert all(np.array_equal(x.numpy(), y.numpy()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("policy", [*keras_policies.POLICIES, "slides+mixup"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_policies_of_layers_keep_form_and_repeat(policy, n_classes):
    store = make_store(np.arange(32) % n_classes, size=24)
    sampler = Sampler(np.arange(32), store.class_ids, 32, 3, 0.0, seed=5)
    targets = Targets(np.arange(1, n_classes + 1, dtype=np.float32), soft=True)

    def run():
        keras.utils.set_random_seed(3)
        layers = make_batch_policy(policy, (24, 24), 3)
        return [
            [x.numpy() for x in batch] for batch in training_batches(store, sampler, targets, make_augmenter(policy), 0, layers).take(3)
        ]

    batches = run()
    plain = list(training_batches(store, sampler, targets, make_augmenter("none"), 0).take(3))
    for (images, labels, weights), (untouched, hard, _) in zip(batches, plain, strict=True):
        assert images.shape == (32, 24, 24, 3)
        assert images.min() >= 0
        assert images.max() <= 255
        assert not np.array_equal(images, untouched.numpy())
        assert labels.shape == ((32, 1) if n_classes == 2 else (32, n_classes))
        fractions = np.concatenate([1 - labels, labels], axis=1) if n_classes == 2 else labels
        assert fractions.sum(axis=1) == pytest.approx(1, abs=1e-5)
        assert weights == pytest.approx(fractions @ targets.weights, abs=1e-4)
        assert np.array_equal(labels, hard.numpy()) == (policy in {"layers", "randaugment"})
    for a, b in zip(batches, run(), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
