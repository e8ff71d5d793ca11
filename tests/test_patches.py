import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from malaria_cells.base.errors import InputError
from malaria_cells.data import boxes, patch_store
from malaria_cells.data.annotations import load_annotations
from malaria_cells.data.patch_store import MAX_STORES, Cropping, build_patch_store
from malaria_cells.data.patches import background_boxes, crop_boxes
from tests.conftest import bbbc041_entry, write_bbbc041

CROPPING = Cropping((32, 32), 1.25, background_per_image=3, seed=0)


def reflected(i, n):
    """The index that reflection without repeating the border lands on."""
    while not 0 <= i < n:
        i = -i if i < 0 else 2 * (n - 1) - i
    return i


def test_crops_equal_a_plain_loop():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    found = np.array([[5, 5, 15, 12], [-4, 30, 8, 39], [44, 0, 50, 6], [0, 0, 50, 40]], dtype=np.float32)
    patches = crop_boxes(image, found, 1.5, (16, 16))
    for patch, (left, top, right, bottom) in zip(patches, boxes.squares_around(found, 1.5), strict=True):
        square = np.array([[image[reflected(y, 40), reflected(x, 50)] for x in range(left, right)] for y in range(top, bottom)])
        method = cv2.INTER_AREA if right - left >= 16 else cv2.INTER_LINEAR
        assert np.array_equal(patch, cv2.resize(square, (16, 16), interpolation=method))


def test_no_boxes_and_one_pixel_images():
    assert crop_boxes(np.zeros((9, 9, 3), np.uint8), np.zeros((0, 4)), 1.25, (16, 16)).shape == (0, 16, 16, 3)
    assert crop_boxes(np.full((1, 1, 3), 7, np.uint8), np.array([[0, 0, 1, 1]]), 1.25, (16, 16)).shape == (1, 16, 16, 3)


def test_store_holds_every_cell_and_background(sample, six_classes, tmp_path):
    data = load_annotations(sample / "training.json", six_classes)
    store = build_patch_store(data, CROPPING, tmp_path)
    cells = store.class_ids < 6
    assert np.bincount(store.class_ids[cells], minlength=6).tolist() == data.class_counts.tolist()
    assert isinstance(store.patches, np.memmap)
    assert store.patches.shape == (len(store), 32, 32, 3)
    for i in (0, len(store) // 2, len(store) - 1):
        image = np.asarray(Image.open(sample / store.keys[store.image_ids[i]]))
        assert np.array_equal(store.patches[i], crop_boxes(image, store.boxes_xyxy[i : i + 1], 1.25, (32, 32))[0])
    for row in np.flatnonzero(~cells):
        image = data.images[store.image_ids[row]]
        assert boxes.intersection_matrix(store.boxes_xyxy[row : row + 1], image.boxes_xyxy).max() == 0
    assert (~cells).sum() > 0


def test_rows_of_a_part(sample, six_classes, tmp_path):
    data = load_annotations(sample / "training.json", six_classes)
    store = build_patch_store(data, CROPPING, tmp_path)
    part = data.subset([data.images[2].key])
    rows = store.rows_of(part)
    assert {store.keys[i] for i in store.image_ids[rows]} == {data.images[2].key}
    assert (store.class_ids[rows] < 6).sum() == part.class_counts.sum()


def test_cache_is_reused_until_something_changes(tmp_path, six_classes):
    objects = {"images/a.png": [("ring", 5, 5, 30, 30)], "images/b.png": [("ring", 40, 5, 70, 30)]}
    path = write_bbbc041(tmp_path / "d", objects)

    def build(cropping=CROPPING):
        return build_patch_store(load_annotations(path, six_classes), cropping, tmp_path / "cache").fingerprint

    first = build()
    written = (tmp_path / "cache" / first / "patches.npy").stat().st_mtime_ns
    assert build() == first
    assert (tmp_path / "cache" / first / "patches.npy").stat().st_mtime_ns == written
    prints = {first, build(Cropping((32, 32), 1.5, 3, 0)), build(Cropping((16, 32), 1.25, 3, 0)), build(Cropping((32, 32), 1.25, 2, 0))}
    Image.new("RGB", (100, 80), (9, 9, 9)).save(tmp_path / "d" / "images" / "a.png")
    prints.add(build())
    write_bbbc041(tmp_path / "d", objects | {"images/a.png": [("ring", 5, 5, 30, 31)]})
    prints.add(build())
    assert len(prints) == 6


def test_the_stores_used_last_are_kept(tmp_path, six_classes):
    annotations = load_annotations(write_bbbc041(tmp_path / "d", {"images/a.png": [("ring", 5, 5, 30, 30)]}), six_classes)

    def build(context):
        return build_patch_store(annotations, Cropping((16, 16), context, 0, 0), tmp_path / "cache").fingerprint

    first, *others = [build(1 + i / 10) for i in range(MAX_STORES)]
    (tmp_path / "cache" / "mine").mkdir()  # what is no store stays
    os.utime(tmp_path / "cache" / others[0] / "store.json", (0, 0))
    assert build(1.0) == first
    newest = build(3.0)
    assert {p.name for p in (tmp_path / "cache").iterdir()} == {first, *others[1:], newest, "mine"}


def test_a_broken_image_leaves_no_store(tmp_path, six_classes):
    path = write_bbbc041(tmp_path / "d", {"a.png": [("ring", 5, 5, 30, 30)], "b.png": [("ring", 5, 5, 30, 30)]})
    data = load_annotations(path, six_classes)
    content = (tmp_path / "d" / "b.png").read_bytes()
    (tmp_path / "d" / "b.png").write_bytes(content[:60])
    with pytest.raises(InputError, match=r"b\.png"):
        build_patch_store(data, CROPPING, tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == []


def test_no_cell_is_an_error(tmp_path, six_classes):
    data = load_annotations(write_bbbc041(tmp_path, {"a.png": [("difficult", 5, 5, 30, 30)]}), six_classes)
    with pytest.raises(InputError, match="no labelled cell"):
        build_patch_store(data, CROPPING, tmp_path / "cache")


def test_background_of_a_full_image_is_empty(tmp_path, six_classes):
    (tmp_path / "t.json").write_text(json.dumps([bbbc041_entry("a.png", [("ring", 0, 0, 100, 80)])]))
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    image = load_annotations(tmp_path / "t.json", six_classes).images[0]
    assert len(background_boxes(image, 5, 30, seed=0)) == 0


def test_two_processes_that_want_the_same_store_cut_it_once(tmp_path, six_classes, monkeypatch, capsys):
    """The second waits, and opens what the first has cut."""
    annotations = load_annotations(write_bbbc041(tmp_path / "d", {"images/a.png": [("ring", 5, 5, 30, 30)]}), six_classes)
    cut, write = [], patch_store._write

    def slowly(*arguments):
        cut.append(arguments)
        time.sleep(0.3)
        write(*arguments)

    monkeypatch.setattr(patch_store, "_write", slowly)
    with ThreadPoolExecutor() as pool:
        stores = list(pool.map(lambda _: build_patch_store(annotations, Cropping((16, 16), 1.2, 0, 0), tmp_path / "cache"), range(3)))
    assert len(cut) == 1
    assert {store.fingerprint for store in stores} == {stores[0].fingerprint}
    assert "cache: waiting for another process, which cuts cells into it" in capsys.readouterr().err


def test_a_store_whose_removal_was_cut_off_is_cut_anew(tmp_path, six_classes, monkeypatch):
    annotations = load_annotations(write_bbbc041(tmp_path / "d", {"images/a.png": [("ring", 5, 5, 30, 30)]}), six_classes)

    def build(context):
        return build_patch_store(annotations, Cropping((16, 16), context, 0, 0), tmp_path / "cache")

    first, *_ = [build(1 + i / 10) for i in range(MAX_STORES)]

    def half_removed(folder):
        next(p for p in folder.iterdir() if p.name != "patches.npy").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", half_removed)
    with pytest.raises(KeyboardInterrupt):
        build(3.0)
    monkeypatch.undo()
    assert len(build(1.0)) == len(first)


def test_what_a_killed_process_had_begun_to_cut_is_removed(tmp_path, six_classes):
    annotations = load_annotations(write_bbbc041(tmp_path / "d", {"images/a.png": [("ring", 5, 5, 30, 30)]}), six_classes)
    store = build_patch_store(annotations, CROPPING, tmp_path / "cache")
    begun = tmp_path / "cache" / f".{store.fingerprint}.writing-0123abcd"
    (tmp_path / "cache" / store.fingerprint).rename(begun)
    assert build_patch_store(annotations, CROPPING, tmp_path / "cache").fingerprint == store.fingerprint
    assert not begun.exists()
