"""The architecture in a Keras file: what it may name, and that nothing else is ever made."""

import io
import json
import zipfile

import pytest

from malaria_cells.base.errors import InputError
from malaria_cells.models.stored.architecture import FORBIDDEN, check_architecture
from malaria_cells.models.stored.keras_files import load_network


def of(class_name="Dense", module="keras.layers", config=None, registered_name=None, **more):
    """A sequential network of an image and one more object."""
    part = {"class_name": class_name, "module": module, "config": config or {}, "registered_name": registered_name, **more}
    return {"class_name": "Sequential", "module": "keras", "config": {"layers": [part]}, "registered_name": None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *[(of(name), f"holds a {name} layer, which ") for name in FORBIDDEN],
        *[(of(name, None), f"holds a {name} layer, which ") for name in FORBIDDEN],
        (of("Lambda", "keras.src.layers.core.lambda_layer"), "holds a Lambda layer, which carries code"),
        (of("Popen", "subprocess"), r"an object of class 'subprocess\.Popen', which is not one of Keras"),
        (of("Evil", "my.package", {"name": "evil"}, "My>Evil"), r"the layer 'evil' of class 'my\.package\.Evil'"),
        (of("get_file", "keras.utils"), r"of class 'keras\.utils\.get_file'"),
        (of("Progbar", "keras.utils"), r"of class 'keras\.utils\.Progbar'"),
        (of("load_model", "keras.models"), r"of class 'keras\.models\.load_model'"),
        (of("BackupAndRestore", "keras.callbacks"), r"of class 'keras\.callbacks\.BackupAndRestore'"),
        (of("DiskIOStore", "keras.src.saving.saving_lib"), r"of class 'keras\.src\.saving\.saving_lib\.DiskIOStore'"),
        (of("CLIPProcessor", "keras_cv.models", registered_name="keras_cv>CLIPProcessor"), "CLIPProcessor', which is not one of Keras"),
        (of("function", "keras.utils", "get_file"), r"names the function 'keras\.utils\.get_file'"),
        (of("function", "builtins", "eval"), r"names the function 'builtins\.eval'"),
        (of("function", "os", "system"), r"names the function 'os\.system'"),
        (of("function", "os", "relu"), r"names the function 'os\.relu'"),
        (of("function", "builtins", "keras_cv>load"), r"names the function 'builtins\.keras_cv>load'"),
        (of("__lambda__", "builtins", {"value": "4wEA"}), "holds a lambda, which carries code"),
        (of("__typespec__", "os", [], spec_name="system"), "holds a type specification"),
        (of(["Dense"]), "its architecture is damaged: found a class name"),
        (of("Dense", 7), "its architecture is damaged: found a class name"),
        ([], "found no model in its architecture"),
        ({"config": {}}, "found no model in its architecture"),
    ],
)
def test_what_runs_code_or_reads_files_is_refused(content, message):
    with pytest.raises(InputError, match=message):
        check_architecture(content)


def test_functions_of_other_packages_are_refused_as_texts_too():
    import keras_cv  # noqa: F401  whose functions are registered

    with pytest.raises(InputError, match=r"names the function 'keras_cv\.datasets\.waymo>load' of keras-cv"):
        check_architecture(of(config={"activation": "keras_cv.datasets.waymo>load"}))


def test_depth_and_number_are_limited(monkeypatch):
    deep = inner = {}
    for _ in range(100_000):
        inner["a"] = inner = {}
    with pytest.raises(InputError, match="nested more than 200 levels deep"):
        check_architecture(of(config=deep))
    monkeypatch.setattr("malaria_cells.models.stored.architecture.MAX_OBJECTS", 1000)
    with pytest.raises(InputError, match="holds more than 1,000 objects"):
        check_architecture(of(config={"a": [of()] * 1000}))


def test_layers_that_the_calling_program_registered_are_its_own_business():
    import keras

    @keras.saving.register_keras_serializable(package="test_architecture")
    class Own(keras.layers.Layer):
        pass

    check_architecture(of("Own", "tests", registered_name="test_architecture>Own"))


def test_keras_own_networks_pass():
    import keras

    inputs = keras.Input((32, 32, 3))
    x = keras.layers.RandomFlip()(inputs)
    x = keras.layers.Conv2D(4, 3, activation=keras.activations.swish, kernel_regularizer="l2", kernel_constraint="max_norm")(x)
    x = keras.layers.Bidirectional(keras.layers.LSTM(3))(keras.layers.TimeDistributed(keras.layers.Flatten())(x))
    x = keras.layers.LayerNormalization()(keras.ops.softmax(x * 2)[:, :3])
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    inner.compile("adam", keras.losses.BinaryCrossentropy(), metrics=["accuracy", keras.metrics.AUC()])
    model = keras.Model(inputs, keras.layers.Activation("gelu")(inner(x)))
    content = keras.saving.serialize_keras_object(model)
    check_architecture(json.loads(json.dumps(content)))


def rewritten(path, **parts):
    """A ``.keras`` file with other content in some of its parts."""
    with zipfile.ZipFile(path) as archive:
        old = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (old | {name.replace("__", "."): content for name, content in parts.items()}).items():
            archive.writestr(name, content)


@pytest.fixture
def saved(tmp_path):
    import keras

    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    return tmp_path / "m.keras"


def test_a_network_larger_than_its_weights_is_never_made(saved):
    with zipfile.ZipFile(saved) as archive:
        content = archive.read("config.json")
    rewritten(saved, config__json=content.replace(b'"units": 2', b'"units": 2000000000'))
    with pytest.raises(InputError, match=r"m\.keras: .*needs more weights than the 8 in the file"):
        load_network(saved)


def test_an_image_of_any_size_is_never_made(saved):
    with zipfile.ZipFile(saved) as archive:
        content = json.loads(archive.read("config.json"))
    enlarging = {
        "class_name": "UpSampling2D",
        "module": "keras.layers",
        "config": {"name": "u", "size": [10**6, 10**6]},
        "registered_name": None,
    }
    content["config"]["layers"].insert(1, enlarging)
    rewritten(saved, config__json=json.dumps(content))
    with pytest.raises(InputError, match=r"m\.keras: .*its layer 'u' outputs 192,000,000,000,000 values for one image"):
        load_network(saved)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"config__json": b"[" * 10**6}, "its config.json is nested too deeply"),
        ({"config__json": b" " * (2**26 + 1)}, r"its config\.json would have 67,108,865 bytes"),
        ({"model__weights__h5": b"no HDF5"}, r"its model\.weights\.h5: .*signature not found"),
        ({"assets/vocabulary.txt": b"a"}, r"holds a file 'assets/vocabulary\.txt'"),
        ({"metadata__json": b"{"}, None),
    ],
)
def test_parts_of_the_archive_are_bounded(parts, message, saved):
    rewritten(saved, **parts)
    if message is None:
        load_network(saved)
        return
    with pytest.raises(InputError, match=rf"m\.keras: not a Keras model that can be loaded: {message}"):
        load_network(saved)


def test_a_zip_bomb_is_not_unpacked(saved, monkeypatch):
    import malaria_cells.models.stored.keras_files as keras_files

    monkeypatch.setattr(keras_files, "MAX_UNCHECKED_WEIGHTS", 2**16)
    rewritten(saved, model__weights__h5=bytes(2**24))
    with pytest.raises(InputError, match=r"its model\.weights\.h5 would have 16,777,216 bytes \(1\d,\d{3} compressed\)"):
        load_network(saved)


def test_archives_without_their_parts_are_named(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("config.json", "{}")
    (tmp_path / "m.keras").write_bytes(content.getvalue())
    with pytest.raises(InputError, match=r"holds no model\.weights\.h5; expected a file written by Keras' model\.save\(\)"):
        load_network(tmp_path / "m.keras")
