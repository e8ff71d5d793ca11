"""Trains small networks on one and on two logical CPU devices, and prints their histories as JSON.

A program of its own, since logical devices must be set before TensorFlow starts: ``python -m tests.two_devices FOLDER``.
"""

import contextlib
import json
import re
import sys
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras  # noqa: E402

from malaria_cells.config import Config, make_config  # noqa: E402
from malaria_cells.data.patch_store import PatchStore  # noqa: E402
from malaria_cells.fitting import callbacks  # noqa: E402
from malaria_cells.fitting.devices import strategy_of  # noqa: E402
from malaria_cells.fitting.fit import fit  # noqa: E402
from malaria_cells.fitting.run_state import RunState  # noqa: E402
from malaria_cells.inference.model_folder import _save_compact  # noqa: E402
from malaria_cells.models import build_classifier  # noqa: E402
from malaria_cells.models.architectures import Request, architecture  # noqa: E402
from malaria_cells.training import fit_classifier  # noqa: E402
from malaria_cells.training.classifier_data import TrainingData  # noqa: E402
from malaria_cells.training.fit_classifier import Trained, train_classifier  # noqa: E402


@architecture("small_backbone", has_backbone=True)
def small_backbone(request: Request) -> keras.Model:
    """A normalisation that is adapted, a nested backbone with batch normalisation, and a dense layer with dropout."""
    backbone = keras.Sequential(
        [
            keras.Input((*request.image_size_hw, 3), name="backbone_pixels"),
            keras.layers.Normalization(name="pixels_normalized"),
            keras.layers.Conv2D(4, 3, strides=2, name="conv"),
            keras.layers.BatchNormalization(momentum=0.5, name="norm"),
        ],
        name="backbone",
    )
    backbone.trainable = not request.freeze
    inputs = keras.Input((*request.image_size_hw, 3), name="pixels")
    x = keras.layers.GlobalAveragePooling2D(name="mean")(keras.layers.ReLU(name="relu")(backbone(inputs)))
    x = keras.layers.BatchNormalization(name="vector_norm")(x)
    x = keras.layers.Dropout(request.dropout, name="dropout")(x)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax", dtype="float32", name="probabilities")(x), name="small")


def store_of(n: int) -> PatchStore:
    """Return `n` patches of three colours with noise."""
    rng = np.random.default_rng(0)
    ids = rng.choice(3, n, p=[0.5, 0.3, 0.2]).astype(np.int64)
    colours = np.array([[180, 90, 90], [90, 180, 90], [90, 90, 180]])
    patches = np.clip(colours[ids][:, None, None, :] + rng.normal(0, 60, (n, 16, 16, 3)), 0, 255).astype(np.uint8)
    table = ids, np.zeros(n, dtype=np.int64), np.zeros((n, 4), dtype=np.float32), np.zeros(n, dtype=bool)
    return PatchStore(patches, *table, ("a",), 3, "test")


STORE = store_of(74)


def settings(folder: Path, **changes: object) -> Config:
    """Return the recipe; the 36 validation patches make a whole batch of 32 and one of 4."""
    values = {"labels": ["a", "b", "c"], "image_size": [16, 16], "model": "small_backbone", "epochs": 3, "steps_per_epoch": 3}
    values |= {"batch_size": 8, "early_stopping": None, "augmentation": "flips", "dropout": 0.0, "patch_cache": str(folder / "cache")}
    return make_config(values | changes, "test")


class Interrupted(callbacks.ProgressLines):
    """Stands for a person who interrupts the second epoch when it has been saved."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Interrupt."""
        if epoch == 1:
            raise KeyboardInterrupt


def train(folder: Path, name: str, **changes: object) -> Trained:
    """Train on 38 patches, of which the last batch has six."""
    config = settings(folder, **changes)
    return train_classifier(TrainingData(STORE, np.arange(38), np.arange(38, 74), 3), config, RunState.start(folder / name, config))


def resumed(folder: Path, **changes: object) -> Trained:
    """Train two epochs, and then the others from the state on disk."""
    with mock.patch.object(fit_classifier, "ProgressLines", Interrupted), contextlib.suppress(KeyboardInterrupt):
        train(folder, "resumed", **changes)
    config = settings(folder, **changes)
    run = RunState.resume(folder / "resumed", config)
    assert len(run.history) == 2
    return train_classifier(TrainingData(STORE, np.arange(38), np.arange(38, 74), 3), config, run)


def file_of(network: keras.Model, path: Path) -> list[object]:
    """Return the names and the architecture in a network's file, without the addresses of objects."""
    _save_compact(network, path)
    with zipfile.ZipFile(path) as stored:
        return [sorted(stored.namelist()), re.sub(r'"shared_object_id": \d+', "", stored.read("config.json").decode())]


def overflow_on_the_second(folder: Path) -> dict[str, float]:
    """Take a step of mixed_float16 whose gradients overflow on the second device alone."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    with strategy_of(settings(folder, distribute="mirrored")).scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    rows = np.array([[1.0], [1.0], [2000.0], [2000.0]], dtype=np.float32), np.zeros((4, 1), dtype=np.float32)
    fit(model, tf.data.Dataset.from_tensor_slices(rows).batch(4), epochs=1)
    keras.mixed_precision.set_global_policy("float32")
    return {"kernel": float(model.get_weights()[0][0, 0]), "scale": float(model.optimizer.dynamic_scale.numpy())}


def dropout_states(folder: Path) -> list[list[int]]:
    """Return the states of the generator of a dropout layer on both devices after it was reseeded."""
    with strategy_of(settings(folder, distribute="mirrored")).scope():
        model = build_classifier("small_backbone", (16, 16), 3, 0.3)
    reseed = callbacks.ReseedDropout(7)
    reseed.set_model(model)
    reseed.on_epoch_begin(2)
    (state,) = [v for v in model.non_trainable_variables if v.path.endswith("seed_generator_state")]
    return [copy.numpy().tolist() for copy in model.distribute_strategy.experimental_local_results(state.value)]


RECIPES: dict[str, dict[str, object]] = {
    "float32": {},
    "frozen": {"freeze": True, "augmentation": "flips+mixup", "balance": "class_weight", "optimizer": "sgd", "steps_per_epoch": None},
    "mixed_bfloat16": {"precision": "mixed_bfloat16", "epochs": 2},
    "mixed_float16": {"precision": "mixed_float16", "epochs": 2},
}


def main(folder: Path) -> dict[str, object]:
    """Return what the tests compare, by name: of one device first, then of two."""
    trained = {
        name: [train(folder, f"{name}_{how}", **recipe, distribute=how) for how in ("none", "mirrored")] for name, recipe in RECIPES.items()
    }
    one, two = (t.model for t in trained["float32"])
    return {
        "histories": {name: [t.history for t in both] for name, both in trained.items()},
        "resumed": resumed(folder, distribute="mirrored").history,
        "files": [file_of(network, folder / f"{number}.keras") for number, network in enumerate((one, two))],
        "is_plain": not isinstance(two.trainable_variables[0].value, tf.distribute.DistributedValues),
        "overflow": overflow_on_the_second(folder),
        "dropout": dropout_states(folder),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
