"""Losses, schedules, checkpoints, normalisation, precision: each from a line of YAML."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from malaria_cells.config import make_config
from malaria_cells.fitting.normalization import adapt_normalization
from malaria_cells.fitting.recipe import make_loss, make_optimizer, needs_soft_labels
from malaria_cells.fitting.run_state import RunState
from malaria_cells.training.classifier_data import TrainingData
from malaria_cells.training.fit_classifier import train_classifier
from tests.test_training import fit, make_store, settings


def cross_entropy(p, y):
    return -np.sum(y * np.log(p), axis=1)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_focal_loss_is_lins(n_classes, gamma):
    """Lin et al. 2017 (arXiv:1708.02002), eq. 5: alpha_t (1 - p_t)^gamma times the cross-entropy."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(n_classes), 20).astype(np.float32)
    ids = rng.integers(0, n_classes, 20)
    config = settings(loss="focal", focal_gamma=gamma, focal_alpha=0.3)
    assert needs_soft_labels(config)
    p_true = p[np.arange(20), ids]
    if n_classes == 2:
        expected = np.mean(np.where(ids == 1, 0.3, 0.7) * (1 - p_true) ** gamma * -np.log(p_true))
        found = make_loss(config, 2)(ids[:, None].astype(np.float32), p[:, 1:])
    else:
        expected = np.mean(0.3 * (1 - p_true) ** gamma * -np.log(p_true))
        found = make_loss(config, 3)(np.eye(3, dtype=np.float32)[ids], p)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_label_smoothing_spreads_the_label():
    p = np.array([[0.7, 0.2, 0.1]], dtype=np.float32)
    found = make_loss(settings(label_smoothing=0.3), 3)(np.array([[1.0, 0, 0]], dtype=np.float32), p)
    assert float(found) == pytest.approx(cross_entropy(p, np.array([[0.8, 0.1, 0.1]]))[0], rel=1e-5)


def test_cosine_decay_ends_at_its_share():
    rate = make_optimizer(settings(schedule="cosine", cosine_alpha=0.1, learning_rate=0.01, epochs=10), 20)._learning_rate
    values = np.array([float(rate(step)) for step in range(201)])
    assert values.max() == pytest.approx(0.01, rel=0.02)
    assert values[-1] == pytest.approx(0.001, rel=1e-3)
    assert (np.diff(values[20:]) <= 1e-9).all()


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_optimizers(name):
    assert type(make_optimizer(settings(optimizer=name, schedule="constant"), 5)).__name__.lower() == name


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "focal"},
        {"label_smoothing": 0.1},
        {"augmentation": "flips+mixup"},
        {"augmentation": "cutmix"},
        {"augmentation": "layers"},
        {"precision": "mixed_bfloat16"},
        {"schedule": "plateau", "plateau_factor": 0.2, "plateau_patience": 1},
    ],
    ids=str,
)
def test_learns_under_each(tmp_path, changes):
    import keras

    try:
        trained = fit(tmp_path, settings(epochs=6, steps_per_epoch=12, **changes), make_store())
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert trained.history[trained.best_epoch]["val_accuracy"] > 0.85
    if changes.get("schedule") == "plateau":
        rates = [row["learning_rate"] for row in trained.history]
        assert rates[-1] < rates[0]
        assert {round(b / a, 3) for a, b in itertools.pairwise(rates)} <= {1.0, 0.2}


@pytest.mark.slow
def test_last_checkpoints_and_event_files_are_kept(tmp_path):
    config = settings(epochs=5, keep_checkpoints=3, tensorboard=True)
    trained = fit(tmp_path, config, make_store())
    run = tmp_path / "run"
    assert [p.name for p in sorted((run / "checkpoints").iterdir())] == [f"pass_{i:03}.weights.h5" for i in (3, 4, 5)]
    assert list((run / "tensorboard").rglob("events.out.tfevents.*"))
    trained.model.load_weights(run / "checkpoints" / "pass_004.weights.h5")


def test_normalisation_is_that_of_the_training_patches(tmp_path, capsys):
    from malaria_cells.models import build_classifier

    store, rows = make_store(120, size=32), np.arange(10, 90)
    model = build_classifier("efficientnetb0", (32, 32), 3, 0.2)
    assert adapt_normalization(model, store, rows, tmp_path)
    layer = next(
        layer for inner in model.layers if hasattr(inner, "layers") for layer in inner.layers if layer.name.startswith("normalization")
    )
    pixels = store.patches[rows].astype(np.float64) / 255
    assert np.asarray(layer.adapt_mean).ravel() == pytest.approx(pixels.mean(axis=(0, 1, 2)), abs=1e-6)
    assert np.asarray(layer.adapt_variance).ravel() == pytest.approx(pixels.var(axis=(0, 1, 2)), abs=1e-6)
    assert "adapting normalisation" in capsys.readouterr().err
    again = build_classifier("efficientnetb0", (32, 32), 3, 0.2)
    assert adapt_normalization(again, store, rows, tmp_path)
    assert "adapting normalisation" not in capsys.readouterr().err  # kept from the first time
    x = store.patches[:2].astype(np.float32)
    again.set_weights(model.get_weights())
    assert np.asarray(again(x)) == pytest.approx(np.asarray(model(x)), abs=1e-6)
    assert not adapt_normalization(build_classifier("compact", (32, 32), 3, 0.2), store, rows, tmp_path)


@pytest.mark.slow
def test_an_efficientnet_trains_is_saved_and_loads_as_it_was(tmp_path):
    from malaria_cells.models.stored.keras_files import load_network

    config = settings(model="efficientnetb0", epochs=1, steps_per_epoch=2, patch_cache=str(tmp_path / "cache"))
    trained = fit(tmp_path, config, make_store())
    trained.model.save(tmp_path / "m.keras")
    x = make_store().patches[:4].astype(np.float32)
    loaded = load_network(tmp_path / "m.keras")
    assert np.asarray(loaded(x)) == pytest.approx(np.asarray(trained.model(x)), abs=1e-5)


@pytest.mark.slow
def test_two_classes_have_one_unit_of_which_the_second_label_is_one(tmp_path):
    store = make_store(200)
    two = replace(store, class_ids=np.minimum(store.class_ids, 1), n_labels=2, fingerprint="two")
    config = make_config(settings(epochs=6, steps_per_epoch=12, labels=["a", "b"]).model_dump(), "test")
    run = RunState.start(tmp_path / "run", config)
    rows = np.arange(len(two))
    trained = train_classifier(TrainingData(two, rows[:150], rows[150:], 2), config, run)
    assert trained.model.output_shape == (None, 1)
    answer = np.asarray(trained.model(two.patches[rows[150:]].astype(np.float32)))[:, 0]
    assert ((answer > 0.5) == (two.class_ids[150:] == 1)).mean() > 0.9
