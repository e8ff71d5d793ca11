"""No slide and no image is on two sides of a split, however the split was made."""

import json
import logging
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from malaria_cells.base.errors import InputError
from malaria_cells.config import make_config
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.dataset import DataSet, load_data_set
from malaria_cells.data.leaks import group_copies
from tests.conftest import bbbc041_entry, write_bbbc041
from tests.test_splits import make_set, sets

SIZE = (96, 72)


def draw(path: Path, seed: int) -> None:
    """An image with something to see in it, another for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)).save(path)


def annotate(folder: Path, names, file="training.json", label="ring") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file
    path.write_text(json.dumps([bbbc041_entry(f"/{name}", [(label, 10, 10, 40, 40)], SIZE) for name in names]), encoding="utf-8")
    return path


def slides(folder: Path, names, file="training.json") -> list[str]:
    """A set of images with content, in BBBC041's layout."""
    for name in names:
        draw(folder / name, zlib.crc32(name.encode()))
    annotate(folder, names, file)
    return list(names)


NAMES = [f"slide{s}_{i}.png" for s in range(6) for i in range(2)]
GROUP = {"group": r"(slide\d+)_", "labels": ["ring"]}


def load(folder, **values):
    return load_data_set(make_config({"train_images": str(folder), **GROUP, **values}, "test"))


@given(sets, st.data())
def test_parts_that_share_a_group_make_no_data_set(images, data):
    """Whatever puts images into parts, a data set either has every group whole, or is not."""
    whole = make_set([c for _, c in images], [f"g{g}" for g, _ in images])
    part_of = [data.draw(st.sampled_from(["train", "validation", "test"])) for _ in whole.images]
    parts = {
        name: AnnotationSet(whole.labels, tuple(p for p, part in zip(whole.images, part_of, strict=True) if part == name))
        for name in ("train", "validation", "test")
    }
    groups = [{p.group for p in part.images} for part in parts.values()]
    if sum(map(len, groups)) == len(set().union(*groups)):
        assert set(DataSet(**parts).parts) == set(parts)
    else:
        with pytest.raises(InputError, match=r"the group \(slide\) 'g\d' is in \w+ \('d/p\d+\.png'\) and in \w+ \('d/p\d+\.png'\)"):
            DataSet(**parts)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["train", "validation", "test", None]), min_size=len(NAMES), max_size=len(NAMES)),
    st.booleans(),
    st.integers(0, 3),
)
def test_however_it_is_split_no_slide_is_on_two_sides(tmp_path_factory, parts, by_file, seed):
    folder = tmp_path_factory.mktemp("set")
    lists = {part: [n for n, p in zip(NAMES, parts, strict=True) if p == part] for part in ("train", "validation", "test")}
    if by_file:
        slides(folder, NAMES)
        (folder / "split.json").write_text(json.dumps(lists))
    else:  # drawn, with further images named as the test
        slides(folder, [n for n, p in zip(NAMES, parts, strict=True) if p != "test"] or NAMES[:1])
        slides(folder, lists["test"] or ["slide9_1.png"], "test.json")
    try:
        data = load(folder, random_state=seed)
    except InputError:
        return
    groups = [{p.group for p in part.images} for part in data.parts.values()]
    assert sum(map(len, groups)) == len(set().union(*groups))


def test_a_split_file_that_parts_a_slide_is_refused(tmp_path):
    slides(tmp_path, NAMES)
    (tmp_path / "split.json").write_text(json.dumps({"train": NAMES[:5], "test": NAMES[5:]}))
    with pytest.raises(
        InputError, match=r"split\.json: .*'slide2' is in training \('slide2_0\.png'\) and in test \('slide2_1\.png'\).*split_file"
    ):
        load(tmp_path)
    assert len(load(tmp_path, group=None).test) == 7  # nobody said that they are of one slide


def voc(folder, names, parts):
    """Images in VOC's layout, whose own lists say the part."""
    for name in names:
        draw(folder / "JPEGImages" / name, zlib.crc32(name.encode()))
        boxes = "<object><name>ring</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object>"
        text = f"<annotation><filename>{name}</filename><size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>{boxes}</annotation>"
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / "Annotations" / f"{Path(name).stem}.xml").write_text(text)
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for part, own in parts.items():
        (folder / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(Path(n).stem for n in own))


def test_own_parts_that_part_a_slide_are_refused(tmp_path):
    voc(tmp_path / "a", NAMES, {"train": NAMES[:7], "test": NAMES[7:]})
    with pytest.raises(InputError, match=r"whose own parts count: the group \(slide\) 'slide3' is in training .* and in test"):
        load(tmp_path / "a")
    voc(tmp_path / "b", NAMES, {"train": NAMES[:7], "val": NAMES[7:10], "test": NAMES[10:]})
    with pytest.raises(InputError, match=r"'slide3' is in training .* and in validation"):
        load(tmp_path / "b")


def test_own_test_images_are_not_trained_on_where_another_test_is_named(tmp_path, caplog):
    voc(tmp_path / "a", NAMES, {"train": NAMES[:8], "test": NAMES[8:]})
    slides(tmp_path / "other", ["slide8_0.png", "slide9_0.png"])
    with caplog.at_level(logging.WARNING):
        data = load(tmp_path / "a", test_annotations=str(tmp_path / "other"))
    assert {Path(p.key).name for part in (data.train, data.validation) for p in part.images} == set(NAMES[:8])
    assert len(data.test) == 2
    assert "4 images of the data set's own test part left out of training; first: JPEGImages/slide4_0.png" in caplog.text


def test_a_split_file_counts_more_than_own_parts(tmp_path, caplog):
    voc(tmp_path, NAMES, {"train": NAMES[:8], "test": NAMES[8:]})
    (tmp_path / "split.json").write_text(json.dumps({"train": NAMES[4:], "test": NAMES[:4]}))
    with caplog.at_level(logging.WARNING):
        data = load(tmp_path)
    assert len(data.train) + len(data.validation) == 8
    assert "its training list is used although it has 4 images" in caplog.text


def test_a_slide_is_the_same_in_a_test_folder_of_its_own(tmp_path):
    slides(tmp_path / "train", NAMES)
    slides(tmp_path / "test", ["slide7_0.png", "slide0_7.png"])
    with pytest.raises(InputError, match=r"'slide0' is in training \('slide0_0\.png'\) and in test \('test/slide0_7\.png'\)"):
        load(tmp_path / "train", test_annotations=str(tmp_path / "test"))


def test_images_of_one_name_in_two_folders_are_two_where_no_slide_is_named(tmp_path):
    slides(tmp_path / "train", NAMES[:6])
    for i, name in enumerate(NAMES[:2]):
        draw(tmp_path / "test" / name, 1000 + i)
    annotate(tmp_path / "test", NAMES[:2])
    for group in (None, "folder"):
        assert len(load(tmp_path / "train", test_annotations=str(tmp_path / "test"), group=None).test) == 2, group


def test_a_slide_of_the_test_part_does_not_come_back_as_a_correction(tmp_path):
    slides(tmp_path / "set", NAMES[:8])
    slides(tmp_path / "set", NAMES[8:], "test.json")
    slides(tmp_path / "corrected", ["images/slide4_9.png"])
    with pytest.raises(
        InputError, match=r"corrections: .*'slide4' is in training \('corrections/images/slide4_9\.png'\) and in test .*Leave such"
    ):
        load(tmp_path / "set", corrections=str(tmp_path / "corrected"))
    slides(tmp_path / "fine", ["images/slide1_9.png"])
    data = load(tmp_path / "set", corrections=str(tmp_path / "fine"))
    (part,) = [part for part in (data.train, data.validation) if any("slide1_9" in p.key for p in part.images)]
    assert {p.key for p in part.images} >= {"slide1_0.png", "slide1_1.png"}  # a slide is whole


@pytest.mark.parametrize("written_anew", [False, True])
def test_copies_of_one_image_stay_together_or_are_refused(tmp_path, caplog, written_anew):
    slides(tmp_path, NAMES)
    if written_anew:
        with Image.open(tmp_path / NAMES[0]) as image:
            image.save(tmp_path / "slide7_0.jpg", quality=90)
        copy = "slide7_0.jpg"
    else:
        shutil.copyfile(tmp_path / NAMES[0], tmp_path / "slide7_0.png")
        copy = "slide7_0.png"
    annotate(tmp_path, [*NAMES, copy])
    for seed in range(4):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            data = load(tmp_path, random_state=seed)
        (_,) = {name for name, part in data.parts.items() for p in part.images if p.key in {copy, *NAMES[:2]}}
        assert f"1 image under two names or more, first 'slide0_0.png' and '{copy}'; copies are kept in one part" in caplog.text
    (tmp_path / "split.json").write_text(json.dumps({"train": NAMES, "test": [copy]}))
    with pytest.raises(InputError, match=rf"1 image under two names in two parts.*'slide0_0\.png' \(training\) and '{copy}' \(test\)"):
        load(tmp_path)


def test_groups_of_copies_are_joined_through_each_other():
    whole = make_set([[0]] * 5, ["a", "b", "b", "c", "d"])
    keys = [p.key for p in whole.images]
    joined = group_copies(whole, [[keys[0], keys[1]], [keys[2], keys[3]], [keys[4], "elsewhere"]])
    assert [p.group for p in joined.images] == ["a", "a", "a", "a", "d"]
    assert group_copies(whole, []) is whole


def test_a_label_of_whole_images_is_another_fingerprint():
    boxes = make_set([[0]] * 2)
    whole = AnnotationSet(boxes.labels, tuple(replace(p, whole=True) for p in boxes.images))
    assert boxes.fingerprint != whole.fingerprint


def test_the_default_pattern_that_finds_no_slide_is_said(tmp_path, caplog):
    write_bbbc041(tmp_path, {f"{i}.png": [("ring", 10, 10, 40, 40)] for i in range(4)})
    with caplog.at_level(logging.WARNING):
        load(tmp_path)
    assert r"group: '(slide\d+)_' finds a slide in none of 4 paths; first without: '0.png'" in caplog.text
