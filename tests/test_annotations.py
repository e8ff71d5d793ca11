import json
import logging
import re

import numpy as np
import pytest
from PIL import Image

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations import ImageList, load_annotations
from malaria_cells.data.labels import LabelSet
from tests.conftest import bbbc041_entry, write_bbbc041, write_image


def test_genuine_bbbc041(bbbc041_file, six_classes):
    """Counts from the data's README, by the file's own publisher: BBBC041v1, Ljosa et al. 2012."""
    found = load_annotations(bbbc041_file, six_classes, images="declared")
    assert len(found) == 120
    assert dict(zip(six_classes.names, found.class_counts, strict=True)) == {
        "red blood cell": 5614, "leukocyte": 0, "gametocyte": 12, "ring": 169, "trophozoite": 111, "schizont": 11
    }  # fmt: skip
    assert sum(p.ignore.sum() for p in found.images) == 5
    assert {p.size_wh for p in found.images} == {(1944, 1383)}


def test_genuine_bbbc041_is_row_column(bbbc041_file, six_classes):
    first = json.loads(bbbc041_file.read_text())[0]
    found = next(
        p for p in load_annotations(bbbc041_file, six_classes, images="declared").images if p.key == first["image"]["pathname"][1:]
    )
    corner = first["objects"][0]["bounding_box"]
    assert found.boxes_xyxy[0].tolist() == [corner["minimum"]["c"], corner["minimum"]["r"], corner["maximum"]["c"], corner["maximum"]["r"]]


def test_genuine_iml(iml, six_classes):
    """31,025 red cells as published; one is 3 pixels wide."""
    found = load_annotations(iml / "annotations.json", six_classes, group=r"(PA\d+)\d\.JPG")
    assert found.class_counts.tolist() == [31024, 0, 216, 137, 58, 20]
    assert sum(p.ignore.sum() for p in found.images) == 17
    assert found.images[0].key == "images/PA171690.JPG"
    assert found.images[0].group == "PA17169"
    for p in found.images:
        assert (p.boxes_xyxy >= 0).all()
        assert (p.boxes_xyxy[:, [0, 2]] <= 1280).all()
        assert (p.boxes_xyxy[:, [1, 3]] <= 960).all()


FAULTS = [
    (("ring", 10, 10, 10, 40), "without area"),
    (("ring", 40, 10, 20, 30), "swapped corners"),
    (("ring", float("nan"), 10, 20, 30), "not a number"),
    (("ring", None, 10, 20, 30), "not a number"),
    (("ring", 10, 10, 12, 40), r"under 4 pixels \(min_box_size\)"),
    (("ring", 300, 300, 340, 340), "wholly outside"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
def test_faulty_boxes_are_dropped_counted_and_named(tmp_path, six_classes, caplog, fault, reason):
    good = ("red blood cell", 5, 5, 30, 30)
    path = write_bbbc041(tmp_path, {"images/a.png": [good, fault], "images/b.png": [fault, good]})
    with caplog.at_level(logging.WARNING):
        found = load_annotations(path, six_classes)
    assert [p.boxes_xyxy.tolist() for p in found.images] == [[[5, 5, 30, 30]]] * 2
    assert len(found.issues) == 1
    assert found.issues[0].startswith(f"{path}: 2 boxes")
    assert "first: images/a.png [" in found.issues[0]
    assert [r.message for r in caplog.records] == list(found.issues)
    assert re.search(reason, found.issues[0])


def test_boxes_past_the_border_are_clipped_and_counted(tmp_path, six_classes):
    path = write_bbbc041(tmp_path, {"a.png": [("ring", -7, 60, 20, 95)]})
    found = load_annotations(path, six_classes)
    assert found.images[0].boxes_xyxy.tolist() == [[0, 60, 20, 80]]
    assert "1 box past the border, clipped" in found.issues[0]


def test_difficult_is_an_ignore_region(tmp_path, six_classes):
    found = load_annotations(write_bbbc041(tmp_path, {"a.png": [("difficult", 1, 1, 20, 20), ("ring", 30, 30, 60, 60)]}), six_classes)
    image = found.images[0]
    assert image.ignore.tolist() == [True, False]
    assert image.class_ids.tolist() == [-1, 3]
    assert found.class_counts.sum() == 1
    assert image.cells_xyxy.tolist() == [[30, 30, 60, 60]]
    assert image.ignored_xyxy.tolist() == [[1, 1, 20, 20]]


def test_unknown_category(tmp_path, six_classes):
    path = write_bbbc041(tmp_path, {"a.png": [("trofozoite", 1, 1, 20, 20)]})
    with pytest.raises(InputError, match=r"training\.json: category 'trofozoite'.*did you mean 'trophozoite'.*Found: trofozoite"):
        load_annotations(path, six_classes)


def test_boxes_refer_to_the_upright_image(tmp_path, six_classes):
    """A camera on its side stores 100 x 80 and says so; annotators saw 80 x 100."""
    stored = Image.new("RGB", (100, 80))
    exif = stored.getexif()
    exif[0x0112] = 6
    stored.save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "training.json").write_text(json.dumps([bbbc041_entry("a.jpg", [("ring", 10, 70, 50, 98)])]))
    image = load_annotations(tmp_path / "training.json", six_classes).images[0]
    assert image.size_wh == (80, 100)
    assert image.boxes_xyxy.tolist() == [[10, 70, 50, 98]]


def test_same_file_name_in_two_folders(tmp_path, six_classes):
    path = write_bbbc041(tmp_path, {"x/a.png": [("ring", 1, 1, 20, 20)], "y/a.png": [("schizont", 1, 1, 20, 20)]})
    found = load_annotations(path, six_classes, group="folder")
    assert [(p.key, p.group, p.class_ids.tolist()) for p in found.images] == [("x/a.png", "x", [3]), ("y/a.png", "y", [5])]


def test_a_bare_name_that_fits_two_images_is_an_error(tmp_path, six_classes):
    for folder in ("x", "y"):
        write_image(tmp_path / folder / "a.png")
    (tmp_path / "training.json").write_text(json.dumps([bbbc041_entry("a.png", [])]))
    with pytest.raises(InputError, match=r"a\.png: matches several images"):
        load_annotations(tmp_path / "training.json", six_classes)


def test_iml_form_with_numbers_as_strings(tmp_path, six_classes):
    write_image(tmp_path / "images" / "P1.png")
    objects = [{"type": "ring", "bbox": {"x": "10", "y": "20", "h": "30", "w": "40"}}]
    (tmp_path / "annotations.json").write_text(json.dumps([{"image_name": "P1.png", "objects": objects}]))
    image = load_annotations(tmp_path / "annotations.json", six_classes).images[0]
    assert (image.key, image.boxes_xyxy.tolist()) == ("images/P1.png", [[10, 20, 50, 50]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("{}", "not an annotation of a known format; expected one of bbbc041, iml"),
        ("[]", "not an annotation of a known format"),
        ('[{"image": {"pathname": "a.png"}}]', "key 'objects' is missing; expected a list of"),
        ('[{"image_name": "a.png", "objects": [{"type": "ring", "bbox": {"x": 1}}]}]', "key 'y' is missing"),
        (
            '[{"image_name": "a.png", "objects": [{"type": "ring", "bbox": {"x": "one", "y": 1, "w": 2, "h": 3}}]}]',
            "image 'a.png' has a box with the coordinates",
        ),
        ('[{"image_name": "none.png", "objects": []}]', r"1 of 1 images are not in .*; first: none\.png"),
        ('[{"image_name": "a.png", "objects": []}, {"image_name": "a.png", "objects": []}]', r"image 'a\.png' is listed twice"),
    ],
)
def test_malformed_files(tmp_path, six_classes, content, message):
    write_image(tmp_path / "a.png")
    (tmp_path / "f.json").write_text(content)
    with pytest.raises(InputError, match=message):
        load_annotations(tmp_path / "f.json", six_classes)


def test_format_by_name(tmp_path, six_classes):
    path = write_bbbc041(tmp_path, {"a.png": []})
    assert len(load_annotations(path, six_classes, annotation_format="bbbc041")) == 1
    with pytest.raises(InputError, match=r"annotation_format: 'bbbc' is unknown \(did you mean 'bbbc041'\?\)"):
        load_annotations(path, six_classes, annotation_format="bbbc")
    with pytest.raises(InputError, match="no such annotation file"):
        load_annotations(tmp_path / "none.json", six_classes)


def test_group_needs_a_group(tmp_path, six_classes):
    with pytest.raises(InputError, match="group: 'slide' is not a regular expression with one"):
        load_annotations(write_bbbc041(tmp_path, {"slide.png": []}), six_classes, group="slide")


@pytest.mark.parametrize("start", ["/home/ana/smears", "C:\\Users\\ana", "{outside}"])
def test_absolute_paths_of_another_machine_fit_by_their_longest_ending(tmp_path, six_classes, start):
    for key in ("here/x/a.png", "here/y/a.png", "here/b.png", "outside/y/a.png"):
        write_image(tmp_path / key)
    start = start.format(outside=tmp_path / "outside")
    (tmp_path / "here" / "train.csv").write_text(f"image,label\n{start}/y/a.png,ring\n{start}/b.png,ring\n")
    assert [p.key for p in load_annotations(tmp_path / "here" / "train.csv", six_classes).images] == ["b.png", "y/a.png"]
    (tmp_path / "here" / "train.csv").write_text(f"image,label\n{start}/a.png,ring\n")
    with pytest.raises(InputError, match="matches several images"):
        load_annotations(tmp_path / "here" / "train.csv", six_classes)


def test_image_list_finds_by_place_then_by_ending(tmp_path):
    for key in ("data/images/a.png", "data/images/b/a.png", "copy/b/a.png"):
        write_image(tmp_path / key)
    beside = ImageList(tmp_path / "data" / "images", ["a.png", "b/a.png"], tmp_path / "data" / "test.json")
    assert beside.find("images/a.png") == tmp_path / "data" / "images" / "a.png"
    assert beside.find("a.png") == tmp_path / "data" / "images" / "a.png"
    elsewhere = ImageList(tmp_path / "copy", ["b/a.png"], tmp_path / "data" / "test.json")
    assert elsewhere.find("b/a.png") == tmp_path / "copy" / "b" / "a.png"
    assert elsewhere.find("c/a.png") is None
    both = ImageList(tmp_path, ["data/images/b/a.png", "copy/b/a.png"], tmp_path / "other" / "test.json")
    with pytest.raises(InputError, match="matches several images"):
        both.find("b/a.png")


def test_fingerprint_changes_with_anything(tmp_path):
    labels = LabelSet(("ring", "schizont"))
    prints = set()
    for i, objects in enumerate([[("ring", 1, 1, 20, 20)], [("ring", 1, 1, 20, 21)], [("schizont", 1, 1, 20, 20)], []]):
        prints.add(load_annotations(write_bbbc041(tmp_path / str(i), {"a.png": objects}), labels).fingerprint)
    assert len(prints) == 4
    again = load_annotations(write_bbbc041(tmp_path / "0", {"a.png": [("ring", 1, 1, 20, 20)]}), labels)
    assert again.fingerprint in prints
    assert again.median_cell_size == 19
    assert again.class_counts_by_image.tolist() == [[1, 0]]
    assert isinstance(again.class_counts, np.ndarray)
