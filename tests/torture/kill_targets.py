"""Work that is killed at a random moment: `python -m tests.torture.kill_targets NAME FOLDER` does it from start to end.

Each does its work once more where it is called again, as a person would. `kill_checks.check` says whether what is there is whole.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

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


def detection(folder: Path) -> None:
    """Detect on all images; a killed run is refused without `--resume`, and goes on with it, or begins again without its journal."""
    from malaria_cells.app.cli import main
    from malaria_cells.results.output_folder import UNFINISHED
    from malaria_cells.results.run_journal import JOURNAL, has_finished_images

    output = folder / "out"
    request = ["run", "--model", str(_once(folder / "model", _tiny_export)), "--image", str(_once(folder / "in", _smears))]
    request += ["--output", str(output)]
    if has_finished_images(output):
        assert main(request) == 2
        if folder.name.endswith(("1", "3", "5", "7", "9")):
            (output / JOURNAL).unlink()
    resume = ["--resume"] if (output / UNFINISHED).exists() and (output / JOURNAL).exists() else []
    assert main([*request, *resume]) == 0


def _tiny_export(folder: Path) -> None:
    from tests.tiny_exports import save_export

    save_export(folder, 6)


def _smears(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for key in IMAGES:
        pixels = np.kron(rng.integers(60, 220, (6, 8, 3), dtype=np.uint8), np.ones((20, 20, 1), np.uint8))
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / key)


def _once(folder: Path, write: Callable[[Path], None]) -> Path:
    """Write a folder that the work needs, unless it is there; the work is not to be killed for that."""
    if not folder.exists():
        (new := folder.with_name(f"{folder.name}.new")).mkdir(exist_ok=True)
        write(new)
        new.rename(folder)
    return folder


def export(folder: Path) -> None:
    """Write a model's network for ONNX Runtime into a folder of its own, and beside Keras' file."""
    from malaria_cells.app.cli import main
    from tests.torture.models import write_model

    model = str(_once(folder / "model", lambda path: write_model("keras", path)))
    assert main(["export", "--model", model, "--format", "onnx"]) == 0
    assert main(["export", "--model", model, "--format", "onnx", "--beside"]) == 0


TARGETS = {
    "patches": patches,
    "download": download,
    "convert": convert,
    "review": review,
    "training": training,
    "detection": detection,
    "export": export,
}

# Imported before the work begins, since the kills are to fall into the work.
IMPORTED = {
    "patches": ["malaria_cells.data.patch_store"],
    "download": ["malaria_cells.app.commands.download"],
    "convert": ["malaria_cells.app.commands.convert"],
    "review": ["malaria_cells.app.page.review_file"],
    "training": ["malaria_cells.app.commands.train"],
    "detection": ["malaria_cells.app.commands.run", "malaria_cells.inference.model_folder", "onnxruntime", "tests.tiny_exports"],
    "export": ["tests.torture.models", "tensorflow", "malaria_cells.app.commands.export"],
}

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for module in ("malaria_cells.app.cli", *IMPORTED[sys.argv[1]]):
        importlib.import_module(module)
    print("begins", flush=True)
    TARGETS[sys.argv[1]](Path(sys.argv[2]))
