"""The format of a folder is recognised by evidence in its content; what is not clear is an error that lists what was seen."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from malaria_cells.app.cli import main
from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations import load_annotations
from malaria_cells.data.annotations.class_names import why_no_classes
from malaria_cells.data.annotations.parts import is_plain, part_named
from malaria_cells.data.labels import LabelSet
from tests.conftest import write_image

BOX = "0.5 0.5 0.2 0.4"  # in fractions of 1; [40, 24, 60, 56] of an image of 100 x 80
PIXELS = [40, 24, 60, 56]


def coco(path: Path, names: list[str], *, size=(100, 80), **changes) -> Path:
    """COCO with one ring in each image."""
    content = {
        "images": [{"id": i, "file_name": name, "width": size[0], "height": size[1]} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [40, 24, 20, 32], "iscrowd": 0} for i in range(len(names))],
        "categories": [{"id": 1, "name": "ring"}],
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def voc(path: Path, filename: str, extra: str = "", size=(100, 80)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<annotation><folder>x</folder><filename>{filename}</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        "<object><name>ring</name><bndbox><xmin>41</xmin><ymin>25</ymin><xmax>60</xmax><ymax>56</ymax></bndbox></object>"
        f"{extra}</annotation>"
    )
    return path


def text(path: Path, content: str = f"0 {BOX}\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def read(folder: Path) -> dict[str, tuple]:
    """Each image's part and boxes, by its key."""
    return {p.key: (p.part, p.boxes_xyxy.round(3).tolist()) for p in load_annotations(folder, None).images}


def one_ring(part=None):
    return (part, [pytest.approx(PIXELS, abs=1e-3)])


def test_roboflow_at_its_root(tmp_path):
    for part in ("train", "valid", "test"):
        write_image(tmp_path / part / f"{part}.jpg")
        coco(tmp_path / part / "_annotations.coco.json", [f"{part}.jpg"])
    parts = {"test/test.jpg": "test", "train/train.jpg": "train", "valid/valid.jpg": "validation"}
    assert read(tmp_path) == {key: one_ring(part) for key, part in parts.items()}


def test_coco_with_a_file_a_part_in_a_folder_beside_the_images(tmp_path):
    for part in ("train", "val"):
        write_image(tmp_path / f"{part}2017" / "0.jpg")
        coco(tmp_path / "annotations" / f"instances_{part}2017.json", ["0.jpg"])
        coco(tmp_path / "annotations" / f"person_keypoints_{part}2017.json", ["0.jpg"])
    assert read(tmp_path) == {"train2017/0.jpg": one_ring("train"), "val2017/0.jpg": one_ring("validation")}
    coco(tmp_path / "all.json", ["0.jpg"])  # which does not say in which folder
    with pytest.raises(InputError, match=r"0\.jpg: matches several images"):
        load_annotations(tmp_path / "all.json", None)


@pytest.mark.parametrize("named", [".", "annotations", "annotations/instances_default.json"])
def test_cvat_with_its_images_beside_the_annotations_folder(tmp_path, named):
    write_image(tmp_path / "images" / "default" / "a.jpg")
    coco(tmp_path / "annotations" / "instances_default.json", ["a.jpg"])
    assert read(tmp_path / named) == {"images/default/a.jpg": one_ring()}


def test_the_folder_of_the_images_can_be_named(tmp_path, capsys):
    write_image(tmp_path / "images" / "a.jpg")
    path = coco(tmp_path / "elsewhere" / "boxes.json", ["a.jpg"])
    with pytest.raises(InputError, match=r"1 of 1 images are not in .*elsewhere; first: a\.jpg"):
        load_annotations(path, None)
    assert main(["convert", str(path), str(tmp_path / "new"), "--to", "voc", "--images", str(tmp_path / "images")]) == 0
    assert read(tmp_path / "new")["JPEGImages/a.jpg"] == one_ring("train")
    assert main(["explore", str(path), "--images", str(tmp_path / "none")]) == 2
    assert f"--images {tmp_path / 'none'}: no such folder" in capsys.readouterr().err


def test_labelimg_with_folders_for_its_parts(tmp_path):
    for part in ("train", "test"):
        write_image(tmp_path / part / f"{part}.jpg")
        voc(tmp_path / part / f"{part}.xml", f"{part}.jpg")
    assert read(tmp_path) == {"test/test.jpg": one_ring("test"), "train/train.jpg": one_ring("train")}
    assert read(tmp_path / "train") == {"train.jpg": one_ring()}


@pytest.mark.parametrize("folders", [("annotations", "images"), ("Annotations", "JPEGImages"), ("xml", "."), ("labels", "images")])
def test_voc_in_folders_of_any_name(tmp_path, folders):
    write_image(tmp_path / "set" / folders[1] / "a.jpg")
    voc(tmp_path / "set" / folders[0] / "a.xml", "a.jpg")
    assert list(read(tmp_path / "set").values()) == list(read(tmp_path / "set" / folders[0]).values()) == [one_ring()]


def test_a_broken_file_of_one_image_is_an_error_and_a_broken_file_of_another_form_is_a_note(tmp_path):
    for name in "ab":
        write_image(tmp_path / f"{name}.jpg")
        voc(tmp_path / f"{name}.xml", f"{name}.jpg")
    (tmp_path / "old.json").write_text("{")
    assert "1 file without an annotation of a known format, not read; first: old.json" in load_annotations(tmp_path, None).issues[0]
    (tmp_path / "b.xml").write_text("<annotation>")
    with pytest.raises(InputError, match=r"b\.xml: not valid XML"):
        load_annotations(tmp_path, None)


def test_several_forms_are_an_error_that_names_the_setting(tmp_path):
    write_image(tmp_path / "a.jpg")
    voc(tmp_path / "a.xml", "a.jpg")
    coco(tmp_path / "coco.json", ["a.jpg"])
    with pytest.raises(
        InputError, match=r"several formats \(voc: 1 file, first a\.xml; coco: 1 file, first coco\.json\).*`annotation_format`"
    ):
        load_annotations(tmp_path, None)
    assert load_annotations(tmp_path, None, annotation_format="voc").images[0].boxes_xyxy.tolist() == [PIXELS]
    assert len(load_annotations(tmp_path / "coco.json", None)) == 1


def test_two_files_that_list_one_image_are_an_error_that_names_both(tmp_path):
    write_image(tmp_path / "a.jpg")
    for name in ("first", "second"):
        coco(tmp_path / f"{name}.json", ["a.jpg"])
    with pytest.raises(InputError, match=r"image 'a\.jpg' is listed twice, in .*first\.json and in .*second\.json; name the file"):
        load_annotations(tmp_path, None)


def test_files_without_a_part_stand_back_behind_those_that_name_one(tmp_path):
    for name in ("train", "test"):
        write_image(tmp_path / f"{name}.jpg")
    coco(tmp_path / "train.json", ["train.jpg"])
    coco(tmp_path / "other.json", ["test.jpg"])
    found = load_annotations(tmp_path, None)
    assert [p.key for p in found.images] == ["train.jpg"]
    assert "1 file not named after a part of the data set, not read; pass the file itself to read it; first: other.json" in found.issues[0]


def test_a_folder_of_images_alone_is_told_what_was_seen(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.HEIC", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    write_image(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"no annotation of a known format; found 2 images \(first a\.jpg\), 1 \.heic \(HEIC"):
        load_annotations(tmp_path, None)


# folders of classes


def folders_of(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        write_image(root / name / f"{i}.png", value=40 + i)
    return root


@pytest.mark.parametrize("names", [("train", "valid"), ("images", "masks"), ("train", "test", "val"), ("cells", "mask"), ("img", "gt")])
def test_folders_that_are_no_classes(tmp_path, names):
    folders_of(tmp_path, *names)
    with pytest.raises(
        InputError, match=r"holds no annotation of a known format.*\nIts folders '.*(parts of a data set|were not taken for classes)"
    ):
        load_annotations(tmp_path, None)
    if set(names) - {"train", "valid", "val", "test"}:
        assert load_annotations(tmp_path, None, annotation_format="folders").labels.names == tuple(sorted(names))


@pytest.mark.parametrize("names", [("slide1", "slide2"), ("patient_01", "patient_02"), ("2024-01-03", "2024-02-11"), ("C108P69", "C99P60")])
def test_folders_that_are_counted_up(tmp_path, names):
    with pytest.raises(InputError, match=r"look like numbered slides, patients, days or sites.*annotation_format: folders"):
        load_annotations(folders_of(tmp_path, *names), None)


@pytest.mark.parametrize("names", [("0", "1", "2"), ("Parasitized", "Uninfected"), ("stage1", "stage2"), ("ring", "test_tube")])
def test_folders_that_are_classes(tmp_path, names):
    assert load_annotations(folders_of(tmp_path, *names), None).labels.names == names


def test_classes_below_parts(tmp_path):
    folders_of(tmp_path, "train/NORMAL", "train/PNEUMONIA", "val/NORMAL", "val/PNEUMONIA", "test")
    found = load_annotations(tmp_path, None)
    assert [(p.key, p.part) for p in found.images] == [
        ("train/NORMAL/0.png", "train"),
        ("train/PNEUMONIA/1.png", "train"),
        ("val/NORMAL/2.png", "validation"),
        ("val/PNEUMONIA/3.png", "validation"),
    ]
    assert found.issues == (f"{tmp_path}: 1 image outside of the class folders, left out; first: test/4.png",)


def test_classes_that_a_zip_holds_twice_or_deeper(tmp_path):
    folders_of(tmp_path / "cells", "A", "B", "cells/A", "cells/B")
    found = load_annotations(tmp_path / "cells", None)
    assert (found.labels.names, len(found)) == (("A", "B"), 2)
    assert "2 files in a second copy of the class folders, left out; first: cells/A/2.png" in found.issues[0]
    shutil.rmtree(tmp_path / "cells" / "cells")
    assert [p.key for p in load_annotations(tmp_path, None).images] == ["cells/A/0.png", "cells/B/1.png"]


def test_linked_folders_are_followed(tmp_path):
    write_image(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "images").symlink_to(tmp_path / "elsewhere")
    coco(tmp_path / "set" / "annotations.json", ["a.png"])
    assert read(tmp_path / "set") == {"images/a.png": one_ring()}


# YOLO


@pytest.mark.parametrize("classes", ["classes.txt", "obj.names", "_darknet.labels"])
@pytest.mark.parametrize("folders", [("images", "labels"), (".", "."), ("obj_train_data", "obj_train_data"), ("images", "Labels")])
def test_yolo_without_data_yaml(tmp_path, classes, folders):
    write_image(tmp_path / folders[0] / "a.jpg")
    text(tmp_path / folders[1] / "a.txt")
    text(tmp_path / classes, "ring\nred blood cell\n")
    (found,) = read(tmp_path).values()
    assert found[1] == one_ring()[1]


def test_yolo_without_class_names_is_told_what_to_write(tmp_path):
    write_image(tmp_path / "images" / "a.jpg")
    text(tmp_path / "labels" / "a.txt")
    with pytest.raises(InputError, match=r"It has YOLO label files, but no class names: write a classes\.txt"):
        load_annotations(tmp_path, None)


@pytest.mark.parametrize("label", ["labels/a.txt", "labels/a.jpg.txt", "images/a.txt", "LABELS/A.txt", "texts/a.txt", "labels/train/a.txt"])
def test_yolo_finds_the_text_of_an_image(tmp_path, label):
    write_image(tmp_path / "images" / "a.jpg")
    text(tmp_path / label)
    text(tmp_path / "data.yaml", "train: images\nnames: [ring]\n")
    if label == "labels/train/a.txt":  # a text of another part is not this image's
        with pytest.raises(InputError, match=r"none of 1 image has a label file; for images/a\.jpg, expected a\.txt"):
            load_annotations(tmp_path, None)
    else:
        assert read(tmp_path) == {"images/a.jpg": one_ring("train")}


def test_yolo_counts_images_without_text_and_texts_without_image(tmp_path):
    for name in ("a", "b", "c"):
        write_image(tmp_path / "images" / f"{name}.jpg")
    for name in ("a", "x"):
        text(tmp_path / "labels" / f"{name}.txt")
    text(tmp_path / "data.yaml", "train: images\nval: gone\nnc: 3\nnames: [ring]\n")
    lines = load_annotations(tmp_path, None).issues
    for expected in (
        "2 images without a label file, read as an image without cells; first: images/b.jpg",
        "1 label file without an image, left out; first: labels/x.txt",
        "1 part of data.yaml not found, left out; first: val: gone",
        "1 declaration nc: 3 that contradicts 1 name, ignored; first: nc",
    ):
        assert any(expected in line for line in lines), (expected, lines)


@pytest.mark.parametrize(
    "train",
    [
        "../train/images",
        "train\\images",
        "C:\\Users\\me\\set\\train\\images",
        "/content/set/train/images",
        "./train/images",
        "TRAIN/images",
    ],
)
def test_yolo_folders_of_another_machine(tmp_path, train):
    write_image(tmp_path / "train" / "images" / "a.jpg")
    text(tmp_path / "train" / "labels" / "a.txt")
    text(tmp_path / "data.yaml", f"train: {train}\nnames: [ring]\n")
    assert read(tmp_path) == {"train/images/a.jpg": one_ring("train")}


def test_yolo_never_looks_outside_and_takes_no_part_for_another(tmp_path):
    write_image(tmp_path / "outside" / "images" / "a.jpg")
    text(tmp_path / "outside" / "labels" / "a.txt")
    write_image(tmp_path / "set" / "images" / "b.jpg")
    text(tmp_path / "set" / "labels" / "b.txt")
    text(tmp_path / "set" / "data.yaml", f"train: {tmp_path}/outside\nnames: [ring]\n")
    with pytest.raises(InputError, match=r"is not in .*set, and files outside of that folder are not read"):
        load_annotations(tmp_path / "set", None)
    text(tmp_path / "set" / "data.yaml", "train: images\nval: val/images\nnames: [ring]\n")
    found = load_annotations(tmp_path / "set", None)
    assert [p.part for p in found.images] == ["train"]
    assert "1 part of data.yaml not found, left out; first: val: val/images" in found.issues[0]


def test_yolo_lists_of_images(tmp_path, caplog):
    for name in "ab":
        write_image(tmp_path / "images" / f"{name}.jpg")
        text(tmp_path / "labels" / f"{name}.txt")
    text(tmp_path / "train.txt", "D:\\cells\\images\\a.jpg\n./images/b.jpg\n/content/gone.jpg\n")
    text(tmp_path / "data.yaml", "train: train.txt\nnames: {0: ring}\n")
    with caplog.at_level(logging.WARNING):
        assert list(read(tmp_path)) == ["images/a.jpg", "images/b.jpg"]
    assert "1 line of train.txt with a missing image, left out; first: /content/gone.jpg" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 50 50 20 40", "look like pixels or percent"),
        ("0 18.0 20.7 14.0 18.7", "look like pixels or percent"),
        ("-1 0.5 0.5 0.2 0.4", "class -1 has no name in data.yaml, which has 1 name for the numbers up to 0"),
        ("0.5 0.5 0.5 0.2 0.4", "expected: class x_centre"),
    ],
)
def test_yolo_lines_that_would_lie_elsewhere(tmp_path, line, message):
    write_image(tmp_path / "images" / "a.jpg")
    text(tmp_path / "labels" / "a.txt", line)
    text(tmp_path / "data.yaml", "train: images\nnames: [ring]\n")
    with pytest.raises(InputError, match=message):
        load_annotations(tmp_path, None)


def test_yolo_key_points_are_no_outline(tmp_path):
    write_image(tmp_path / "images" / "a.jpg")
    text(tmp_path / "labels" / "a.txt", f"0 {BOX} 0.9 0.9 2 0.1 0.1 2\n")
    text(tmp_path / "data.yaml", "train: images\nnames: [ring]\nkpt_shape: [2, 3]\n")
    assert read(tmp_path) == {"images/a.jpg": one_ring("train")}


def test_yolo_texts_whose_images_are_elsewhere(tmp_path):
    write_image(tmp_path / "images" / "a.jpg")
    text(tmp_path / "set" / "labels" / "a.txt")
    text(tmp_path / "set" / "classes.txt", "ring\n")
    found = load_annotations(tmp_path / "set", None, root=tmp_path / "images")
    assert [(p.key, p.boxes_xyxy.round(3).tolist()) for p in found.images] == [("a.jpg", [pytest.approx(PIXELS, abs=1e-3)])]


# COCO


def test_coco_joined_from_two_files(tmp_path):
    for name in "ab":
        write_image(tmp_path / f"{name}.jpg")
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]
    with pytest.raises(InputError, match=r"images: the id 1 is listed twice, for 'a\.jpg' and 'b\.jpg'; were two files joined"):
        load_annotations(coco(tmp_path / "a.json", [], images=images), None)
    categories = [{"id": 1, "name": "ring"}, {"id": 1, "name": "wbc"}]
    with pytest.raises(InputError, match="categories: the id 1 is listed twice, for 'ring' and 'wbc'"):
        load_annotations(coco(tmp_path / "a.json", ["a.jpg"], categories=categories), None)


@pytest.mark.parametrize(
    "segmentation",
    [[[40, 24, 60, 24, 60, 56, 40, 56]], {"size": [80, 100], "counts": [40 * 80 + 24, *([32, 48] * 19), 32, 0]}],
)
def test_coco_outlines_without_boxes(tmp_path, segmentation):
    write_image(tmp_path / "a.jpg")
    if isinstance(segmentation, dict):
        segmentation["counts"][-1] += 80 * 100 - sum(segmentation["counts"])
    path = coco(tmp_path / "a.json", ["a.jpg"], annotations=[{"image_id": 0, "category_id": 1, "segmentation": segmentation}])
    found = load_annotations(path, None)
    assert found.images[0].boxes_xyxy.tolist() == [PIXELS]
    assert "1 outline without a box, replaced by its bounding box; first: a.jpg" in found.issues[0]


def test_coco_crowds_are_counted_before_the_error_that_they_explain(tmp_path, caplog):
    write_image(tmp_path / "a.jpg")
    crowd = [{"image_id": 0, "category_id": 1, "bbox": [40, 24, 20, 32], "iscrowd": 1}]
    path = coco(tmp_path / "a.json", ["a.jpg"], annotations=crowd)
    assert (
        "1 annotation marked as crowd (`iscrowd`: 1, as CVAT marks masks), taken as ignore region" in load_annotations(path, None).issues[0]
    )
    with caplog.at_level(logging.WARNING), pytest.raises(InputError, match="neither labels nor ignore_labels"):
        load_annotations(path, LabelSet(("trophozoite",)))
    assert "taken as ignore region" in caplog.text


# what a file declares


def turned_image(path: Path, orientation: int) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (100, 80), (120, 120, 120)).save(path, exif=exif)


def test_an_image_of_another_size_than_declared_is_told(tmp_path):
    write_image(tmp_path / "a.png", (50, 40))
    (line,) = load_annotations(coco(tmp_path / "a.json", ["a.png"]), None).issues[:1]
    assert "1 image of another size than the annotation declares" in line
    assert "a.png is declared 100 x 80, is 50 x 40" in line


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_on_an_image_as_stored_are_turned_with_it(tmp_path, orientation):
    """A patch of another grey is drawn where the box is, on the stored image; it has to lie in the box on the upright one."""
    import numpy as np
    from PIL import Image

    from malaria_cells.data.images import read_image

    stored = np.full((80, 100, 3), 200, np.uint8)
    stored[24:56, 40:60] = 10
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    found = load_annotations(coco(tmp_path / "a.json", ["a.png"]), None)
    left, top, right, bottom = found.images[0].boxes_xyxy[0].astype(int)
    upright = read_image(tmp_path / "a.png")
    assert upright.shape == (100, 80, 3)
    assert (upright[top:bottom, left:right] == 10).all()
    assert (upright == 10).all(axis=2).sum() == (bottom - top) * (right - left) == 32 * 20
    assert "1 image annotated without its EXIF orientation" in found.issues[0]


def test_boxes_that_do_not_fit_the_declared_size_are_not_turned(tmp_path):
    turned_image(tmp_path / "a.jpg", 6)
    annotations = [{"image_id": 0, "category_id": 1, "bbox": [10, 70, 40, 28]}]
    found = load_annotations(coco(tmp_path / "a.json", ["a.jpg"], annotations=annotations), None)
    assert found.images[0].boxes_xyxy.tolist() == [[10, 70, 50, 98]]
    assert "another size than the annotation declares" in found.issues[0]


def test_all_broken_images_are_named_at_once(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(b"")
    write_image(tmp_path / "c.jpg")
    with pytest.raises(InputError, match=r"a\.jpg: .*\n.*b\.jpg: "):
        load_annotations(coco(tmp_path / "a.json", ["a.jpg", "b.jpg", "c.jpg"]), None)


def test_explore_begins_with_what_it_took_the_folder_for(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / "set" / name)
    (tmp_path / "set" / "c.heic").write_bytes(b"")
    coco(tmp_path / "set" / "x.json", ["a.jpg"])
    assert main(["explore", str(tmp_path / "set")]) == 0
    said = capsys.readouterr()
    first = said.out.splitlines()[:10]
    assert first[0] == "read as: COCO: x.json"
    assert any("1 image that the annotation does not list, left out; first: b.jpg" in line for line in first)
    assert any("1 file in an unsupported format (HEIC" in line and "first: c.heic" in line for line in first)
    assert "1 image, 1 boxes" in said.out


# an image's boxes never go to another image


def test_images_of_one_name_in_each_part_are_told_apart(tmp_path):
    for part in ("train", "test"):
        write_image(tmp_path / part / "images" / "1.jpg")
        voc(tmp_path / part / "annotations" / "1.xml", "1.jpg")
    assert read(tmp_path) == {"test/images/1.jpg": one_ring("test"), "train/images/1.jpg": one_ring("train")}


def test_images_of_one_name_in_each_task_are_told_apart(tmp_path):
    for task in ("task_1", "task_2"):
        write_image(tmp_path / task / "images" / "a.jpg")
        coco(tmp_path / task / "annotations" / "instances_default.json", ["a.jpg"])
    for slide in ("slide1", "slide2"):
        write_image(tmp_path / "set" / "images" / slide / "a.jpg")
        voc(tmp_path / "set" / "annotations" / slide / "a.xml", "a.jpg")
    assert list(read(tmp_path / "set")) == ["images/slide1/a.jpg", "images/slide2/a.jpg"]
    shutil.rmtree(tmp_path / "set")
    assert list(read(tmp_path)) == ["task_1/images/a.jpg", "task_2/images/a.jpg"]


def missing(path: Path, key: str) -> bool:
    """Whether one of two images is left out as missing, and the other one is read."""
    found = load_annotations(path, None)
    return [p.key for p in found.images] == [key] and any("1 image missing" in line for line in found.issues)


def test_an_image_of_another_part_is_not_taken(tmp_path):
    for name in ("train/1", "val/2"):
        write_image(tmp_path / f"{name}.jpg")
    assert missing(coco(tmp_path / "x.json", ["val/1.jpg", "val/2.jpg"]), "val/2.jpg")
    (tmp_path / "x.json").unlink()
    (tmp_path / "val.csv").write_text("filename,label\n1.jpg,ring\n2.jpg,rbc\n")
    assert missing(tmp_path / "val.csv", "val/2.jpg") or missing(tmp_path, "val/2.jpg")


def test_lists_of_one_part_may_be_over_the_folder_of_another(tmp_path):
    for name in "12":
        write_image(tmp_path / "train_images" / f"{name}.jpg", value=40 + int(name))
    (tmp_path / "train.csv").write_text("filename,label\n1.jpg,ring\n")
    (tmp_path / "val.csv").write_text("filename,label\n2.jpg,ring\n")
    assert {key: part for key, (part, _) in read(tmp_path).items()} == {"train_images/1.jpg": "train", "train_images/2.jpg": "validation"}


@pytest.mark.parametrize("start", ["C:\\data\\slide1\\", "/data/slide1/", "slide1/"])
def test_an_image_of_another_slide_is_not_taken(tmp_path, start):
    for name in ("slide2/a", "slide1/b"):
        write_image(tmp_path / f"{name}.jpg")
    assert missing(coco(tmp_path / "x.json", [f"{start}a.jpg", f"{start}b.jpg"]), "slide1/b.jpg")


def test_an_image_of_another_slide_is_not_taken_for_a_bare_name(tmp_path):
    for name in ("slide2/a", "slide1/b"):
        write_image(tmp_path / f"{name}.jpg")
    for name in "ab":
        voc(tmp_path / "slide1" / f"{name}.xml", f"{name}.jpg")
    assert missing(tmp_path, "slide1/b.jpg")


def test_many_images_of_one_name_are_found_at_once(tmp_path):
    import time

    names = [f"s{i}/img.jpg" for i in range(600)]
    for name in names:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    from malaria_cells.data.annotations.locate import ImageFolder

    finder = ImageFolder(tmp_path)
    start = time.process_time()
    assert [finder.find(f"/data/x/{name}") for name in names] == [tmp_path / name for name in names]
    assert time.process_time() - start < 3  # 6 s and more where every name was compared with every image


# tables and folders that look like annotations


def test_a_file_to_submit_and_a_list_of_classes_are_no_annotation(tmp_path):
    folders_of(tmp_path, "train/ring", "train/rbc")
    write_image(tmp_path / "test" / "9.png")
    (tmp_path / "sample_submission.csv").write_text("id,label\n9,ring\n")
    (tmp_path / "classes.csv").write_text("id,label\n10,ring\n11,rbc\n")
    found = load_annotations(tmp_path, None)
    assert sorted(p.key for p in found.images) == ["train/rbc/1.png", "train/ring/0.png"]
    assert any("2 files without an annotation of a known format, not read; first: classes.csv" in line for line in found.issues)


@pytest.mark.parametrize("folder", ["slide1", "Dhaka"])
def test_folders_that_hold_all_classes_are_groups(tmp_path, folder):
    folders_of(tmp_path, f"{folder}/ring", f"{folder}/rbc", "other/ring", "other/rbc")
    for annotation_format in ("auto", "folders"):
        found = load_annotations(tmp_path, None, annotation_format=annotation_format)
        assert found.labels.names == ("rbc", "ring")
        assert "2 folders with a folder of every class in it" in found.issues[0]


def test_folders_of_single_images_with_masks_are_no_classes(tmp_path):
    folders_of(tmp_path, "a1f/images", "a1f/masks", "b2e/images", "b2e/masks")
    with pytest.raises(InputError, match="were not taken for classes: 'images' is not the name of a class"):
        load_annotations(tmp_path, None)


@pytest.mark.parametrize(
    "names",
    [
        ("S01", "S02"),
        ("PatientA", "PatientB"),
        ("slide_a", "slide_b"),
        ("100x", "40x"),
        ("jpg", "png"),
        ("Jan", "Feb"),
        ("input", "target"),
    ],
)
def test_more_folders_that_are_no_classes(tmp_path, names):
    with pytest.raises(InputError, match="were not taken for classes: they "):
        load_annotations(folders_of(tmp_path, *names), None)


def test_single_folders_above_the_classes_are_passed(tmp_path):
    folders_of(tmp_path, "archive/cells/ring", "archive/cells/rbc")
    for annotation_format in ("auto", "folders"):
        assert load_annotations(tmp_path, None, annotation_format=annotation_format).labels.names == ("rbc", "ring")


# more of YOLO


def yolo_set(folder: Path, classes: str = "ring\nrbc\n", row: str = f"0 {BOX}") -> Path:
    write_image(folder / "images" / "a.jpg")
    text(folder / "labels" / "a.txt", f"{row}\n")
    text(folder / "classes.txt", classes)
    return folder


@pytest.mark.parametrize("other", ["obj.names", "deep/er/classes.txt"])
def test_yolo_lists_of_classes_that_contradict(tmp_path, other):
    text(yolo_set(tmp_path) / other, "rbc\nring\n")
    with pytest.raises(InputError, match="names other classes than"):
        load_annotations(tmp_path, None)


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ("0: ring\n1: rbc\n", ("ring",)),
        ("'ring'\n\"rbc\"\n", ("ring",)),
        ("\ufeffring\r\nrbc\r\n\r\n", ("ring",)),
        ("\nring\n", None),
        ("", None),
    ],
)
def test_yolo_lists_of_classes_as_they_are_written(tmp_path, classes, names):
    yolo_set(tmp_path, classes)
    if names is None:
        with pytest.raises(InputError, match=r"classes\.txt: (line 1 is empty|names no class); expected one name per line"):
            load_annotations(tmp_path, None)
    else:
        assert load_annotations(tmp_path, None).labels.names == names


def test_yolo_names_that_yaml_takes_for_truths(tmp_path):
    yolo_set(tmp_path)
    text(tmp_path / "data.yaml", "train: images\nnames: [yes, no]\n")
    with pytest.raises(InputError, match="write such names in quotes"):
        load_annotations(tmp_path, None)


@pytest.mark.parametrize("row", ["0 0.5 0.5 0.2 0.4 0.9 7", f"0 {BOX} 0.1 0.2 2 0.3 0.4 2", f"0 {BOX} 1.57"])
def test_yolo_rows_of_tracks_key_points_and_angles(tmp_path, row):
    with pytest.raises(InputError, match=r"neither a box nor an outline|is not a score"):
        load_annotations(yolo_set(tmp_path, row=row), None)


def test_yolo_text_of_another_image_is_not_taken(tmp_path):
    yolo_set(tmp_path)
    write_image(tmp_path / "images" / "b.jpg")
    text(tmp_path / "labels" / "b.1.txt")
    assert [len(p.boxes_xyxy) for p in load_annotations(tmp_path, None).images] == [1, 0]
    write_image(tmp_path / "images" / "a.png")
    assert any("1 label file shared by two images" in line for line in load_annotations(tmp_path, None).issues)


@pytest.mark.parametrize("folders", [("img", "ann"), ("frames/s1", "labels/s1"), ("images of monday", "labels_my-project_2023")])
def test_yolo_in_folders_of_any_name(tmp_path, folders):
    write_image(tmp_path / folders[0] / "a.jpg")
    text(tmp_path / folders[1] / "a.txt")
    text(tmp_path / "classes.txt", "ring\n")
    assert read(tmp_path) == {f"{folders[0]}/a.jpg": one_ring()}


def test_darknet_lists_name_the_parts(tmp_path):
    for name in ("a", "b"):
        write_image(tmp_path / "obj" / f"{name}.jpg", value=50 + ord(name))
        text(tmp_path / "obj" / f"{name}.txt")
    text(tmp_path / "obj.names", "ring\n")
    text(tmp_path / "obj.data", "classes = 1\ntrain = data/train.txt\nvalid = data/test.txt\nnames = data/obj.names\n")
    text(tmp_path / "train.txt", "data/obj/a.jpg\n")
    text(tmp_path / "test.txt", "data/obj/b.jpg\n")
    assert {key: part for key, (part, _) in read(tmp_path).items()} == {"obj/a.jpg": "train", "obj/b.jpg": "validation"}


def test_yolo_the_narrower_folder_is_the_part(tmp_path):
    for name in ("images/a", "images/val/b"):
        write_image(tmp_path / f"{name}.jpg")
        text(tmp_path / f"{name.replace('images', 'labels')}.txt")
    text(tmp_path / "data.yaml", "train: images\nval: images/val\nnames: [ring]\n")
    assert {key: part for key, (part, _) in read(tmp_path).items()} == {"images/a.jpg": "train", "images/val/b.jpg": "validation"}


# more of COCO and VOC


@pytest.mark.parametrize(("value", "ignored"), [("0", False), ("false", False), (0, False), (None, False), ("1", True), (True, True)])
def test_coco_crowds_however_they_are_written(tmp_path, value, ignored):
    write_image(tmp_path / "a.jpg")
    annotations = [{"image_id": 0, "category_id": 1, "bbox": [40, 24, 20, 32], "iscrowd": value}]
    assert load_annotations(coco(tmp_path / "a.json", ["a.jpg"], annotations=annotations), None).images[0].ignore.tolist() == [ignored]


@pytest.mark.parametrize(
    ("bbox", "message"), [([0.4, 0.3, 0.2, 0.4], "no coordinate of its boxes is over 1"), ([60, 50, 90, 75], "none would as two corners")]
)
def test_coco_boxes_in_another_measure(tmp_path, bbox, message):
    write_image(tmp_path / "a.jpg")
    path = coco(tmp_path / "a.json", ["a.jpg"], annotations=[{"image_id": 0, "category_id": 1, "bbox": bbox}])
    with pytest.raises(InputError, match=message):
        load_annotations(path, None)


def test_a_key_that_is_there_twice(tmp_path):
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": [], "images": [{"id": 1}]}')
    with pytest.raises(InputError, match="the key 'images' occurs twice with different values"):
        load_annotations(tmp_path / "a.json", None)


def test_a_class_without_a_name(tmp_path):
    write_image(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="a cell of a class without a name"):
        load_annotations(coco(tmp_path / "a.json", ["a.jpg"], categories=[{"id": 1, "name": " "}]), None)


@pytest.mark.parametrize(("listed", "folder"), [("slide 1", "Main"), ("'slide 1'", "Main"), ("slide 1.jpg", "."), ("slide 1  1", "Main")])
def test_voc_lists_of_parts_with_names_of_several_words(tmp_path, listed, folder):
    for name in ("slide", "slide 1"):
        write_image(tmp_path / "JPEGImages" / f"{name}.jpg")
        voc(tmp_path / "Annotations" / f"{name}.xml", f"{name}.jpg")
    text(tmp_path / "ImageSets" / folder / "train.txt", "slide\n")
    text(tmp_path / "ImageSets" / folder / "Test.txt", f"{listed}\n")
    assert [p.part for p in load_annotations(tmp_path, None).images] == ["test", "train"]


def test_voc_objects_that_are_not_taken_as_they_are(tmp_path):
    write_image(tmp_path / "a.jpg")
    second = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    outline = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((1, 1), (21, 1), (21, 31)))
    extra = (
        f"<object><name>wbc</name><difficult>true</difficult>{second}{second}</object>"
        f"<object><name>wbc</name><polygon>{outline}</polygon></object><object><name>wbc</name><robndbox/></object>"
    )
    voc(tmp_path / "a.xml", "a.jpg", extra)
    found = load_annotations(tmp_path, None)
    assert found.images[0].boxes_xyxy.tolist() == [PIXELS, [0, 0, 9, 9], [1, 1, 21, 31]]
    assert found.images[0].ignore.tolist() == [False, True, False]
    for line in (
        "1 box after the first box of an object",
        "1 object marked `difficult`",
        "1 object without a `bndbox` (it has robndbox)",
    ):
        assert any(line in oddity for oddity in found.issues), line


def test_two_files_of_one_image_filename_are_told_to_mend_it(tmp_path):
    write_image(tmp_path / "a.jpg")
    for name in "ab":
        voc(tmp_path / f"{name}.xml", "a.jpg")
    with pytest.raises(InputError, match=r"are both for the image 'a\.jpg'; correct the <filename>"):
        load_annotations(tmp_path, None)


def test_a_test_folder_that_holds_a_training_part_of_its_own(tmp_path):
    from malaria_cells.config import make_config
    from malaria_cells.data.dataset import load_data_set

    for i in range(3):
        write_image(tmp_path / "here" / f"{i}.jpg", value=40 + 20 * i)
    coco(tmp_path / "here" / "annotations.json", ["0.jpg", "1.jpg", "2.jpg"])
    for i, name in enumerate(("training", "test")):
        write_image(tmp_path / "there" / f"{name}.jpg", value=140 + 20 * i)
        coco(tmp_path / "there" / f"{name}.json", [f"{name}.jpg"])
    values = {"train_images": str(tmp_path / "here"), "labels": None, "infected_labels": ["ring"], "group": None}
    data = load_data_set(make_config(values | {"test_annotations": str(tmp_path / "there")}, "test"))
    assert [p.key for p in data.test.images] == ["there/test.jpg"]
    (tmp_path / "corrected" / "annotations").mkdir(parents=True)
    write_image(tmp_path / "corrected" / "images" / "new.jpg", value=200)
    path = coco(tmp_path / "corrected" / "annotations" / "instances_default.json", ["new.jpg"])
    data = load_data_set(make_config(values | {"corrections": str(path)}, "test"))
    assert "corrections/images/new.jpg" in {p.key for p in data.train.images}
    assert data.all_images.read_as == "COCO: annotations.json"


def test_too_few_images_are_told_what_helps(tmp_path):
    from malaria_cells.config import make_config
    from malaria_cells.data.dataset import load_data_set

    values = {"train_images": str(tmp_path), "labels": None, "infected_labels": ["ring"], "group": None, "test_size": 0.5}
    for n, helps in ((1, "needs two: add images$"), (2, r"needs two: add images, or do without a test \(`test_size: 0`\)$")):
        names = [f"{i}.jpg" for i in range(n)]
        for i, name in enumerate(names):
            write_image(tmp_path / name, value=40 + 60 * i)
        coco(tmp_path / "annotations.json", names)
        with pytest.raises(InputError, match=helps):
            load_data_set(make_config(values, "test"))


def test_words_of_other_peoples_folders_are_theirs():
    """What files are called elsewhere is data, not our wording: `pictures` and `photos` are as generic as `images`."""
    assert all(is_plain(name) for name in ("images", "pictures", "photos"))
    assert [part_named(f"{name}_train") for name in ("images", "pictures", "photos")] == ["train"] * 3
    assert why_no_classes(["picture1", "picture2", "picture3"])
