"""Whole model folders of tiny networks, from which mutants are made: a file of another content under a right checksum."""

import io
import random
import shutil
import zipfile
from pathlib import Path

import yaml

from malaria_cells.data.seen_before import SPLIT, seen_in
from malaria_cells.inference.engines import exported_network
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.model_yaml import load_description, save_description
from malaria_cells.models.stored.checksums import checksums
from tests.torture.mutate import mutated

# Kind: engine, files that are changed, and the share of the mutants of model folders. Those behind a slash are parts of an archive.
MODELS = {
    "model.yaml": ("onnx", ["model.yaml", "split.json"], 0.4),
    "onnx": ("onnx", ["classifier.onnx", "proposer.onnx"], 0.25),
    "openvino": ("openvino", ["classifier.xml", "classifier.bin"], 0.1),
    "litert": ("litert", ["classifier.tflite"], 0.1),
    "savedmodel": ("savedmodel", ["classifier/saved_model.pb", "classifier/variables/variables.index"], 0.05),
    "keras": ("keras", ["classifier.keras", "classifier.keras/config.json", "classifier.keras/model.weights.h5"], 0.1),
}


def write_model(engine: str, folder: Path) -> None:
    """A folder of tiny networks in a format; that of ONNX needs no TensorFlow."""
    from tests.tiny_exports import save_export

    save_export(folder, 6)
    (folder / SPLIT).write_text('{"train": ["slide1/a.png"], "validation": [], "test": ["b.png"], "seen_before": []}', encoding="utf-8")
    if engine != "onnx":
        _convert(engine, folder)


def _convert(engine: str, folder: Path) -> None:
    """Put another engine's network in place of a folder's networks, with the description of a detector that needs one alone."""
    from dataclasses import replace

    import keras

    from malaria_cells.export import export_network
    from malaria_cells.inference.model_folder import save_model

    description, _ = load_description(folder)
    for path in folder.glob("*.onnx"):
        path.unlink()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(x))
    n_columns = len(description.labels) + description.has_background
    network = keras.Model(inputs, keras.layers.Dense(n_columns, activation="softmax")(x))
    description = replace(description, image_size_hw=(16, 16), proposals="watershed")
    if engine == "keras":
        save_model(folder, [network], description)
        return
    export_network(network, folder / "classifier", engine)
    save_description(folder, [exported_network(folder, "classifier", engine)], description)


def changed(folder: Path, file: str, rng: random.Random) -> None:
    """Mutate a file of a folder, or a part of an archive under a right checksum of its own, and put the checksums right."""
    whole, _, part = file.partition(".keras/")
    path = folder / (f"{whole}.keras" if part else file)
    if part:
        archived = io.BytesIO()
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(archived, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                new.writestr(name, mutated(content, Path(name).suffix, rng) if name == part else content)
        path.write_bytes(archived.getvalue())
    else:
        path.write_bytes(mutated(path.read_bytes(), path.suffix, rng))
    if file not in {"model.yaml", SPLIT}:
        about = folder / "model.yaml"
        content = yaml.safe_load(about.read_text(encoding="utf-8"))
        content["files"] = checksums(folder)
        about.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def read(folder: Path, engine: str) -> None:
    """Load the folder, and see which of two images it knows."""
    seen_in(folder, ["a.png", "b.png"])
    load_detector(folder, engine)


def fresh(whole: Path, folder: Path) -> None:
    """A copy of a whole folder."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
