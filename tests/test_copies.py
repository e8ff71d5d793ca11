"""One image is known again under another name, written anew; two images of one slide are two."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from malaria_cells.base.errors import InputError
from malaria_cells.config import make_config
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.dataset import load_data_set
from malaria_cells.data.duplicates import same_images
from malaria_cells.data.images import image_size
from tests.conftest import write_image
from tests.test_leaks import NAMES, annotate, draw, slides

NOTHING = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)


def images(paths):
    return [AnnotatedImage(str(p), p, image_size(p), str(p), *NOTHING) for p in paths]


def written_anew(source, target, **how):
    with Image.open(source) as image:
        ImageOps.exif_transpose(image).convert("RGB").save(target, **how)
    return target


def test_the_same_image_whatever_wrote_it(tmp_path):
    for seed in range(4):
        draw(tmp_path / f"{seed}.png", seed)
    anew = [
        written_anew(tmp_path / "0.png", tmp_path / "a.jpg", quality=95),
        written_anew(tmp_path / "0.png", tmp_path / "b.jpg", quality=75),
        written_anew(tmp_path / "1.png", tmp_path / "c.webp", quality=80),
        Path(shutil.copyfile(tmp_path / "2.png", tmp_path / "d.png")),
    ]
    found = same_images(images([*(tmp_path / f"{seed}.png" for seed in range(4)), *anew]))
    assert found == [[0, 4, 5], [1, 6], [2, 7]]
    assert same_images(images([*(tmp_path / f"{seed}.png" for seed in range(4)), *anew]), asked=[7]) == [[2, 7]]


def test_images_that_are_alike_but_for_their_grain_are_two(tmp_path):
    """Two exposures of one field, or two fields of one pattern: what they have in common is coarse."""
    x = 90 + 40 * np.cos(np.arange(220) / 30) * np.ones((180, 1))
    for seed in range(6):
        noisy = x + np.random.default_rng(seed).normal(0, 12, x.shape)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(tmp_path / f"{seed}.jpeg")
    written_anew(tmp_path / "0.jpeg", tmp_path / "anew.jpg", quality=85)
    names = [*(f"{seed}.jpeg" for seed in range(6)), "anew.jpg"]
    assert same_images(images([tmp_path / name for name in names])) == [[0, 6]]


def test_an_image_that_its_exif_data_turn_is_the_one_written_upright(tmp_path):
    draw(tmp_path / "0.png", 0)
    with Image.open(tmp_path / "0.png") as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.rotate(90, expand=True).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    written_anew(tmp_path / "turned.jpg", tmp_path / "upright.jpg", quality=95)
    draw(tmp_path / "1.png", 1)
    assert same_images(images([tmp_path / "turned.jpg", tmp_path / "1.png", tmp_path / "upright.jpg"])) == [[0, 2]]


def test_images_without_anything_to_see_and_broken_ones_are_like_no_other(tmp_path):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name)
    for name in ("c.jpg", "d.jpg"):
        (tmp_path / name).write_bytes(b"no image")
    plain = images([tmp_path / "a.png", tmp_path / "b.png"])
    broken = [AnnotatedImage(n, tmp_path / n, (100, 80), n, *NOTHING) for n in ("c.jpg", "d.jpg", "absent.jpg")]
    assert same_images([*plain, *broken]) == []
    assert same_images(plain, asked=[1]) == [[0, 1]]  # asked for, the same file is the same image


def test_more_than_can_be_read_are_compared_byte_for_byte(tmp_path, monkeypatch):
    monkeypatch.setattr("malaria_cells.data.duplicates.MAX_PIXELS", 1000)
    draw(tmp_path / "0.png", 0)
    paths = [
        tmp_path / "0.png",
        written_anew(tmp_path / "0.png", tmp_path / "a.jpg"),
        shutil.copyfile(tmp_path / "0.png", tmp_path / "b.png"),
    ]
    assert same_images(images(map(Path, paths))) == [[0, 2]]


def test_fields_of_one_slide_are_not_the_same(iml, tmp_path):
    """Neighbours on a slide, as they were photographed one after the other, and each of them written anew."""
    fields = sorted((iml / "images").glob("*.JPG"))[:40]
    again = [written_anew(path, tmp_path / f"{path.stem}.jpg", quality=85) for path in fields[:5]]
    found = same_images(images([*fields, *again]))
    assert found == [[i, len(fields) + i] for i in range(5)]


def test_a_test_image_that_was_written_anew_is_no_correction(tmp_path):
    slides(tmp_path / "set", NAMES[:8])
    slides(tmp_path / "set", NAMES[8:], "test.json")
    (tmp_path / "corrected").mkdir()
    written_anew(tmp_path / "set" / NAMES[9], tmp_path / "corrected" / "renamed.jpg", quality=95)
    annotate(tmp_path / "corrected", ["renamed.jpg"], "annotations.json")
    values = {"train_images": str(tmp_path / "set"), "labels": ["ring", "trophozoite"], "corrections": str(tmp_path / "corrected")}
    with pytest.raises(InputError, match=rf"'renamed\.jpg' is the test image '{NAMES[9]}'"):
        load_data_set(make_config(values, "test"))


def test_corrections_of_what_was_written_anew_take_its_place(tmp_path, caplog):
    slides(tmp_path / "set", NAMES)
    shutil.copyfile(tmp_path / "set" / NAMES[0], tmp_path / "set" / "copy.png")
    annotate(tmp_path / "set", [*NAMES, "copy.png"])
    (tmp_path / "corrected").mkdir()
    written_anew(tmp_path / "set" / NAMES[0], tmp_path / "corrected" / "renamed.jpg", quality=95)
    annotate(tmp_path / "corrected", ["renamed.jpg"], "annotations.json", label="trophozoite")
    values = {
        "train_images": str(tmp_path / "set"),
        "labels": ["ring", "trophozoite"],
        "corrections": str(tmp_path / "corrected"),
        "test_size": 0,
    }
    with caplog.at_level(logging.WARNING):
        data = load_data_set(make_config(values, "test"))
    found = {p.key: p.class_ids.tolist() for p in data.all_images.images}
    assert len(found) == len(NAMES)
    assert found["copy.png"] == [1]
    assert "'renamed.jpg' replaces 'copy.png'; 1 duplicate removed from the training part, first: 'slide0_0.png'" in caplog.text


def test_one_image_corrected_twice_is_refused(tmp_path):
    slides(tmp_path / "set", NAMES)
    for name in ("a.png", "b.png"):
        draw(tmp_path / "corrected" / name, 5)
    annotate(tmp_path / "corrected", ["a.png", "b.png"], "annotations.json")
    values = {"train_images": str(tmp_path / "set"), "labels": ["ring"], "corrections": str(tmp_path / "corrected")}
    with pytest.raises(InputError, match=r"corrections: .*'a\.png' and 'b\.png' are the same image, corrected twice; leave one"):
        load_data_set(make_config(values, "test"))
