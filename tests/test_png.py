"""PNG files hold the pixels that were written."""

import cv2
import numpy as np
import pytest
from PIL import Image

from malaria_cells.results import png


@pytest.mark.parametrize("shape_hw", [(1, 1), (1, 7), (9, 1), (60, 81)])
@pytest.mark.parametrize("strip", [1, 500, 2**22])
def test_every_reader_reads_what_was_written(tmp_path, monkeypatch, shape_hw, strip):
    monkeypatch.setattr(png, "STRIP", strip)
    image = np.random.default_rng(0).integers(0, 256, (*shape_hw, 3), dtype=np.uint8)
    image[: shape_hw[0] // 2] = 7
    path = tmp_path / "a.png"
    png.write_png(path, image)
    with Image.open(path) as read:
        read.verify()
    with Image.open(path) as read:
        assert read.mode == "RGB"
        assert np.array_equal(np.asarray(read), image)
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], image)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_an_image_in_another_order_of_memory_is_written_as_it_looks(tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)[::-1, :, ::-1]
    png.write_png(tmp_path / "a.png", image)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), image)
