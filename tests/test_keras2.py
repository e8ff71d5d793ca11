"""Models of Keras 2: saved by `tf_keras`, which is Keras 2.x under its own name, and compared with its own predictions."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from malaria_cells.app.cli import main
from malaria_cells.base.errors import InputError
from malaria_cells.models.stored.keras2 import load_keras2


def sequential(k):
    return k.Sequential(
        [
            k.layers.Conv2D(8, 3, activation="relu", input_shape=(32, 32, 3)),
            k.layers.BatchNormalization(),
            k.layers.MaxPooling2D(),
            k.layers.Flatten(),
            k.layers.Dropout(0.3),
            k.layers.Dense(1, activation="sigmoid"),
        ]
    )


def functional(k):
    inputs = k.Input((32, 32, 3))
    x = k.layers.Rescaling(1 / 255)(inputs)
    a = k.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    b = k.layers.SeparableConv2D(8, 3, padding="same")(a)
    c = k.layers.DepthwiseConv2D(3, padding="same")(b)
    x = k.layers.Concatenate()([k.layers.Add()([a, b]), c])
    return k.Model(inputs, k.layers.Dense(3, activation="softmax")(k.layers.GlobalAveragePooling2D()(x)))


def backbone(k):
    return k.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))


def nested(k):
    inputs = k.Input((32, 32, 3))
    return k.Model(inputs, k.layers.Dense(3, activation="softmax")(k.layers.GlobalAveragePooling2D()(backbone(k)(inputs))))


def nested_sequential(k):
    return k.Sequential([backbone(k), k.layers.GlobalAveragePooling2D(), k.layers.Dense(2, activation="softmax")])


@pytest.fixture(scope="module")
def keras_2():
    return pytest.importorskip("tf_keras", reason="tf_keras, which saves files as Keras 2 did, is not installed")


def saved(k, build, folder):
    k.utils.set_random_seed(0)
    model = build(k)
    rng = np.random.default_rng(1)
    for weight in model.weights:  # batch statistics that are not 0 and 1, so that a mix-up shows
        weight.assign(rng.uniform(0.5, 1.5, weight.shape) if "variance" in weight.name else weight + rng.normal(0, 0.05, weight.shape))
    model.save_weights(folder / "m.h5")
    (folder / "m.json").write_text(model.to_json())
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("build", [sequential, functional, nested, nested_sequential])
def test_pair_of_h5_and_json_predicts_as_keras_2_does(keras_2, tmp_path, build):
    model = saved(keras_2, build, tmp_path)
    pixels = np.random.default_rng(2).integers(0, 256, (5, 32, 32, 3)).astype(np.float32)
    expected = model.predict(pixels, verbose=0)
    assert np.asarray(load_keras2(tmp_path / "m.h5")(pixels)) == pytest.approx(expected, abs=1e-5)
    model.save(tmp_path / "whole.h5")
    assert np.asarray(load_keras2(tmp_path / "whole.h5")(pixels)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_run_takes_the_pair(keras_2, tmp_path, caplog):
    model = saved(keras_2, sequential, tmp_path)
    (tmp_path / "in").mkdir()
    images = np.random.default_rng(3).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "in" / f"{i}.png")
    request = ["run", "--model", str(tmp_path / "m.h5"), "--image", str(tmp_path / "in"), "--labels", "NORMAL,PNEUMONIA"]
    for divisor in (1, 255):
        options = [] if divisor == 1 else ["--input-divisor", "255"]
        assert main([*request, "--output", str(tmp_path / "out"), *options]) == 0
        expected = model.predict(images / np.float32(divisor), verbose=0)[:, 0]
        with (tmp_path / "out" / "predictions.csv").open() as file:
            found = [float(row["p_PNEUMONIA"]) for row in csv.DictReader(file)]
        assert found == pytest.approx(expected.round(4), abs=1.01e-4)
    assert caplog.text.count("add --input-range 0,1 (the same as --input-divisor 255)") == 1


@pytest.mark.filterwarnings("ignore")
def test_broken_pairs_are_named(keras_2, tmp_path):
    saved(keras_2, sequential, tmp_path)
    content = json.loads((tmp_path / "m.json").read_text())
    (tmp_path / "m.json").write_text("{")
    with pytest.raises(InputError, match=r"m\.json: not valid JSON"):
        load_keras2(tmp_path / "m.h5")
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(InputError, match=r"m\.json: found no model"):
        load_keras2(tmp_path / "m.h5")
    content["config"]["layers"].insert(2, {"class_name": "Lambda", "config": {"name": "l", "function": ["4wEA", None, None]}})
    (tmp_path / "m.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="holds a Lambda layer, which carries code"):
        load_keras2(tmp_path / "m.h5")
    (tmp_path / "m.json").unlink()
    with pytest.raises(InputError, match=r"holds only weights; put the architecture beside it as m\.json"):
        load_keras2(tmp_path / "m.h5")
    (tmp_path / "m.h5").write_bytes(b"no HDF5")
    with pytest.raises(InputError, match=r"m\.h5: not a model of Keras 2"):
        load_keras2(tmp_path / "m.h5")
    with pytest.raises(InputError, match=r"gone\.h5: no such file"):
        load_keras2(tmp_path / "gone.h5")
