"""Networks of other people: what they take and give is looked at before any image is worked on."""

import logging

import numpy as np
import pytest
from PIL import Image

from malaria_cells.app.cli import main
from malaria_cells.app.commands.run_model import load
from malaria_cells.app.commands.run_request import RunRequest
from malaria_cells.base.errors import InputError
from malaria_cells.models.stored.keras_files import load_network


def classifier(shape=(16, 16, 3), outputs=3, activation="softmax", rescaled=True, data_format="channels_last"):
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 255)(inputs) if rescaled else inputs
    x = keras.layers.GlobalAveragePooling2D(data_format=data_format)(x)
    return keras.Model(inputs, keras.layers.Dense(outputs, activation=activation)(x))


def loaded(model, folder, **options):
    if model is not None:
        model.save(folder / "m.keras")
    return load(RunRequest(image="none", output=folder / "out", **options), folder / "m.keras").detector.classifier


def two_inputs():
    import keras

    image, facts = keras.Input((16, 16, 3)), keras.Input((5,))
    joined = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling2D()(image), facts])
    return keras.Model([image, facts], keras.layers.Dense(3, activation="softmax")(joined))


def two_outputs():
    import keras

    model = classifier()
    return keras.Model(model.inputs, [model.outputs[0], keras.layers.Dense(1)(model.outputs[0])])


def segmentation():
    import keras

    return keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(2, 1, activation="softmax")])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: classifier((16, 16, 1)), r"input shape \(None, 16, 16, 1\), grey images"),
        (lambda: classifier((16, 16, 4)), r"input shape \(None, 16, 16, 4\); images have the channels red, green and blue"),
        (lambda: classifier((3, 16, 16), data_format="channels_first"), r"\(None, 3, 16, 16\), channels first"),
        (lambda: classifier((None, None, 3)), r"\(None, None, None, 3\); put keras\.Input\(\(H, W, 3\)\) with the size"),
        (two_inputs, r"one input, an image; found 2 inputs: \(None, 16, 16, 3\), \(None, 5\)"),
        (two_outputs, r"found 2 outputs: .*\(None, 3\), .*\(None, 1\)"),
        (segmentation, r"output shape \(None, 16, 16, 2\), a segmentation map"),
        (lambda: classifier(activation="relu"), r"its 3 outputs are no probabilities: .* after the activation relu"),
        (lambda: classifier(outputs=1, activation=None), r"its one output has the activation linear, which is no probability"),
        (lambda: classifier(outputs=1, activation="softmax"), r"its one output has a softmax, which is always 1"),
    ],
)
def test_what_is_no_classifier_of_an_image_is_refused_by_its_shape(build, message, tmp_path):
    with pytest.raises(InputError, match=message):
        loaded(build(), tmp_path)


def test_nothing_is_written_for_a_network_that_cannot_be_used(tmp_path, capsys):
    classifier((16, 16, 1)).save(tmp_path / "m.keras")
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    request = ["run", "--model", str(tmp_path / "m.keras"), "--image", str(tmp_path / "a.png"), "--output", str(tmp_path / "out")]
    assert main(request) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'm.keras'}: expected a model of one image")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("within", [False, True])
def test_logits_get_a_softmax_and_a_line(within, tmp_path, caplog):
    import keras

    model = classifier(activation=None)
    if within:
        model = keras.Sequential([keras.Input((16, 16, 3)), model, keras.layers.Activation("linear")])
    found = loaded(model, tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    logits = np.asarray(model(pixels.astype(np.float32)))
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert found(pixels) == pytest.approx(wanted, abs=1e-5)
    assert "its 3 outputs are taken as logits and a softmax is applied" in caplog.text


def test_probabilities_are_left_as_they_are_whatever_layer_makes_them(tmp_path, caplog):
    import keras

    inputs = keras.Input((16, 16, 3))
    averaged = keras.layers.Average()([classifier()(inputs), classifier()(inputs)])
    model = keras.Model(inputs, averaged)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    assert loaded(model, tmp_path)(pixels) == pytest.approx(np.asarray(model(pixels.astype(np.float32))), abs=1e-5)
    assert "logits" not in caplog.text
    assert "none of its layers scales pixels" not in caplog.text  # the layer is within a network within it


def test_independent_sigmoids_are_told(tmp_path, caplog):
    rows = loaded(classifier(activation="sigmoid"), tmp_path)(np.zeros((2, 16, 16, 3), np.uint8))
    assert "its 3 outputs are independent sigmoids, which do not sum to 1" in caplog.text
    assert rows.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "scaled"),
    [
        ({"input_range": "-1,1"}, lambda x: x / 127.5 - 1),
        ({"input_range": "0,1"}, lambda x: x / 255),
        ({"input_range": "0,255"}, lambda x: x),
        ({"input_divisor": 128.0}, lambda x: x / 128),
    ],
)
def test_pixels_are_in_the_range_that_is_asked_for(options, scaled, tmp_path, caplog):
    model = classifier(rescaled=False)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    found = loaded(model, tmp_path, **options)(pixels)
    assert found == pytest.approx(np.asarray(model(scaled(pixels.astype(np.float32)))), abs=1e-4)
    assert "none of its layers scales pixels" not in caplog.text


def test_the_range_is_said_on_the_command_line(tmp_path, capsys, caplog):
    classifier(rescaled=False).save(tmp_path / "m.keras")
    Image.new("RGB", (20, 20), (200, 30, 90)).save(tmp_path / "a.png")
    request = ["run", "--model", str(tmp_path / "m.keras"), "--image", str(tmp_path / "a.png"), "--output", str(tmp_path / "out")]
    assert main([*request, "--input-range", "-1,1", "--labels", "A,B,C"]) == 0
    assert not caplog.text
    assert main([*request, "--labels", "A,B,C"]) == 0
    assert "if on values from -1 to 1, as are models of MobileNet and Teachable Machine, add --input-range=-1,1" in caplog.text
    assert main([*request, "--input-range", "0,1", "--input-divisor", "255"]) == 2
    assert "--input-range and --input-divisor: both define how pixels are scaled; give one of them" in capsys.readouterr().err
    for wrong in ("0", "-3", "nan"):
        with pytest.raises(SystemExit):
            main([*request, f"--input-divisor={wrong}"])


def test_a_request_says_its_range_so_that_it_can_be_typed(tmp_path):
    assert "--input-range=-1,1" in RunRequest(image="a", output=tmp_path, input_range="-1,1").command_line()


@pytest.mark.parametrize("options", [{"labels": ["A"]}, {"input_range": "0,1"}, {"input_divisor": 255.0}])
def test_options_of_a_bare_file_are_refused_for_a_folder(options, untrained_model, tmp_path):
    with pytest.raises(
        InputError, match=r"^--(labels|input-range|input-divisor): applies to a bare \.keras or \.h5 file only; .* is a model folder"
    ):
        load(RunRequest(image="none", output=tmp_path, **options), untrained_model)


def test_labels_have_to_be_as_many_as_classes(tmp_path):
    model = classifier()
    with pytest.raises(InputError, match=r"^--labels: found 2 names \(A, B\), but .*m\.keras has 3 classes"):
        loaded(model, tmp_path, labels=["A", "B"])
    with pytest.raises(InputError, match=r"^--labels: name 2 of 3 is empty"):
        loaded(None, tmp_path, labels=["A", "", "C"])


def test_labels_of_teachable_machine_are_taken_where_they_fit(tmp_path, caplog):
    model = classifier(rescaled=False)
    (tmp_path / "labels.txt").write_text("0 infected\n1 not infected\n2 nothing\n")
    assert loaded(model, tmp_path).class_names == ("infected", "not infected", "nothing")
    assert "labels are read from labels.txt beside it: infected, not infected, nothing" in caplog.text
    assert "as are models of Teachable Machine, add --input-range=-1,1" in caplog.text
    for text, said in (("0 a\n1 b\n", "it holds 2 labels and m.keras has 3 classes"), ("a\nb\nc\n", "it holds no lines such as '0 ring'")):
        (tmp_path / "labels.txt").write_text(text)
        caplog.clear()
        assert loaded(None, tmp_path).class_names == ("class 0", "class 1", "class 2")
        assert f"labels.txt: not used, since {said}" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.h5", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"m\.h5: is a Git LFS pointer, .*git lfs pull"),
        ("m.keras", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"m\.keras: is a Git LFS pointer"),
        ("m.keras", b"\x89HDF\r\n\x1a\n" + bytes(100), r"m\.keras: .*is an HDF5 file, which Keras writes as \*\.h5; rename it to"),
        ("m.h5", b"PK\x03\x04" + bytes(100), r"m\.h5: .*is a zip archive, which Keras 3 writes as \*\.keras; rename it to"),
        ("m.keras", b"", r"m\.keras: .*is not a zip archive"),
        ("m.tflite", b"TFL3", r"m\.tflite: .*expected a file named \*\.keras, \*\.h5, \*\.hdf5; for another engine, give the folder"),
    ],
)
def test_files_of_other_kinds_are_told_apart(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_network(tmp_path / name)


def test_weights_that_are_no_numbers_are_named(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    model = classifier()
    model.layers[-1].bias.assign([0.0, np.nan, np.inf])
    with pytest.raises(InputError, match=r"m\.keras: .*2 of the 3 weights 'dense\w*/bias' are not finite \(NaN or infinite\)"):
        loaded(model, tmp_path)
