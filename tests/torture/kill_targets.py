"""Work that is killed at a random moment: `python -m tests.torture.kill_targets NAME FOLDER` does it from start to end.

Each does its work once more where it is called again, as a person would. `check` says whether what is there is whole.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

from tests.conftest import write_bbbc041

CELLS = [("ring", 5, 6, 30, 41), ("red blood cell", 40, 1, 99, 79)]
IMAGES = {f"images/{i:02}.png": CELLS for i in range(12)}


def _write_data(folder: Path) -> Path:
    path = folder / "set" / "training.json"
    return path if path.is_file() else write_bbbc041(folder / "set", IMAGES)


def patches(folder: Path) -> None:
    """Cut patches into a store, and open it."""
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.data.patch_store import Cropping, build_patch_store

    annotations = load_annotations(_write_data(folder), None)
    for seed in range(3):
        store = build_patch_store(annotations, Cropping((64, 64), 1.25, 20, seed), folder / "cache")
        assert len(store.class_ids) == len(store.patches)
        assert store.patches[-1].shape == (64, 64, 3)


def download(folder: Path) -> None:
    """Fetch and unpack a data set of the server that the environment names."""
    from malaria_cells.app.commands.download import download as fetch

    fetch(["bbbc041"], folder / "data")


def convert(folder: Path) -> None:
    """Write a data set in another format, of which the folder appears whole or not at all."""
    from malaria_cells.app.cli import main

    target = folder / "coco"
    if not target.exists():
        assert main(["convert", str(_write_data(folder)), str(target), "--to", "coco"]) == 0


def review(folder: Path) -> None:
    """Save the corrections of images, one after the other, as the page does."""
    import io

    from PIL import Image

    from malaria_cells.app.page.review_file import save_correction
    from malaria_cells.app.page.uploads import UploadedImage
    from malaria_cells.data.labels import LabelSet

    labels = LabelSet(("red blood cell", "ring"))
    for i in range(6):
        pixels = np.full((80, 100, 3), 30 * i, np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        image = UploadedImage(f"{i}.png", buffer.getvalue(), pixels, None)
        boxes = np.array([[5, 6, 30, 41], [40, 1, 99, 79]], np.float32)
        save_correction(folder / "review", image, boxes, np.array([1, 0]), labels)


def training(folder: Path) -> None:
    """Train a tiny classifier; what was interrupted goes on."""
    from malaria_cells.app.cli import main

    _write_data(folder)
    models = folder / "models"
    (folder / "config.yaml").write_text(json.dumps(_training_config(folder)), encoding="utf-8")
    if (models / "m" / "model.yaml").is_file():
        return
    resume = ["--resume"] if any(models.glob(".*unfinished*")) else []
    assert main(["train", "--config", str(folder / "config.yaml"), *resume]) == 0


def _training_config(folder: Path) -> dict[str, object]:
    return {
        "train_images": str(folder / "set"),
        "labels": ["ring", "red blood cell"],
        "output_models": str(folder / "models"),
        "patch_cache": str(folder / "cache"),
        "name": "m",
        "epochs": 3,
        "steps_per_epoch": 3,
        "image_size": [32, 32],
        "proposals": "watershed",
        "augmentation": "none",
    }


def check(name: str, folder: Path) -> None:
    """What a reader would find after a kill: whole files, or none; an error where there are half ones."""
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.inference.model_yaml import load_description
    from malaria_cells.models.stored.checksums import check_checksums, checksums

    if name == "patches":
        for about in folder.glob("cache/[!.]*/store.json"):
            json.loads(about.read_text(encoding="utf-8"))
            np.load(about.parent / "patches.npy", mmap_mode="r")[-1]
            np.load(about.parent / "table.npz")["class_ids"]
    elif name == "download" and (folder / "data" / "bbbc041").exists():
        assert len(load_annotations(folder / "data" / "bbbc041" / "training.json", None)) == 1
    elif name == "convert" and (folder / "coco").exists():
        assert len(load_annotations(folder / "coco", None)) == len(IMAGES)
    elif name == "review" and (folder / "review" / "annotations.json").exists():
        found = load_annotations(folder / "review" / "annotations.json", None)
        assert all(len(image.class_ids) == 2 for image in found.images)
    elif name == "training" and (folder / "models" / "m").exists():
        load_description(folder / "models" / "m")
        check_checksums(folder / "models" / "m", checksums(folder / "models" / "m"), ["classifier"], "model.yaml")


TARGETS = {"patches": patches, "download": download, "convert": convert, "review": review, "training": training}

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import malaria_cells.app.cli  # noqa: F401  the time of imports is not that of the work

    print("begins", flush=True)
    TARGETS[sys.argv[1]](Path(sys.argv[2]))
