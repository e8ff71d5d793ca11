"""What killed work left: whether it is whole, and, after the next start, whether it is what uninterrupted work gives."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np

from tests.torture.kill_targets import IMAGES


def check(name: str, folder: Path) -> None:
    """What a reader would find after a kill: whole files, or none; an error where there are half ones."""
    CHECKS[name](folder)


def _patches(folder: Path) -> None:
    for about in folder.glob("cache/[!.]*/store.json"):
        json.loads(about.read_text(encoding="utf-8"))
        np.load(about.parent / "patches.npy", mmap_mode="r")[-1]
        np.load(about.parent / "table.npz")["class_ids"]


def _download(folder: Path) -> None:
    from malaria_cells.data.annotations import load_annotations

    if (folder / "data" / "bbbc041").exists():
        assert len(load_annotations(folder / "data" / "bbbc041" / "training.json", None)) == 1


def _convert(folder: Path) -> None:
    from malaria_cells.data.annotations import load_annotations

    if (folder / "coco").exists():
        assert len(load_annotations(folder / "coco", None)) == len(IMAGES)


def _review(folder: Path) -> None:
    from malaria_cells.data.annotations import load_annotations

    if (folder / "review" / "annotations.json").exists():
        found = load_annotations(folder / "review" / "annotations.json", None)
        assert all(len(image.class_ids) == 2 for image in found.images)


def _training(folder: Path) -> None:
    from malaria_cells.inference.model_yaml import load_description
    from malaria_cells.models.stored.checksums import check_checksums, checksums

    if (folder / "models" / "m").exists():
        load_description(folder / "models" / "m")
        check_checksums(folder / "models" / "m", checksums(folder / "models" / "m"), ["classifier"], "model.yaml")


def _detection(folder: Path) -> None:
    """Every table, every drawn image and the report are there whole or not at all."""
    from PIL import Image

    output = folder / "out"
    for path in (p for p in output.rglob("*") if p.is_file() and ".writing-" not in p.name):
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".csv":
            assert path.read_bytes().endswith(b"\r\n"), path
        elif path.suffix == ".html":
            assert path.read_text(encoding="utf-8").rstrip().endswith("</html>"), path
    if (output / "counts.csv").exists():
        assert (output / "counts.csv").read_text(encoding="utf-8").count("\n") == len(IMAGES) + 2


def _export(folder: Path) -> None:
    """The model is read as before, by the engines whose networks are listed; an export is there whole or not at all."""
    from malaria_cells.inference.model_folder import load_detector

    if (folder / "model" / "model.yaml").exists():
        load_detector(folder / "model", "auto")
    if (folder / "model" / "onnx").exists():
        load_detector(folder / "model" / "onnx", "onnx")


CHECKS = {
    "patches": _patches,
    "download": _download,
    "convert": _convert,
    "review": _review,
    "training": _training,
    "detection": _detection,
    "export": _export,
}

# Files in which the work ends; of a training the network alone, since the others tell how long it took, and of an export none, which the
# answers of its networks to a fixed input check.
RESULTS = {
    "patches": "cache/[!.]*/*.npy",
    "download": "data/bbbc041/**/*",
    "convert": "coco/**/*",
    "review": "review/**/*",
    "training": "models/m/classifier.keras",
    "detection": "out/**/*",
}
OF_THE_CLOCK = {"report.html"}  # holds the time that an image took


def result(name: str, folder: Path) -> dict[str, str]:
    """Hashes of the files that finished work has written, by their paths; the path of the folder itself is left out of them."""
    files = folder.glob(RESULTS[name]) if name in RESULTS else ()
    return {p.relative_to(folder).as_posix(): _hash(p, folder) for p in sorted(files) if p.is_file() and p.name not in OF_THE_CLOCK}


def _hash(path: Path, folder: Path) -> str:
    if path.suffix != ".keras":
        return hashlib.sha256(path.read_bytes().replace(str(folder).encode(), b"")).hexdigest()
    with zipfile.ZipFile(path) as network, h5py.File(io.BytesIO(network.read("model.weights.h5"))) as file:  # its metadata hold the date
        digest = hashlib.sha256()
        file.visititems(lambda name, item: digest.update(name.encode() + item[()].tobytes()) if isinstance(item, h5py.Dataset) else None)
        return digest.hexdigest()
