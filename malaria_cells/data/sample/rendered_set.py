"""Writes rendered smears as a data set with BBBC041's layout: ``images/``, ``training.json``, ``test.json``."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.progress import progress
from malaria_cells.data.sample.smear import SIZE_WH, Slide, Smear, render_smear

FIELDS_PER_SLIDE = 4
TRAINING, TEST = "training.json", "test.json"
_IMAGE = re.compile(r"slide\d+_\d+\.jpg")


def write_sample(folder: Path, training: int, test: int, seed: int, size_wh: tuple[int, int] = SIZE_WH) -> None:
    """Render a data set into a folder, which is written completely or not at all.

    Training and test images come from different slides, whose number is in the file name: ``images/slide03_2.jpg``.

    Args:
        folder: output folder; an older sample there is replaced.
        training: number of training images.
        test: number of test images.
        seed: seed that determines all images.
        size_wh: width and height of the images in pixels.

    Raises:
        InputError: the folder holds other files than a rendered sample, for example a downloaded data set.
    """
    if not _is_sample(folder):
        raise InputError(f"{folder}: holds other files than a rendered sample; choose a new folder")
    with files.replacing_folder(folder, TRAINING) as new_folder:
        (new_folder / "images").mkdir()
        entries = [
            _write_field(new_folder, part, number, seed, size_wh)
            for part, number in progress(_fields(training, test), training + test, "rendering", "image")
        ]
        files.write_json(new_folder / TRAINING, entries[:training])
        files.write_json(new_folder / TEST, entries[training:])


def _is_sample(folder: Path) -> bool:
    """Whether the folder does not exist, or holds only files that this module writes."""
    if not folder.is_dir():
        return not folder.exists()
    images = [p.name for p in (folder / "images").glob("*")]
    return {p.name for p in folder.iterdir()} <= {"images", TRAINING, TEST} and all(map(_IMAGE.fullmatch, images))


def _fields(training: int, test: int) -> list[tuple[int, int]]:
    return [(0, i) for i in range(training)] + [(1, i) for i in range(test)]


def _write_field(folder: Path, part: int, number: int, seed: int, size_wh: tuple[int, int]) -> dict[str, Any]:
    slide_number = number // FIELDS_PER_SLIDE
    slide = Slide.draw(np.random.default_rng([seed, part, slide_number]))
    smear = render_smear(slide, np.random.default_rng([seed, part, slide_number, number]), size_wh)
    name = f"images/slide{part * 50 + slide_number + 1:02d}_{number % FIELDS_PER_SLIDE + 1}.jpg"
    Image.fromarray(smear.image).save(folder / name, quality=92)
    return _entry(name, smear, (folder / name).read_bytes())


def _entry(name: str, smear: Smear, content: bytes) -> dict[str, Any]:
    height, width = smear.image.shape[:2]
    objects = [
        {"bounding_box": {"minimum": {"r": top, "c": left}, "maximum": {"r": bottom, "c": right}}, "category": label}
        for (left, top, right, bottom), label in zip(smear.boxes_xyxy.tolist(), smear.labels, strict=True)
    ]
    checksum = hashlib.md5(content, usedforsecurity=False).hexdigest()  # the kind of checksum in BBBC041
    shape = {"r": height, "c": width, "channels": 3}
    return {"image": {"checksum": checksum, "pathname": f"/{name}", "shape": shape}, "objects": objects}
