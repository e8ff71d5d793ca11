"""Kinds of inputs: each makes whole inputs in a folder, and a mutant of one of them by its number, and reads it."""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.config import Config, load_config
from malaria_cells.data.annotations import load_annotations
from malaria_cells.data.annotations.readers import READERS
from malaria_cells.data.images import image_size, read_image
from tests.torture import models
from tests.torture.annotations import WHOLE
from tests.torture.mutate import mutated

REPOSITORY = Path(__file__).parents[2]


class FaultError(Exception):
    """What was read, or said, is not what the reader promises."""


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        prepare: writes the whole inputs into a folder, once for each process.
        try_one: changes what is there by a random state, reads it, and puts it back; raises whatever the reader raises.
        share: of the mutants of a reader, how many are of this kind; those of model folders add up to 1.
    """

    prepare: Callable[[Path], None]
    try_one: Callable[[Path, random.Random], None]
    share: float = 1


def _annotations(name: str) -> Kind:
    writers = WHOLE[name]

    def prepare(folder: Path) -> None:
        for i, write in enumerate(writers):
            (folder / str(i)).mkdir()
            write(folder / str(i))

    def try_one(folder: Path, rng: random.Random) -> None:
        root = folder / str(rng.randrange(len(writers)))
        files = sorted(path for path in root.rglob("*") if path.is_file())
        texts = [path for path in files if path.suffix != ".png" and path.suffix != ".jpg"]
        path = rng.choice(texts if texts and rng.random() < 0.95 else files)
        named = path if path.parent == root and path.suffix in {".json", ".geojson", ".csv", ".xml"} and rng.random() < 0.5 else root
        with _changed(path, files, rng):
            _check_annotations(named, root, rng.choice(["auto", name]))

    return Kind(prepare, try_one)


class _changed:
    """A file changed while a block runs: its content, or that it is there at all."""

    def __init__(self, path: Path, others: list[Path], rng: random.Random) -> None:
        self.path, self.others, self.rng, self.whole = path, others, rng, path.read_bytes()

    def __enter__(self) -> None:
        drawn, rng = self.rng.random(), self.rng
        if drawn < 0.01:
            self.path.unlink()
        elif drawn < 0.02:
            self.path.unlink()
            self.path.mkdir()
        elif drawn < 0.03:
            self.path.unlink()
            self.path.symlink_to(rng.choice([self.path.name, "..", "/dev/null", "nowhere"]))
        elif drawn < 0.04:
            self.path.write_bytes(rng.choice(self.others).read_bytes())
        else:
            self.path.write_bytes(mutated(self.whole, self.path.suffix.lower(), rng))

    def __exit__(self, *_: object) -> None:
        if self.path.is_dir() and not self.path.is_symlink():
            self.path.rmdir()
        self.path.unlink(missing_ok=True)
        self.path.write_bytes(self.whole)


def _check_annotations(path: Path, root: Path, annotation_format: str) -> None:
    found = load_annotations(path, None, annotation_format=annotation_format)
    for image in found.images:
        boxes, (width, height) = image.boxes_xyxy, image.size_wh
        if boxes.dtype != np.float32 or not np.isfinite(boxes).all() or boxes.shape != (len(image.class_ids), 4):
            raise FaultError(f"{image.key}: boxes of {boxes.dtype}, shape {boxes.shape}, finite: {np.isfinite(boxes).all()}")
        if len(boxes) and (boxes.min() < 0 or (boxes[:, 2] > width).any() or (boxes[:, 3] > height).any()):
            raise FaultError(f"{image.key}: boxes outside the image")
        if len(boxes) and (boxes[:, 2:] <= boxes[:, :2]).any():
            raise FaultError(f"{image.key}: boxes without an area")
        if image.class_ids.size and image.class_ids.max() >= len(found.labels):
            raise FaultError(f"{image.key}: a class that has no name")
        if not image.path.is_relative_to(root) or ".." in image.path.parts:
            raise FaultError(f"{image.key}: {image.path} is outside the data set")


def _images_prepare(folder: Path) -> None:
    from tests.test_hostile_images import sources

    for i, content in enumerate(sources()):
        (folder / str(i)).write_bytes(content)


def _images_try(folder: Path, rng: random.Random) -> None:
    content = (folder / str(rng.randrange(len(list(folder.glob("[0-9]*")))))).read_bytes()
    path = folder / f"mutant{rng.choice(['.tif', '.png', '.jpg', '.bin'])}"
    path.write_bytes(mutated(content, ".bin", rng))
    try:
        pixels = read_image(path)
        if pixels.dtype != np.uint8 or pixels.shape != (*image_size(path)[::-1], 3):
            raise FaultError(f"pixels of {pixels.dtype}, shape {pixels.shape}; the header says {image_size(path)}")
    finally:
        path.unlink()


def _configs_prepare(folder: Path) -> None:
    for path in (REPOSITORY / "config.yaml", *sorted((REPOSITORY / "configs").glob("*.yaml"))):
        shutil.copy(path, folder)


def _configs_try(folder: Path, rng: random.Random) -> None:
    path = rng.choice(sorted(folder.glob("*.yaml")))
    with _changed(path, [path], rng):
        overrides = [mutated(rng.choice([b"epochs=3", b"refiner.epochs=8", b"labels=[a, b]"]), ".txt", rng).decode(errors="replace")]
        if not isinstance(load_config(path, overrides if rng.random() < 0.3 else []), Config):
            raise FaultError("no config came out")


def _models(name: str) -> Kind:
    engine, files, share = models.MODELS[name]

    def prepare(folder: Path) -> None:
        models.write_model(engine, folder / "whole")

    def try_one(folder: Path, rng: random.Random) -> None:
        mutant = folder / "mutant"
        models.fresh(folder / "whole", mutant)
        models.changed(mutant, rng.choice(files), rng)
        models.read(mutant, engine)

    return Kind(prepare, try_one, share)


def kinds() -> dict[str, Kind]:
    """Every kind by name; those of annotations are the registered formats."""
    of_models = {f"model: {name}": _models(name) for name in models.MODELS}
    return {
        **{f"annotations: {name}": _annotations(name) for name in READERS if name in WHOLE},
        "images": Kind(_images_prepare, _images_try),
        "configs": Kind(_configs_prepare, _configs_try),
        **of_models,
    }


def check_refusal(error: InputError, folder: Path) -> None:
    """Raise a fault unless an error names a file or an option, in few words."""
    text = str(error)
    if str(folder) not in text and not any(word in text for word in ("--set", "engine:")):
        raise FaultError(f"the message names no file: {text[:300]}")
    if len(text) > 4000:
        raise FaultError(f"the message has {len(text):,} characters: {text[:300]}")
