"""What is written in another tool's format reads back as it was."""

import json

import numpy as np
import pytest
from PIL import Image

from malaria_cells.app.cli import main
from malaria_cells.data.annotations import load_annotations
from malaria_cells.data.images import read_image
from malaria_cells.data.writers import WRITERS
from tests.conftest import bbbc041_entry, write_bbbc041, write_image

OBJECTS = {
    "images/a/x.png": [("ring", 5, 6, 30, 41), ("red blood cell", 40, 1, 99, 79)],
    "images/b/x.png": [("schizont", 10, 10, 44, 50)],
    "images/c.png": [],
}


@pytest.fixture
def source(tmp_path):
    return write_bbbc041(tmp_path / "source", OBJECTS)


def content(annotations):
    names = annotations.labels.names
    return sorted(
        (p.path.read_bytes(), sorted((names[c], *b.round(2).tolist()) for c, b in zip(p.cell_class_ids, p.cells_xyxy, strict=True)))
        for p in annotations.images
    )


@pytest.mark.parametrize("format_name", list(WRITERS))
def test_round_trip_to_pixel_accuracy(source, tmp_path, format_name, capsys):
    assert main(["convert", str(source), str(tmp_path / format_name), "--to", format_name]) == 0
    assert "3 images, 3 boxes of 3 classes" in capsys.readouterr().out
    assert content(load_annotations(tmp_path / format_name, None)) == content(load_annotations(source, None))


@pytest.mark.parametrize(("format_name", "expected"), [("coco", [False, True]), ("voc", [False, True]), ("yolo", [False])])
def test_ignore_regions(tmp_path, format_name, expected, capsys):
    write_image(tmp_path / "s" / "images" / "a.jpg")
    crowd = {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "cell"}]}
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "iscrowd": i} for i in (0, 1)]
    (tmp_path / "s" / "annotations.json").write_text(json.dumps(crowd | {"annotations": boxes}))
    assert main(["convert", str(tmp_path / "s"), str(tmp_path / format_name), "--to", format_name]) == 0
    found = load_annotations(tmp_path / format_name, None).images[0]
    assert found.ignore.tolist() == expected
    assert ("1 ignore regions, which YOLO cannot store, were left out" in capsys.readouterr().out) == (format_name == "yolo")


@pytest.mark.parametrize("format_name", ["voc", "yolo"])
def test_parts_survive(tmp_path, format_name):
    from tests.test_formats import bccd

    bccd(tmp_path / "BCCD")
    assert main(["convert", str(tmp_path / "BCCD"), str(tmp_path / format_name), "--to", format_name]) == 0
    found = load_annotations(tmp_path / format_name, None)
    assert sorted(p.part for p in found.images) == ["test", "train", "train", "train", "train", "validation"]


def test_images_that_exif_turns_are_written_upright(tmp_path):
    image = Image.fromarray(np.arange(100 * 80 * 3, dtype=np.uint8).reshape(80, 100, 3))
    exif = image.getexif()
    exif[0x0112] = 6
    (tmp_path / "s").mkdir()
    image.save(tmp_path / "s" / "a.png", exif=exif)
    (tmp_path / "s" / "training.json").write_text(json.dumps([bbbc041_entry("a.png", [("ring", 10, 70, 50, 98)])]))
    assert main(["convert", str(tmp_path / "s"), str(tmp_path / "coco"), "--to", "coco"]) == 0
    with Image.open(tmp_path / "coco" / "images" / "a.png") as written:
        assert written.size == (80, 100)
        assert written.getexif().get(0x0112, 1) == 1


def test_converting_writes_whole_or_not_at_all(source, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert main(["convert", str(source), str(tmp_path / "full"), "--to", "coco"]) == 2
    assert "already exists; name a new folder" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]
    assert main(["convert", str(tmp_path / "gone"), str(tmp_path / "new"), "--to", "coco"]) == 2
    (source.parent / "images" / "a" / "x.png").write_bytes(b"broken")
    assert main(["convert", str(source), str(tmp_path / "new"), "--to", "voc"]) == 2
    assert not (tmp_path / "new").exists()


def test_labels_of_whole_images_have_no_boxes_to_convert(tmp_path, capsys):
    for name in ("NORMAL", "PNEUMONIA"):
        write_image(tmp_path / "s" / name / "a.png")
    assert main(["convert", str(tmp_path / "s"), str(tmp_path / "coco"), "--to", "coco"]) == 2
    assert "labels whole images" in capsys.readouterr().err


def odd_images(folder):
    """Images that programs show differently, and plain ones; their sizes by name."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)

    def pixels(channels=3):
        return rng.integers(0, 256, (24, 32, channels), dtype=np.uint8)

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels()).save(folder / "plain.jpg")
    Image.fromarray(pixels()).save(folder / "plain.png")
    Image.fromarray(pixels()).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(pixels()).save(folder / "turned.tif", tiffinfo={274: 8})
    Image.fromarray(pixels()).convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(pixels()).save(folder / "slide.jp2")
    Image.fromarray(pixels(4)).save(folder / "transparent.png")
    Image.fromarray(pixels()[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    return {p.name: (32, 24) if "turned" not in p.name else (24, 32) for p in folder.iterdir()}


@pytest.mark.parametrize("format_name", list(WRITERS))
def test_every_image_is_written_with_the_pixels_that_are_read(tmp_path, format_name, capsys):
    originals = tmp_path / "s" / "images"
    sizes = odd_images(originals)
    source = write_coco(tmp_path / "s", {f"images/{name}": size for name, size in sizes.items()})
    assert main(["convert", str(source), str(tmp_path / format_name), "--to", format_name]) == 0
    written = [p.path for p in load_annotations(tmp_path / format_name, None).images]
    said = capsys.readouterr().out
    assert "6 images written upright as PNG with 8 bits, since not every program shows the original alike; first: images/deep.png" in said
    meant = {read_image(originals / name).tobytes() for name in sizes}
    assert len(written) == len(meant) == 8
    assert {read_image(path).tobytes() for path in written} == meant
    for path in written:  # as a program does that knows of nothing
        with Image.open(path) as shown:
            assert np.asarray(shown.convert("RGB")).tobytes() == read_image(path).tobytes()
    kept = [path.read_bytes() for path in written if path.suffix == ".jpg"]
    assert kept == [(originals / "plain.jpg").read_bytes()]


def write_coco(folder, sizes):
    images = [{"id": i, "file_name": name, "width": w, "height": h} for i, (name, (w, h)) in enumerate(sorted(sizes.items()))]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [2, 3, 10 + i, 12]} for i in range(len(images))]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cell"}]}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder
