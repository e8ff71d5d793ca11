import hashlib
import shutil
import zipfile

import numpy as np
import pytest
import yaml

from malaria_cells.base.errors import InputError
from malaria_cells.inference.model_description import golden_pixels
from malaria_cells.inference.model_folder import _rounded, load_detector, save_model
from malaria_cells.inference.model_yaml import load_description
from malaria_cells.models.stored.keras_files import load_network


@pytest.fixture
def folder(untrained_model, tmp_path):
    return shutil.copytree(untrained_model, tmp_path / "model")


def change(folder, **values):
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))


def change_within(folder, part, **values):
    change(folder, **{part: yaml.safe_load((folder / "model.yaml").read_text())[part] | values})


def test_what_is_saved_is_what_is_loaded(folder, six_classes):
    detector, description = load_detector(folder)
    assert description.labels == six_classes
    assert (description.image_size_hw, description.cell_size, description.proposals) == ((32, 32), 72.0, "watershed")
    assert detector.settings == description.settings
    content = yaml.safe_load((folder / "model.yaml").read_text())
    assert {
        "format_version",
        "labels",
        "image_size_hw",
        "context",
        "preprocessing",
        "calibration",
        "libraries",
        "fingerprints",
        "seed",
    } <= content.keys()
    assert content["settings"]["infected_threshold"] == 0.5
    assert content["libraries"]["keras"][0].isdigit()


def test_a_newer_format_is_refused(folder):
    change(folder, format_version=99)
    with pytest.raises(InputError, match=r"model\.yaml: format 99, this version reads 2; update malaria-cells"):
        load_detector(folder)
    change(folder, format_version=1)
    with pytest.raises(InputError, match=r"model\.yaml: format 1, this version reads 2; train the model again"):
        load_detector(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.yaml").unlink(), r"not a model folder, model\.yaml is missing"),
        (lambda f: (f / "model.yaml").write_text("a: ["), r"model\.yaml: damaged"),
        (lambda f: (f / "model.yaml").write_text("- 1"), r"model\.yaml: damaged"),
        (lambda f: change(f, settings={"nms": "agnostic"}), r"model\.yaml: damaged"),
        (
            lambda f: change(f, proposals="magic"),
            r"model\.yaml: proposals: 'magic' is unknown; expected one of .*; put the value right, or install",
        ),
        (lambda f: change(f, context=-1), r"model\.yaml: context: Input should be greater than 0, found -1"),
        (lambda f: change_within(f, "settings", nms="abc"), r"model\.yaml: settings\.nms: Input should be 'agnostic' or 'class'"),
        (lambda f: change_within(f, "settings", nms_iou=-1), r"model\.yaml: settings\.nms_iou: .* greater than or equal to 0, found -1"),
        (lambda f: change_within(f, "calibration", temperature=0), r"model\.yaml: calibration\.temperature: .* greater than 0"),
        (
            lambda f: change_within(f, "calibration", log_prior_ratio=[0.0] * 4),
            r"model\.yaml: damaged .*calibration\.log_prior_ratio has 4 values, but there are 7 classes",
        ),
        (
            lambda f: change_within(f, "calibration", infection={"classes": [True, False], "slope": 1.0, "offset": 0.0}),
            r"model\.yaml: damaged .*calibration\.infection\.classes has 2 values, but there are 7 classes",
        ),
        (lambda f: change(f, image_size_hw=[32, 0]), r"model\.yaml: image_size_hw\.1: Input should be greater than 0, found 0"),
        (lambda f: change(f, labels=["ring"]), r"model\.yaml: labels: Input should be .*; put the value right"),
        (lambda f: change(f, context="wide"), r"model\.yaml: context: Input should be a valid number.*found 'wide'"),
        (lambda f: change(f, labels={"names": ["ring", 3]}), r"model\.yaml: labels\.names\.1: Input should be a valid string"),
        (lambda f: (f / "classifier.keras").unlink(), r"classifier\.keras: no such file"),
        (
            lambda f: (f / "classifier.keras").write_bytes((f / "classifier.keras").read_bytes()[:5000]),
            r"classifier\.keras: not a Keras model",
        ),
    ],
)
def test_damage_is_named(folder, damage, message):
    damage(folder)
    with pytest.raises(InputError, match=message):
        load_detector(folder)


def test_another_network_than_the_described_one_is_refused(folder):
    import keras

    network = load_network(folder / "classifier.keras")
    keras.utils.set_random_seed(1)
    for variable in network.trainable_variables:
        variable.assign(np.random.default_rng(1).normal(0, 0.2, variable.shape))
    network.save(folder / "classifier.keras")
    with pytest.raises(InputError, match="differs from when it was saved"):
        load_detector(folder)


def test_a_size_that_the_network_cannot_take_is_named(folder):
    import keras

    inputs = keras.Input((32, 32, 3))
    answers = keras.layers.Dense(7, activation="softmax")(keras.layers.Flatten()(inputs))
    save_model(folder, [keras.Model(inputs, answers)], load_description(folder)[0])
    load_detector(folder)
    change(folder, image_size_hw=[32, 48])
    with pytest.raises(
        InputError, match=r"model\.yaml: image_size_hw: classifier\.keras cannot be given 32 x 48 pixels \(.*put the value right"
    ):
        load_detector(folder)


def test_a_file_of_another_keras_that_cannot_be_read_says_which_one_to_install(folder):
    path = folder / "classifier.keras"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = parts["config.json"].replace(b'"seed": null', b'"seed": null, "axes_of_tomorrow": null')
    parts["metadata.json"] = b'{"keras_version": "99.1"}'
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    with pytest.raises(InputError, match=r"written by Keras 99\.1, installed is 3\..*: pip install keras==99\.1\)"):
        load_detector(folder)


def test_a_file_that_carries_code_is_not_run(tmp_path):
    import keras

    ran = tmp_path / "ran"
    inputs = keras.Input((4,))
    where = str(ran)
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: (__import__("pathlib").Path(where).touch(), x)[1])(inputs))
    ran.unlink(missing_ok=True)
    model.save(tmp_path / "evil.keras")
    with pytest.raises(InputError, match=r"evil\.keras: not a Keras model that can be loaded"):
        load_network(tmp_path / "evil.keras")
    assert not ran.exists()


def test_description_survives_a_round_trip(folder):
    description, golden = load_description(folder)
    again, golden_again = load_description(folder)
    assert description == again
    assert golden.shape == (4, 7)
    assert np.array_equal(golden, golden_again)


def test_no_optimizer_is_saved(untrained_model, tmp_path):
    network = load_network(untrained_model / "classifier.keras")
    network.compile("adam", "categorical_crossentropy")
    network.optimizer.build(network.trainable_variables)
    network.save(tmp_path / "with_optimizer.keras")
    description, _ = load_description(untrained_model)
    (tmp_path / "m").mkdir()
    save_model(tmp_path / "m", [network], description)
    size = (tmp_path / "m" / "classifier.keras").stat().st_size
    assert size < 0.5 * (tmp_path / "with_optimizer.keras").stat().st_size
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    again = load_network(tmp_path / "m" / "classifier.keras")
    assert np.asarray(again(pixels)) == pytest.approx(np.asarray(network(pixels)), abs=1e-6)


def test_rounded_weights_answer_the_same_in_less_space(untrained_model, tmp_path):
    network = load_network(untrained_model / "classifier.keras")
    for variable in network.trainable_variables:
        variable.assign(np.random.default_rng(1).normal(0, 0.1, variable.shape))
    network.save(tmp_path / "exact.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.float32)
    before = np.asarray(network(pixels))
    (tmp_path / "m").mkdir()
    save_model(tmp_path / "m", [network], load_description(untrained_model)[0])
    path = tmp_path / "m" / "classifier.keras"
    assert path.stat().st_size < 0.75 * (tmp_path / "exact.keras").stat().st_size
    assert np.asarray(load_network(path)(pixels)) == pytest.approx(before, abs=2e-3)


def test_rounding_keeps_twelve_bits():
    values = np.array([0.0, 1.0, -3.3333333, 1e-20, 4097.0], dtype=np.float32)
    rounded = _rounded(values)
    assert np.abs(rounded - values).max() <= 2.0**-12 * 4097
    assert rounded[[0, 1]].tolist() == [0, 1]
    assert (rounded.view(np.uint32) & 0xFFF == 0).all()


@pytest.mark.parametrize(("size", "digest"), [(32, "0955cf3a09234a62"), (64, "01c602df64d8eb9e"), (96, "0546e5b0bc54d3e5")])
def test_golden_pixels_are_the_ones_that_they_always_were(size, digest):
    """Models that exist hold the outputs for these pixels."""
    assert hashlib.sha256(golden_pixels((4, size, size, 3)).tobytes()).hexdigest()[:16] == digest
