import numpy as np
import pytest

from malaria_cells.errors import InputError
from malaria_cells.models import NAMES, build_classifier


def test_vgg_has_the_parameters_of_the_published_table():
    # Conv 32 - pool - 64,64 - pool - 128,128,128 - pool - flatten - 256 - 256 - 1 at 141 x 141, valid padding: by hand
    # 896 + 18,496 + 36,928 + 73,856 + 147,584 + 147,584 + (13 * 13 * 128 + 1) * 256 + 65,792 + 257.
    model = build_classifier("vgg", (141, 141), 2, 0.5)
    assert model.count_params() == 6_029_441
    assert model.output_shape == (None, 1)


def test_compact_is_light():
    assert build_classifier("compact", (64, 64), 7, 0.3).count_params() <= 250_000


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("n_classes", "units"), [(2, 1), (3, 3)])
def test_output_is_probabilities_of_pixels(name, n_classes, units):
    model = build_classifier(name, (48, 44), n_classes, 0.2)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 48, 44, 3)).astype(np.float32)
    output = np.asarray(model(pixels, training=False))
    assert output.shape == (5, units)
    assert ((output >= 0) & (output <= 1)).all()
    if units > 1:
        assert np.allclose(output.sum(axis=1), 1, atol=1e-5)


def test_preprocessing_is_inside():
    # Raw pixels go in: nothing outside the model scales them, so a model file alone gives right answers.
    for name in NAMES:
        assert any(layer.name == "rescale" for layer in build_classifier(name, (48, 48), 3, 0.2).layers)


def test_wrong_names_and_sizes():
    with pytest.raises(InputError, match=r"model: 'compat' is unknown \(did you mean 'compact'\?\)"):
        build_classifier("compat", (64, 64), 3, 0.2)
    with pytest.raises(InputError, match=r"image_size: \[41, 60\] does not fit model 'vgg'"):
        build_classifier("vgg", (41, 60), 3, 0.2)
