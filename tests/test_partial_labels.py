"""What a data set does not annotate is one of several classes, in the patch store, the loss, the figures and the calibration."""

import hashlib
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops
from PIL import Image
from scipy.special import softmax

from malaria_cells.base import files
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.partial_labels import allowed_classes, background_id, class_sets, split_counts, stand_ins
from malaria_cells.data.patch_store import FORMAT_VERSION, Cropping, PatchStore, build_patch_store
from malaria_cells.fitting.metrics import MacroF1
from malaria_cells.fitting.partial_loss import PartialLabelAccuracy, PartialLabelCrossentropy
from malaria_cells.fitting.recipe import make_loss, needs_soft_labels
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.calibration import fit_calibration
from malaria_cells.training.cascade import with_hard_examples
from malaria_cells.training.classifier_data import TrainingData
from malaria_cells.training.fit_classifier import train_classifier
from tests.test_training import settings as recipe

MEMBERS = np.array([[True, False, False, True], [False, True, True, False]])
CROPPING = Cropping((16, 16), 1.25, background_per_image=3, seed=0)
FOUR = ("red cell", "ring", "platelet")  # and background


def annotated(folder, unannotated, labels=FOUR, weights=(1.0, 1.0, 1.0)):
    """An image for each tuple of classes that are not annotated in it, one cell of the first class in each."""
    images = []
    for i, (classes, weight) in enumerate(zip(unannotated, weights, strict=False)):
        path = folder / f"{i}.png"
        if not path.is_file():
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(path)
        cell = np.array([[5, 5, 25, 25]], np.float32), np.zeros(1, np.int64), np.zeros(1, bool)
        more = {"data_set": "ab"[bool(classes)], "unannotated": classes, "weight": weight}
        images.append(AnnotatedImage(path.name, path, (100, 80), path.name, *cell, **more))
    return AnnotationSet(LabelSet(labels), tuple(images))


def test_a_place_without_a_box_is_background_or_what_was_not_annotated():
    data = annotated_without_files([(), (2,), (2, 1), (1, 2)])
    sets = class_sets(data)
    assert sets == ((1, 2, 3), (2, 3))
    assert [background_id(p, 3, sets) for p in data.images] == [3, 5, 4, 4]
    assert class_sets(annotated_without_files([(), ()])) == ()


def annotated_without_files(unannotated):
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    images = [AnnotatedImage(f"{i}.png", Path(f"{i}.png"), (9, 9), "g", *nothing, unannotated=u) for i, u in enumerate(unannotated)]
    return AnnotationSet(LabelSet(FOUR), tuple(images))


def test_the_store_tells_background_from_what_may_be_a_cell(tmp_path):
    data = annotated(tmp_path, [(), (2,), (1, 2)], weights=(1.0, 0.5, 2.0))
    store = build_patch_store(data, CROPPING, tmp_path / "cache")
    assert store.sets == ((1, 2, 3), (2, 3))
    assert [sorted(set(store.class_ids[store.image_ids == i].tolist())) for i in range(3)] == [[0, 3], [0, 5], [0, 4]]
    assert store.image_weights.tolist() == [1, 0.5, 2]
    assert store.image_sets.tolist() == [0, 1, 1]
    reopened = build_patch_store(annotated(tmp_path, [(), (2,), (1, 2)], weights=(3.0, 3.0, 3.0)), CROPPING, tmp_path / "cache")
    assert (reopened.fingerprint, reopened.image_weights.tolist()) == (store.fingerprint, [3, 3, 3])


def test_where_all_is_annotated_the_store_has_its_old_name(tmp_path):
    data = annotated(tmp_path, [(), ()])
    digest = hashlib.blake2b(f"{FORMAT_VERSION} {CROPPING} {data.fingerprint}".encode(), digest_size=12)
    for p in data.images:
        digest.update(files.file_hash(p.path))
    store = build_patch_store(data, CROPPING, tmp_path / "cache")
    assert store.fingerprint == digest.hexdigest()
    assert store.sets == ()
    assert set(store.class_ids.tolist()) == {0, 3}


def test_a_patch_that_may_be_anything_is_left_out(tmp_path):
    """With one label and background, which are one sigmoid unit, it is all that a set can be."""
    data = annotated(tmp_path, [(), (0,)], labels=("ring",))
    store = build_patch_store(data, CROPPING, tmp_path / "cache")
    assert set(store.class_ids.tolist()) == {0, 1, 2}
    rows = store.rows_of(data)
    assert set(store.class_ids[rows].tolist()) == {0, 1}
    assert (store.image_ids[rows] == 1).sum() == 1  # the annotated cell
    assert TrainingData(store, rows, None, 2).sets == ()


def test_sets_are_drawn_as_background_or_else_as_the_commonest_of_their_classes():
    allowed = allowed_classes(((2, 3), (0, 1)), 4)
    assert allowed.astype(int).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 1], [1, 1, 0, 0]]
    ids = np.repeat([0, 1, 2, 3, 4, 5], [5, 9, 50, 2, 99, 7])
    assert stand_ins(ids, allowed, 3).tolist() == [0, 1, 2, 3, 3, 1]


def test_single_cells_of_several_classes_are_in_the_store_and_drawn_by_themselves(tmp_path):
    """As the commonest of its classes they would push aside the cells of which it is known that they are of that class."""
    images = annotated(tmp_path, [(), (2,)])
    single = [
        replace(p, key=f"cells/{p.key}", whole=True, one_of=(1, 2), boxes_xyxy=np.array([[0, 0, 100, 80]], np.float32), data_set="cells")
        for p in images.images[:1]
    ]
    together = replace(images, images=(*images.images, *single))
    assert class_sets(together) == ((1, 2), (2, 3))
    assert together.fingerprint != replace(together, images=(*images.images, replace(single[0], one_of=()))).fingerprint
    store = build_patch_store(together, CROPPING, tmp_path / "cache")
    assert [sorted(set(store.class_ids[store.image_ids == i].tolist())) for i in range(3)] == [[0, 3], [0, 5], [4]]
    data = TrainingData(store, np.arange(len(store)), None, 4)
    drawn = data.drawn_by_label[store.image_ids == 2].tolist(), data.counted_as[store.image_ids == 2].tolist()
    assert drawn == ([5], [1])
    assert set(data.drawn_by_label[store.image_ids < 2].tolist()) == {0, 3}
    # Its patch has the clear field around it that a patch of an image has: it is a fifth smaller in it.
    own = np.asarray(store.patches[store.image_ids == 2])[0]
    assert (own[0] == own[0, 0]).all()
    assert not (own[8] == own[8, 0]).all()


def test_numbers_of_sets_are_divided_in_proportion():
    allowed = allowed_classes(((1, 2),), 3)
    assert split_counts(np.array([10, 30, 10, 40]), allowed) == pytest.approx([10, 60, 20])
    certain = np.array([3, 1, 2])
    assert split_counts(certain, np.eye(3, dtype=bool)).tolist() == certain.tolist()
    assert split_counts(np.array([3, 1, 2, 0]), allowed).tolist() == certain.tolist()
    assert split_counts(np.array([10, 30, 0, 40]), allowed) == pytest.approx([10, 70, 0], abs=0.01)


def plain_loss(members, labels, p, smoothing=0.0, focal=None):
    """The same in numpy, class by class."""
    n_classes, total = p.shape[1], np.zeros(len(p))
    for column in range(labels.shape[1]):
        of_column = p[:, column] if column < n_classes else p[:, members[column - n_classes]].sum(axis=1)
        fraction = labels[:, column] * (1 - smoothing) + (smoothing / n_classes if column < n_classes else 0)
        factor = 1 if focal is None else focal[0] * (1 - of_column) ** focal[1]
        total -= fraction * factor * np.log(of_column)
    return total


@pytest.mark.parametrize("focal", [None, (0.3, 2.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_negative_log_of_what_is_allowed(focal, smoothing):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 30).astype(np.float32)
    labels = np.concatenate([np.eye(6)[rng.integers(0, 6, 15)], rng.dirichlet(np.ones(6), 15)]).astype(np.float32)  # also mixed ones
    found = PartialLabelCrossentropy(MEMBERS.tolist(), smoothing, focal, reduction=None)(labels, p)
    assert np.asarray(found) == pytest.approx(plain_loss(MEMBERS, labels, p, smoothing, focal), rel=2e-4, abs=1e-5)


def logits_and_labels(n_columns):
    logits = hnp.arrays(np.float32, (5, 4), elements=st.floats(-4, 4, width=32))
    return st.tuples(logits, st.lists(st.integers(0, n_columns - 1), min_size=5, max_size=5))


@settings(max_examples=25, deadline=None)
@given(logits_and_labels(4), st.sampled_from([0.0, 0.1]), st.booleans())
def test_a_set_of_one_class_is_that_class(case, smoothing, focal):
    logits, ids = case
    p = softmax(logits, axis=1)
    config = recipe(label_smoothing=smoothing, loss="focal" if focal else "cross_entropy")
    allowed = allowed_classes(tuple((c,) for c in range(4)), 4)
    expected = make_loss(config, 4)(np.eye(4, dtype=np.float32)[ids], p) if smoothing or focal else None
    found = make_loss(config, 4, allowed)(np.eye(8, dtype=np.float32)[np.array(ids) + 4], p)
    as_class = make_loss(config, 4, allowed)(np.eye(8, dtype=np.float32)[ids], p)
    assert float(found) == pytest.approx(float(as_class), rel=1e-4, abs=1e-5)
    if expected is not None:
        assert float(as_class) == pytest.approx(float(expected), rel=1e-4, abs=1e-5)


def gradient(loss, logits, labels):
    """By the logits, which Keras's own losses look for behind a softmax."""
    import tensorflow as tf

    x = tf.Variable(logits)
    with tf.GradientTape() as tape:
        value = ops.sum(loss(labels, keras.layers.Softmax()(x)))
    return tape.gradient(value, x).numpy()


@settings(max_examples=25, deadline=None)
@given(logits_and_labels(6))
def test_gradients_are_those_of_the_likelihood(case):
    """By hand: probability less probability given the set; of a set of all classes it is zero, so it teaches nothing."""
    logits, ids = case
    everything = PartialLabelCrossentropy([[True] * 4], reduction=None)
    assert gradient(everything, logits, np.eye(5, dtype=np.float32)[[4] * 5]) == pytest.approx(0, abs=1e-6)
    p, allowed = softmax(logits, axis=1), np.concatenate([np.eye(4, dtype=bool), MEMBERS])
    given_set = np.where(allowed[ids], p, 0)
    expected = p - given_set / given_set.sum(axis=1, keepdims=True)
    found = gradient(PartialLabelCrossentropy(MEMBERS.tolist(), reduction=None), logits, np.eye(6, dtype=np.float32)[ids])
    assert found == pytest.approx(expected, abs=1e-4)


def test_without_sets_the_losses_are_keras_own():
    assert type(make_loss(recipe(), 3, np.eye(3, dtype=bool))) is keras.losses.SparseCategoricalCrossentropy
    assert not needs_soft_labels(recipe())
    assert needs_soft_labels(recipe(), partial=True)
    loss = PartialLabelCrossentropy(MEMBERS.tolist(), 0.1, (0.25, 2.0))
    assert PartialLabelCrossentropy.from_config(loss.get_config()).get_config() == loss.get_config()


def test_rows_of_a_set_are_no_part_of_macro_f1_and_right_if_any_of_its_classes_is_found():
    p = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0]]
    labels = np.eye(6, dtype=np.float32)[[0, 1, 3, 4, 5]]  # the last two are of sets: {0, 3}, and {1, 2} of which neither is found
    plain, metric = MacroF1(4), MacroF1(4, n_sets=2)
    plain.update_state(np.array([0, 1, 3]), p[:3])
    metric.update_state(labels, p)
    assert np.array_equal(np.asarray(plain.confusion), np.asarray(metric.confusion))
    accuracy = PartialLabelAccuracy(np.concatenate([np.eye(4, dtype=bool), MEMBERS]).tolist())
    accuracy.update_state(labels, p)
    assert float(accuracy.result()) == pytest.approx(3 / 5)


def test_calibration_is_that_of_patches_whose_class_is_known():
    """Cells of three classes, a network that was shown them equally often; two thirds of the last two are known as either of them."""
    rng = np.random.default_rng(0)
    fractions, n = np.array([0.90, 0.09, 0.01]), 20_000
    truth = rng.choice(3, n, p=fractions)
    probabilities = softmax(3 * (np.eye(3)[truth] * 3 + rng.normal(0, 1.0, (n, 3))) / 0.5, axis=1)
    ids = np.where((truth > 0) & (rng.random(n) < 2 / 3), 3, truth)
    shown, infected = np.full(3, 1 / 3), np.array([True, False, False])
    expected = fit_calibration(probabilities, truth, shown, infected)
    found = fit_calibration(probabilities, ids, shown, infected, allowed_classes(((1, 2),), 3))
    assert found.log_prior_ratio == pytest.approx(expected.log_prior_ratio, abs=0.15)
    assert found.temperature == pytest.approx(expected.temperature, rel=0.05)
    assert found.infection.offset == pytest.approx(expected.infection.offset, abs=0.1)
    without = fit_calibration(probabilities[ids < 3], ids[ids < 3], shown, infected)
    assert abs(without.log_prior_ratio[1] - expected.log_prior_ratio[1]) > 0.8
    open_set = fit_calibration(probabilities, ids, shown, np.array([False, True, False]), allowed_classes(((1, 2),), 3))
    assert np.isfinite(open_set.infection.offset)  # whether a patch of the set is infected is open: it has no part


def coloured_store(n=400):
    """Red cells, platelets and background told apart by colour; in the second image, which has most, platelets are not annotated."""
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2], n, p=[0.5, 0.2, 0.3])
    image_ids = (np.arange(n) % 8 > 0).astype(np.int64)
    ids = np.where((image_ids == 1) & (truth > 0), 3, truth)
    colours = np.array([[180, 90, 90], [90, 180, 90], [90, 90, 180]])
    patches = np.clip(colours[truth][:, None, None, :] + rng.normal(0, 60, (n, 32, 32, 3)), 0, 255).astype(np.uint8)
    table = ids, image_ids, np.zeros((n, 4), np.float32), np.zeros(n, bool)
    weights = {"image_weights": np.array([1.0, 0.5]), "image_sets": np.array([0, 1])}
    return PatchStore(patches, *table, ("a", "b"), 2, "test", ((1, 2),), **weights), truth


def test_what_the_first_look_suspects_and_might_be_a_finding_is_not_called_its_mistake(monkeypatch):
    store, _ = coloured_store(40)
    data = TrainingData(store, np.arange(40), None, 3)
    trained = type("Trained", (), {"model": None})
    monkeypatch.setattr("malaria_cells.training.cascade.inference_function", lambda model: model)
    monkeypatch.setattr("malaria_cells.training.cascade.predict_rows", lambda *_: np.full((40, 3), 1 / 3))

    def mistaken(is_infected):
        sampling_groups = with_hard_examples(data, trained, np.array(is_infected), recipe()).sampling_groups
        np.testing.assert_array_equal(sampling_groups[sampling_groups < 3], np.minimum(store.class_ids, 2)[sampling_groups < 3])
        return sorted(set(store.class_ids[sampling_groups == 3].tolist()))

    assert mistaken([True, False, False]) == [1, 2, 3]
    assert mistaken([False, True, False]) == [0, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"balance": "none"}, {"balance": "class_weight", "augmentation": "flips+mixup", "label_smoothing": 0.05}], ids=str
)
def test_platelets_are_learnt_where_they_are_annotated_and_not_unlearnt_where_they_are_not(tmp_path, changes):
    store, truth = coloured_store()
    config = recipe(epochs=5, steps_per_epoch=12, kept_weights="last", **changes)
    rows = np.arange(len(store))
    run = RunState.start(tmp_path / "run", config)
    trained = train_classifier(TrainingData(store, rows[:300], rows[300:], 3), config, run)
    unknown = store.class_ids == 3
    # Called background, as most platelets would be without sets, they would be learnt as background.
    answer = np.asarray(trained.model(store.patches[unknown].astype(np.float32))).argmax(axis=1)
    assert (answer == truth[unknown]).mean() > 0.85
    assert trained.history[trained.best_epoch]["val_accuracy"] > 0.85
    assert trained.training_prior.shape == (3,)
    assert trained.training_prior.sum() == pytest.approx(1)
