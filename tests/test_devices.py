"""A training on several devices learns what one on a single device learns; what cannot be divided is refused."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from malaria_cells.base.errors import InputError
from malaria_cells.config import make_config
from malaria_cells.data.pipeline import Sampler
from malaria_cells.fitting import devices
from malaria_cells.fitting.first_step import build_optimizer
from malaria_cells.fitting.fused_normalization import layers_within


def settings(**changes):
    return make_config({"distribute": "mirrored", "batch_size": 64} | changes, "test")


def has(monkeypatch, *names):
    monkeypatch.setattr(devices, "_device_names", lambda: list(names))


def test_a_batch_that_the_devices_cannot_share_equally_is_refused(monkeypatch):
    has(monkeypatch, "GPU:0", "GPU:1", "GPU:2")
    with pytest.raises(
        InputError, match=r"^batch_size: 64 patches .* among 3 devices \(GPU:0, GPU:1, GPU:2\), .* multiple of 3, such as 63"
    ):
        devices.check_devices(settings())
    with pytest.raises(InputError, match=r"^batch_size: 2 patches .* such as 3,"):
        devices.strategy_of(settings(batch_size=2))
    assert devices.strategy_of(settings(distribute="none")) is tf.distribute.get_strategy()


def test_one_device_is_trained_on_and_said(monkeypatch, caplog):
    has(monkeypatch, "GPU:0")
    devices.check_devices(settings(batch_size=63))
    assert "distribute: mirrored found one device (GPU:0)" in caplog.text
    assert devices.strategy_of(settings()) is tf.distribute.get_strategy()


def test_several_devices_are_named(monkeypatch, capsys):
    has(monkeypatch, "CPU:0", "CPU:1")
    monkeypatch.setattr(devices, "_mirrored", lambda names: type("Strategy", (), {"num_replicas_in_sync": len(names)}))
    devices.check_devices(settings(distribute="none"))
    assert capsys.readouterr().err == ""
    devices.check_devices(settings())
    assert capsys.readouterr().err == "the classifiers are trained on 2 devices (CPU:0, CPU:1), each with 1/2 of every batch\n"


@pytest.mark.parametrize("detector", ["yolo", "retinanet"])
def test_one_stage_detectors_are_refused_by_name(detector):
    with pytest.raises(InputError, match=rf"distribute: mirrored is for .*; {detector} is trained on one device: set distribute to none"):
        settings(detector=detector)


def test_a_config_without_the_key_is_written_as_before():
    assert "distribute" not in settings(distribute="none").to_yaml()
    assert "distribute: mirrored" in settings().to_yaml()


def test_every_device_has_as_many_rows_of_a_short_batch():
    rows = np.arange(21) * 10
    plain = Sampler(rows, np.zeros(21, dtype=np.int64), 8, None, None, 0)
    filled = Sampler(rows, np.zeros(21, dtype=np.int64), 8, None, None, 0, multiple=4)
    *whole, last = plain.batches(0)
    *whole_filled, last_filled = filled.batches(0)
    np.testing.assert_array_equal(whole, whole_filled)
    assert last_filled.tolist() == [*last, *last[:3]]


def test_a_model_of_one_device_is_left_alone():
    model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    with devices.distributed(model):
        assert not any(getattr(layer, "synchronized", False) for layer in layers_within(model))


def test_the_scale_of_the_loss_outlives_a_second_build():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.AdamW()), "mse")
    build_optimizer(model)
    model.optimizer.dynamic_scale.assign(77)
    variables = len(model.optimizer.variables)
    build_optimizer(model)
    assert (len(model.optimizer.variables), float(model.optimizer.dynamic_scale)) == (variables, 77)


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What `two_devices` prints."""
    command = [sys.executable, "-m", "tests.two_devices", str(tmp_path_factory.mktemp("two_devices"))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "tolerance"), [("float32", 1e-3), ("frozen", 1e-3), ("mixed_bfloat16", 1e-2), ("mixed_float16", 1e-2)])
def test_two_devices_learn_what_one_learns(said, recipe, tolerance):
    one, two = said["histories"][recipe]
    assert len(one) == len(two)
    for row, other in zip(one, two, strict=True):
        assert other == pytest.approx(row, abs=tolerance)


@pytest.mark.slow
def test_a_training_on_two_devices_is_resumed(said):
    for row, other in zip(said["histories"]["float32"][1], said["resumed"], strict=True):
        assert other == pytest.approx(row, abs=1e-4)


@pytest.mark.slow
def test_the_file_and_the_network_are_those_of_one_device(said):
    assert said["files"][0] == said["files"][1]
    assert said["is_plain"]


@pytest.mark.slow
def test_an_overflow_on_the_second_device_skips_the_step_on_both(said):
    assert said["overflow"] == {"kernel": 1.0, "scale": 2.0**14}


@pytest.mark.slow
def test_each_device_drops_other_units(said):
    first, second = said["dropout"]
    assert first == np.random.default_rng([7, 2, 0]).integers(0, 2**31, size=2).tolist()
    assert first != second
