import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest
from sklearn.metrics import f1_score

from malaria_cells.config import make_config
from malaria_cells.data.patch_store import PatchStore
from malaria_cells.fitting.metrics import MacroF1
from malaria_cells.fitting.run_folders import folder_of
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.tta import Refinement
from malaria_cells.models import build_classifier
from malaria_cells.training.cascade import train_classifiers, train_further, with_hard_examples
from malaria_cells.training.classifier_data import TrainingData
from malaria_cells.training.fit_classifier import Trained, train_classifier


def test_macro_f1_is_scikit_learns_over_the_classes_present():
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 3], 300)  # class 2 does not occur
    p = rng.dirichlet(np.ones(4), 300).astype(np.float32)
    metric = MacroF1(4)
    for start in range(0, 300, 64):
        metric.update_state(truth[start : start + 64], p[start : start + 64])
    expected = f1_score(truth, p.argmax(axis=1), labels=[0, 1, 3], average="macro", zero_division=0)
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0


def test_macro_f1_of_one_sigmoid_unit_and_of_shifted_priors():
    truth, p = np.array([0, 0, 1, 1]), np.array([[0.2], [0.6], [0.7], [0.9]], dtype=np.float32)
    metric = MacroF1(2)
    metric.update_state(truth, p)
    assert float(metric.result()) == pytest.approx(f1_score(truth, [0, 1, 1, 1], average="macro"))
    shifted = MacroF1(2, [2.0, 1.0])  # 0.6 against 2 * 0.4: healthy after all
    shifted.update_state(truth, p)
    assert float(shifted.result()) == 1


def make_store(n=240, size=32, seed=0):
    """Three classes of patches told apart by colour, with noise."""
    rng = np.random.default_rng(seed)
    ids = rng.choice(3, n, p=[0.7, 0.2, 0.1]).astype(np.int64)
    colours = np.array([[180, 90, 90], [90, 180, 90], [90, 90, 180]])
    patches = np.clip(colours[ids][:, None, None, :] + rng.normal(0, 60, (n, size, size, 3)), 0, 255).astype(np.uint8)
    table = ids, np.zeros(n, dtype=np.int64), np.zeros((n, 4), dtype=np.float32), np.zeros(n, dtype=bool)
    return PatchStore(patches, *table, ("a",), 3, "test")


def settings(**changes):
    values = {
        "labels": ["a", "b", "c"],
        "image_size": [32, 32],
        "epochs": 4,
        "steps_per_epoch": 4,
        "batch_size": 16,
        "early_stopping": None,
    }
    return make_config(values | {"augmentation": "flips", "learning_rate": 0.01} | changes, "test")


NO_FINDING = np.zeros(3, dtype=bool)


def fit(tmp_path, config, store, name="run", resume=False):
    begin = RunState.resume if resume else RunState.start
    run = begin(tmp_path / name, config)
    rows = np.arange(len(store))
    return train_classifier(TrainingData(store, rows[:180], rows[180:], 3), config, run)


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["sampling", "class_weight", "none"])
def test_learns_what_can_be_learnt(tmp_path, balance):
    trained = fit(tmp_path, settings(balance=balance, epochs=6, steps_per_epoch=12), make_store())
    assert trained.history[trained.best_epoch]["val_accuracy"] > 0.9
    assert trained.history[0]["loss"] > trained.history[-1]["loss"]
    assert trained.training_prior.sum() == pytest.approx(1)
    assert {"loss", "val_loss", "macro_f1", "val_macro_f1", "learning_rate"} <= trained.history[0].keys()


@pytest.mark.slow
def test_the_last_epoch_is_kept_where_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(MacroF1, "result", lambda _: 0.5)  # no epoch is better than the first
    short = {"epochs": 3, "steps_per_epoch": 2}
    assert fit(tmp_path, settings(**short), make_store()).best_epoch == 0
    assert fit(tmp_path, settings(kept_weights="last", **short), make_store(), "last").best_epoch == 2


@pytest.mark.slow
def test_a_training_goes_on_with_more_rows_from_where_it_ended(tmp_path, monkeypatch):
    """Rows that only it sees change what the network says of them; it begins with the first one's weights and leaves them alone."""
    store = make_store()
    config = settings(epochs=4, steps_per_epoch=8, refit=0.5)
    known = np.flatnonzero(store.class_ids != 2)
    unknown = np.flatnonzero(store.class_ids == 2)
    run = RunState.start(tmp_path / "run", config)
    data = TrainingData(store, known[:100], known[100:], 3)
    trained = train_classifiers(data, NO_FINDING, config, run)
    before = [np.array(w) for w in trained[0].model.get_weights()]
    (further,) = train_further(trained, data, NO_FINDING, unknown, config, run)
    assert len(further.history) == 2
    assert further.best_epoch == 1
    assert "val_loss" not in further.history[0]
    assert all(np.array_equal(a, b) for a, b in zip(before, trained[0].model.get_weights(), strict=True))
    patches = store.patches[unknown].astype(np.float32)
    first, then = (np.asarray(t.model(patches))[:, 2].mean() for t in (trained[0], further))
    assert then > first + 0.3
    monkeypatch.setattr("malaria_cells.training.cascade.RATE", 1e-9)
    (still,) = train_further(trained, data, NO_FINDING, unknown, config, RunState.start(tmp_path / "still", config))
    kernels = (i for i, w in enumerate(still.model.weights) if w.path.endswith("kernel"))
    assert all(np.allclose(before[i], still.model.get_weights()[i], atol=1e-5) for i in kernels)


def test_what_the_first_look_takes_for_a_finding_and_is_none_is_drawn_as_a_class_of_its_own(monkeypatch):
    store, is_infected = make_store(n=60), np.array([False, False, True])
    rows = np.arange(40)
    data = TrainingData(store, rows, None, 3)
    fraction = np.where(np.arange(60) % 4 == 0, 0.3, 0.0).astype(np.float32)  # infected, in every fourth

    def seen(cascade, store, rows, views, is_infected):
        assert cascade.network == "the first classifier"
        assert views == 1
        return np.stack([1 - fraction[rows], np.zeros_like(fraction[rows]), fraction[rows]], axis=1)

    monkeypatch.setattr("malaria_cells.training.cascade.predict_rows", seen)
    monkeypatch.setattr("malaria_cells.training.cascade.inference_function", lambda model: model)
    first = Trained("the first classifier", [], 0, np.ones(3) / 3)
    expected = np.where((rows % 4 == 0) & (store.class_ids[rows] != 2), 3, store.class_ids[rows])
    assert (expected == 3).sum() > 3
    np.testing.assert_array_equal(with_hard_examples(data, first, is_infected, settings()).sampling_groups, expected)
    strict = replace(data, refinement=Refinement(min_infected=0.31))  # the classifier suspects none of them so much
    np.testing.assert_array_equal(with_hard_examples(strict, first, is_infected, settings()).sampling_groups, store.class_ids[rows])
    assert with_hard_examples(data, first, NO_FINDING, settings()) is data
    assert with_hard_examples(data, first, is_infected, settings(balance="class_weight")) is data


@pytest.mark.slow
def test_shares_that_training_shows_count_what_was_drawn_apart_as_what_it_is(tmp_path):
    store = make_store()
    rows = np.arange(180)
    sampling_groups = np.where(rows % 9 == 0, 3, store.class_ids[rows])
    config = settings(epochs=1, steps_per_epoch=2, sampling_power=0.5)
    data = TrainingData(store, rows, None, 3, sampling_groups)
    shown = train_classifier(data, config, RunState.start(tmp_path / "run", config)).training_prior
    counts = np.bincount(sampling_groups)
    expected = np.zeros(3)
    for own, kind in zip(store.class_ids[rows], sampling_groups, strict=True):
        expected[own] += np.sqrt(counts[kind]) / np.sqrt(counts).sum() / counts[kind]
    np.testing.assert_allclose(shown, expected)
    assert shown.sum() == pytest.approx(1)


def validation_of(config, class_ids, monkeypatch):
    """Rows of the validation batches of a training that is not done, and the weights of classes in them."""
    seen = {}

    def stop(_, batches, **arguments):
        seen.update(arguments)
        raise Killed

    def batches(store, rows, size, targets):
        return rows, targets.weights

    monkeypatch.setattr("malaria_cells.training.fit_classifier.fit", stop)
    monkeypatch.setattr("malaria_cells.training.classifier_data.plain_batches", batches)
    n = len(class_ids)
    table = class_ids, np.zeros(n, dtype=np.int64), np.zeros((n, 4), dtype=np.float32), np.zeros(n, dtype=bool)
    store = PatchStore(np.zeros((n, 32, 32, 3), np.uint8), *table, ("a",), 3, "test")
    rows = np.arange(n)
    with pytest.raises(Killed):
        train_classifier(TrainingData(store, rows[: n // 2], rows[n // 2 :], 3), config, RunState(None))
    return seen["validation_data"]


@pytest.mark.parametrize("balance", ["sampling", "class_weight", "none"])
def test_loss_and_validation_loss_weigh_the_classes_alike(balance, monkeypatch):
    """Where validation holds what training holds, each class has the same part of both."""
    half = np.repeat([0, 1, 2], [90, 9, 1])
    _, weights = validation_of(settings(balance=balance, sampling_power=0.5), np.tile(half, 2), monkeypatch)
    counts = np.array([90, 9, 1])
    of_training = {"sampling": np.sqrt(counts), "class_weight": np.ones(3), "none": counts}[balance]
    of_validation = counts * weights
    np.testing.assert_allclose(of_validation / of_validation.sum(), of_training / of_training.sum(), rtol=1e-6)
    assert of_validation.sum() == pytest.approx(100)  # the mean of the losses, not a multiple of it


def test_few_validation_steps_see_every_class_and_all_of_the_set(monkeypatch):
    """Not its first images by name: those are one slide's."""
    ids = np.tile(np.repeat([0, 1, 2], [800, 160, 40]), 2)
    rows, _ = validation_of(settings(validation_steps=4, batch_size=16), ids, monkeypatch)
    assert len(rows) == 4 * 64
    assert (np.diff(rows) > 0).all()
    np.testing.assert_allclose(np.bincount(ids[rows]), np.array([0.8, 0.16, 0.04]) * 256, atol=1.01)
    of_first = rows[ids[rows] == 0] - 1000
    assert abs(of_first.mean() - 400) < 60
    again, _ = validation_of(settings(validation_steps=4, batch_size=16), ids, monkeypatch)
    other, _ = validation_of(settings(validation_steps=4, batch_size=16, random_state=1), ids, monkeypatch)
    assert np.array_equal(rows, again)
    assert not np.array_equal(rows, other)
    everything, _ = validation_of(settings(validation_steps=40, batch_size=16), ids, monkeypatch)
    assert np.array_equal(everything, np.arange(1000, 2000))


@pytest.mark.parametrize(
    ("recipe", "is_adapted"),
    [
        ({}, True),
        ({"weights": "imagenet"}, False),
        ({"weights": "my.weights.h5"}, False),
        ({"weights": "imagenet", "adapt_normalization": True}, True),
        ({"adapt_normalization": False}, False),
    ],
)
def test_pretrained_weights_keep_the_normalisation_that_they_were_trained_under(recipe, is_adapted, monkeypatch):
    adapted = []
    build = build_classifier
    monkeypatch.setattr("malaria_cells.training.fit_classifier.build_classifier", lambda *a: build(*a[:4]))
    monkeypatch.setattr("malaria_cells.training.fit_classifier.adapt_normalization", lambda *_: adapted.append(True))
    validation_of(settings(**recipe), np.tile([0, 1, 2], 20), monkeypatch)
    assert bool(adapted) == is_adapted


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch, schedule):
    """With real networks; `test_kills` has all places and schedules. Every epoch after the first counts as a plateau."""
    monkeypatch.setattr(keras.callbacks, "ReduceLROnPlateau", partial(keras.callbacks.ReduceLROnPlateau, min_delta=10.0))
    config, store = settings(schedule=schedule, epochs=5, early_stopping=4, plateau_patience=1), make_store()
    whole = fit(tmp_path, config, store, "whole")
    save = RunState.save

    def save_and_die(run, *arguments):
        save(run, *arguments)
        if len(run.history) == 3:
            raise Killed

    monkeypatch.setattr(RunState, "save", save_and_die)
    with pytest.raises(Killed):
        fit(tmp_path, config, store, "cut")
    monkeypatch.setattr(RunState, "save", save)
    resumed = fit(tmp_path, config, store, "cut", resume=True)
    if schedule == "plateau":
        assert [row["learning_rate"] for row in whole.history] == pytest.approx([0.01, 0.005, 0.0025, 0.00125, 0.000625])
    assert len(resumed.history) == len(whole.history)
    assert resumed.best_epoch == whole.best_epoch
    for ours, theirs in zip(resumed.history, whole.history, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)
    for ours, theirs in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        assert np.allclose(ours, theirs, atol=1e-3)


def train_command(repository, sample, folder, *more):
    settings = {
        "train_images": sample,
        "output_models": folder,
        "patch_cache": folder.parent / "cache",
        "name": "m",
        "epochs": 6,
        "steps_per_epoch": 12,
        "image_size": "[32, 32]",
        "early_stopping": "null",
        "proposals": "watershed",
    }
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return [sys.executable, str(repository / "train.py"), f"--config={repository / 'configs/from_scratch.yaml'}", *sets, *more]


@pytest.mark.slow
def test_kill_9_and_resume(repository, sample, tmp_path):
    models = tmp_path / "models"
    killed = subprocess.Popen(train_command(repository, sample, models), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = folder_of(models, "m") / "state" / "state.json"
    deadline = time.monotonic() + 180
    while not state.exists() and time.monotonic() < deadline and killed.poll() is None:
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    done = len(json.loads(state.read_text())["history"])
    assert 1 <= done < 6
    assert not (models / "m").exists()
    resumed = subprocess.run(train_command(repository, sample, models, "--resume"), capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert f"epoch {done + 1}/6" in resumed.stderr
    assert f"epoch {done}/6" not in resumed.stderr
    written = {p.name for p in (models / "m").iterdir()}
    contract = {
        "classifier.keras",
        "model.yaml",
        "config.yaml",
        "history.csv",
        "metrics.json",
        "training_curves.png",
        "confusion_matrix.png",
        "split.json",
        "report.html",
    }
    assert written == contract
    assert len((models / "m" / "history.csv").read_text().splitlines()) == 7
    assert not folder_of(models, "m").exists()
    again = subprocess.run(train_command(repository, sample, models, "--resume"), capture_output=True, text=True, check=False)
    assert (again.returncode, "nothing to resume" in again.stdout) == (0, True)
