import numpy as np
import pytest
from PIL import Image

from malaria_cells.app.cli import main
from malaria_cells.app.commands.explore import _augmented
from malaria_cells.data.augment import AUGMENTATIONS
from tests.conftest import write_bbbc041, write_image
from tests.test_formats import camera_traps


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_data_set_with_boxes(sample, tmp_path, capsys):
    assert main(["explore", str(sample), "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "8 images, " in said
    assert "image sizes: 640 x 480" in said
    assert "boxes per image: median " in said
    line = next(line for line in said.splitlines() if line.startswith("red blood cell"))
    assert "%" in line
    assert "px (" in line
    for name in ("patches.png", "images.png", "boxes.png"):
        with Image.open(tmp_path / "out" / name) as image:
            assert min(image.size) > 150


def test_magnifications_are_named(tmp_path, capsys):
    images = {}
    for i, side in enumerate((20, 20, 20, 9)):
        images[f"{i}.png"] = [("ring", x, y, x + side, y + side) for x in range(0, 100, 25) for y in range(0, 75, 25)]
    assert main(["explore", str(write_bbbc041(tmp_path / "set", images).parent)]) == 0
    assert "magnifications: in 1 of 4 images the median cell has 9 px, in the others 20; " in capsys.readouterr().out


def test_oddities_are_named(tmp_path, capsys):
    assert main(["explore", str(camera_traps(tmp_path / "set"))]) == 0
    said = capsys.readouterr().out
    assert "4 images, 2 boxes, 1 ignore region" in said
    assert "left out or mended: " in said
    assert "1 annotation without a box, left out; first: images/2.jpg" in said
    assert "images without boxes: 3" in said


def test_a_data_set_of_whole_images_by_config(tmp_path, capsys):
    for name, n in (("NORMAL", 6), ("PNEUMONIA", 4)):
        for i in range(n):
            write_image(tmp_path / "set" / name / f"{i}.png", value=60 + i)
    (tmp_path / "c.yaml").write_text("train_images: set\nlabels: [PNEUMONIA, NORMAL]\n")
    assert main(["explore", "--config", "c.yaml", "--output", "out"]) == 0
    said = capsys.readouterr().out
    assert "10 images, 10 images labelled as a whole" in said
    assert said.index("PNEUMONIA") < said.index("NORMAL   ")
    assert "40.00%" in said
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"patches.png"}


def test_what_a_policy_does_is_drawn(sample, tmp_path):
    assert main(["explore", str(sample), "--augment", "stain", "--output", "out"]) == 0
    with Image.open(tmp_path / "out" / "augmentation_stain.png") as image:
        assert image.size[0] > 1000


@pytest.mark.parametrize("policy", [pytest.param(p, marks=pytest.mark.slow) if p in AUGMENTATIONS.names[-4:] else p for p in AUGMENTATIONS])
def test_every_policy_can_be_drawn(policy):
    patches = np.random.default_rng(0).integers(0, 256, (20, 48, 48, 3), dtype=np.uint8)
    original, *augmented = _augmented(patches, np.arange(20) % 3, policy).values()
    assert len(augmented) == 4
    for images in augmented:
        assert (images.shape, images.dtype) == (original.shape, np.uint8)
        assert (images == original).all() == (policy == "none")


def test_wrong_requests(sample, capsys):
    for arguments, message in [
        ([], "name an annotation file or a data set folder"),
        (["gone"], "gone: no such file or folder"),
        ([str(sample), "--augment", "stian"], "did you mean 'stain'?"),
        ([str(sample / "images")], "holds no annotation of a known format"),
    ]:
        assert main(["explore", *arguments]) == 2
        assert message in capsys.readouterr().err
