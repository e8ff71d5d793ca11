"""Damaged and hostile files of models: each ends in a model or in one sentence that names the file, and soon."""

import io
import random
import shutil
import time
import zipfile

import numpy as np
import pytest
import yaml

from malaria_cells.base.errors import InputError
from malaria_cells.data.labels import LabelSet
from malaria_cells.export import export_network
from malaria_cells.inference.engines import exported_network
from malaria_cells.inference.model_description import ModelDescription
from malaria_cells.inference.model_folder import load_detector, save_model
from malaria_cells.inference.model_yaml import load_description, save_description
from malaria_cells.models.stored.checksums import check_checksums, checksums
from malaria_cells.models.stored.keras_files import load_network

ENGINES = ("keras", "onnx", "openvino", "litert", "savedmodel")
# Kind of mutation: engine, file that is changed, how often. Files that C++ reads are few: each one that gets there costs a while.
MUTATIONS = {
    "description": ("keras", "model.yaml", 150),
    "archive": ("keras", "classifier.keras", 60),
    "architecture": ("keras", "config.json", 40),
    "weights": ("keras", "model.weights.h5", 12),
    "onnx": ("onnx", "classifier.onnx", 60),
    "openvino": ("openvino", "classifier.xml", 30),
    "openvino's weights": ("openvino", "classifier.bin", 30),
    "litert": ("litert", "classifier.tflite", 30),
    "graph": ("savedmodel", "classifier/saved_model.pb", 30),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model folder of a tiny network for each engine."""
    import keras

    from malaria_cells.inference.calibration import Calibration
    from malaria_cells.inference.decision import DetectionSettings

    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(x))
    network = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    description = ModelDescription(
        labels=LabelSet(("healthy", "ring"), ("difficult",), ("ring",), ("healthy",)),
        model="compact",
        has_background=True,
        image_size_hw=(16, 16),
        context=1.25,
        cell_size=72.0,
        proposals="watershed",
        box_margins={"regions": (-0.01, -0.01, 0.01, 0.01)},
        settings=DetectionSettings(),
        calibration=Calibration(1.0, 1.0, (0.0, 0.0, 0.0)),
        fingerprints={"train": "none"},
        seed=0,
    )
    root = tmp_path_factory.mktemp("models")
    for engine in ENGINES:
        (root / engine).mkdir()
    save_model(root / "keras", [network], description)
    for engine in ENGINES[1:]:
        export_network(network, root / engine / "classifier", engine)
        save_description(root / engine, [exported_network(root / engine, "classifier", engine)], description)
    return root


def mutated(rng: random.Random, content: bytes) -> bytes:
    """Bits turned, bytes put, taken and doubled, the end cut off."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        i, n = rng.randrange(len(changed) or 1), rng.randrange(1, 32)
        kind = rng.randrange(6)
        if kind == 0 and changed:
            changed[i] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[i : i + 1] = bytes([rng.choice([0, 1, 127, 128, 255, 45, 48, 57])])
        elif kind == 2:
            del changed[i : i + n]
        elif kind == 3:
            changed[i:i] = changed[i : i + n] * rng.randrange(1, 4)
        elif kind == 4 and rng.random() < 0.2:
            del changed[i:]
        else:
            changed[i : i + 1] = rng.choice(
                [b"999", b"-1", b"null", b"1e999", b"\0", b"[[", b"{}", b".nan", b"'", b"\xff" * 4, b"&a ", b"*a "]
            )
    return bytes(changed)


def change(folder, file: str, rng: random.Random) -> None:
    """Mutate a file of a model folder, or a part of its .keras file, under a right checksum of the archive."""
    path = folder / file
    if path.exists():
        path.write_bytes(mutated(rng, path.read_bytes()))
        return
    archived = io.BytesIO()
    with zipfile.ZipFile(folder / "classifier.keras") as old, zipfile.ZipFile(archived, "w") as new:
        for name in old.namelist():
            new.writestr(name, mutated(rng, old.read(name)) if name == file else old.read(name))
    (folder / "classifier.keras").write_bytes(archived.getvalue())


@pytest.mark.parametrize("kind", MUTATIONS)
def test_whatever_is_damaged_ends_in_a_model_or_a_sentence(kind, models, tmp_path):
    engine, file, times = MUTATIONS[kind]
    said = []
    for seed in range(times):
        folder = shutil.copytree(models / engine, tmp_path / str(seed))
        change(folder, file, random.Random(seed))
        started = time.process_time()
        try:
            load_detector(folder, engine)
        except InputError as error:
            said.append((str(folder), str(error)))
        assert time.process_time() - started < 30, seed
    assert len(said) > times / 3
    assert [(folder, text) for folder, text in said if folder not in text or "\n" in text] == []


def changed_description(folder, **values):
    path = folder / "model.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        part = content
        *above, last = key.split("__")
        for name in above:
            part = part[name]
        part[last] = value
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"settings__infected_threshold": float("nan")}, r"settings\.infected_threshold: found nan, expected a finite number"),
        ({"calibration__shift": float("inf")}, r"calibration\.shift: found inf, expected a finite number"),
        ({"calibration__shift": 1e300}, r"calibration\.shift: found 1e\+300, expected at most 1e\+09"),
        ({"settings__infected_threshold": 1.5}, r"settings\.infected_threshold: Input should be less than or equal to 1, found 1\.5"),
        ({"golden_output": [[float("nan")] * 3] * 4}, r"golden_output\.0\.0: found nan"),
        ({"golden_output": [[0.5], [0.5, 0.5]]}, "golden_output: expected rows of equal length"),
        ({"golden_output": "none"}, "Input should be a valid list, found 'none'"),
        ({"image_size_hw": [100_000, 100_000]}, r"image_size_hw\.0: Input should be less than or equal to 4096"),
        ({"detector": "magic"}, r"detector: Input should be 'two_stage', 'yolo' or 'retinanet', found 'magic'"),
        ({"errors": {"infected": 3, "detected": 5, "healthy": 2, "false_alarms": 0}}, "errors: found .*`detected` is at most `infected`"),
        ({"errors": {"infected": 3, "detected": 2, "healthy": 2, "false_alarms": -1}}, "errors: found .*expected counts"),
        ({"scan": {"runs": 10**6, "scan": 1}}, "scan: found .*expected runs and scan from 1 to 1000"),
        ({"settings": "none"}, "settings: expected keys and values, found 'none'"),
        ({"files": ["classifier.keras"]}, "Input should be a valid dictionary"),
        ({"format_version": "9" * 5000}, r"format 9{20}, this version reads 2"),
        (
            {"labels__names": ["healthy", "ring", "schizont"], "calibration__log_prior_ratio": [0.0] * 4},
            r"labels: found 3 names and background, but the output of classifier\.keras has 3 columns",
        ),
    ],
)
def test_what_the_description_says_is_possible_and_fits_the_network(values, message, models, tmp_path):
    folder = shutil.copytree(models / "keras", tmp_path / "m")
    changed_description(folder, **values)
    with pytest.raises(InputError, match=rf"model\.yaml: .*{message}"):
        load_detector(folder)


def test_an_answer_that_is_no_number_is_not_as_when_it_was_saved(models, tmp_path, monkeypatch):
    monkeypatch.setattr("malaria_cells.inference.answers.golden_output", lambda *_: np.full((4, 3), np.nan, np.float32))
    with pytest.raises(InputError, match="differs from when it was saved"):
        load_detector(models / "keras")


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_an_exchanged_file_is_named_before_a_library_reads_it(engine, models, tmp_path, monkeypatch):
    folder = shutil.copytree(models / engine, tmp_path / "m")
    listed = yaml.safe_load((folder / "model.yaml").read_text())["files"]
    assert listed
    monkeypatch.setattr("malaria_cells.inference.model_folder.exported_network", lambda *_: pytest.fail("was read"))
    for name in listed:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b"\0")
        with pytest.raises(InputError, match=r": its checksum differs from that in model\.yaml"):
            load_detector(folder, engine)
        (folder / name).unlink()
        if engine != "savedmodel" or not name.endswith(".pb"):
            with pytest.raises(InputError, match=r"no such file, though model\.yaml lists it|has not been exported for it"):
                load_detector(folder, engine)
        (folder / name).write_bytes(content)


def test_a_changed_keras_file_is_named_though_it_answers_the_same(models, tmp_path):
    folder = shutil.copytree(models / "keras", tmp_path / "m")
    with zipfile.ZipFile(folder / "classifier.keras", "a") as archive:
        archive.comment = b"another"
    with pytest.raises(
        InputError, match=r"classifier\.keras: its checksum differs from that in model\.yaml.*delete its line under `files`"
    ):
        load_detector(folder)
    changed_description(folder, files={})
    load_detector(folder)


def test_networks_in_any_format_have_checksums(tmp_path):
    """Those of plugins too, of one file, of several and of a folder; an export inside the folder has its own."""
    networks = [
        "classifier.keras",
        "classifier.twin",
        "detector.bin",
        "detector.xml",
        "proposer/graph",
        "proposer/weights/1",
        "refiner.a.b",
    ]
    for name in (*networks, "config.yaml", "example.py", "history.csv", "second_look/model.yaml", "twin/classifier.twin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert list(checksums(tmp_path)) == networks
    stored = checksums(tmp_path)
    (tmp_path / "classifier.twin").write_text("another")
    check_checksums(tmp_path, stored, ["proposer", "detector"], "model.yaml")
    with pytest.raises(InputError, match=r"classifier\.twin: its checksum differs"):
        check_checksums(tmp_path, stored, ["classifier"], "model.yaml")


def test_folders_without_checksums_stay_loadable(models, tmp_path):
    for engine in ENGINES:
        folder = shutil.copytree(models / engine, tmp_path / engine)
        content = yaml.safe_load((folder / "model.yaml").read_text())
        del content["files"]
        (folder / "model.yaml").write_text(yaml.safe_dump(content))
        load_detector(folder, engine)


@pytest.mark.parametrize("engine", ENGINES[1:4])
def test_what_an_engine_cannot_open_is_named(engine, models, tmp_path):
    folder = shutil.copytree(models / engine, tmp_path / "m")
    name = {"onnx": "classifier.onnx", "openvino": "classifier.xml", "litert": "classifier.tflite"}[engine]
    (folder / name).write_bytes(b"no network")
    with pytest.raises(InputError, match=rf"{name}: not a network that [\w-]+ can open \(.*; copy the folder or export the model again"):
        exported_network(folder, "classifier", engine)
    (folder / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match=rf"{name}: is a Git LFS pointer"):
        exported_network(folder, "classifier", engine)


def test_weights_of_onnx_in_another_file_are_refused(models, tmp_path):
    import onnx

    folder = shutil.copytree(models / "onnx", tmp_path / "m")
    content = onnx.load(folder / "classifier.onnx")
    tensor = content.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    (folder / "classifier.onnx").write_bytes(content.SerializeToString())
    with pytest.raises(InputError, match=r"classifier\.onnx: its weights are in another file, which it names"):
        exported_network(folder, "classifier", "onnx")


def test_a_proposer_that_is_none_is_named(models, tmp_path):
    from dataclasses import replace

    folder = shutil.copytree(models / "keras", tmp_path / "m")
    network = load_network(folder / "classifier.keras")
    description, _ = load_description(folder)
    save_model(folder, [network], replace(description, proposals="learned"), network)
    with pytest.raises(InputError, match=r"output of its proposer has the shape \(1, 3\) .*expected 5 finite values for each cell"):
        load_detector(folder)
