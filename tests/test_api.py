"""What programs use: the shipped model where none is named, and errors that say what was expected."""

import numpy as np
import pytest
from PIL import Image

from malaria_cells import CellDetector
from malaria_cells.base.errors import InputError


@pytest.fixture(scope="module")
def detector():
    return CellDetector.load()


def test_the_shipped_model_needs_no_name(detector, repository):
    smear = repository / "docs" / "images" / "smear.jpg"
    named = CellDetector.load(repository / "pretrained" / "thin_smear")
    assert np.array_equal(detector.detect(smear).xyxy, named.detect(str(smear)).xyxy)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((9, 9, 3)), r"float64 \(9, 9, 3\)"),
        (np.zeros((9, 9), np.uint8), r"uint8 \(9, 9\)"),
        (np.zeros((3, 9, 9), np.uint8), r"uint8 \(3, 9, 9\)"),
        (np.zeros((0, 9, 3), np.uint8), r"uint8 \(0, 9, 3\)"),
        (Image.new("RGB", (9, 9)), "Image"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_image_is_refused(detector, image, found):
    with pytest.raises(InputError, match=f"image: expected .*, found {found}"):
        detector.detect(image)


def test_an_unknown_engine_is_named_with_the_known_ones():
    with pytest.raises(InputError, match=r"engine: 'onxn' is unknown \(did you mean 'onnx'\?\); expected one of keras, "):
        CellDetector.load(engine="onxn")
