"""The same seed on the same machine gives the same weights and detections, bit for bit, through a full disk and a resume too."""

import json

import keras
import numpy as np
import pytest
import yaml

from malaria_cells.app.cli import main
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.model_folder import load_detector
from tests.small_disk import LimitedFiles
from tests.test_full_disk import noise

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def others_undisturbed():
    """Other tests of the process train as they would."""
    from tensorflow.python.framework import config

    yield
    config.disable_op_determinism()


@pytest.fixture
def config(tmp_path):
    """A recipe with what draws: dropout, sampling, moved and mixed patches and initial weights."""
    objects = {"ring": (10, 10, 38, 38), "red blood cell": (60, 20, 90, 50)}
    entries = []
    for i in range(6):
        noise(tmp_path / "set" / f"{i}.png", i)
        cells = [
            {"category": name, "bounding_box": {"minimum": {"r": y, "c": x}, "maximum": {"r": bottom, "c": right}}}
            for name, (x, y, right, bottom) in objects.items()
        ]
        shape = {"r": 100, "c": 120, "channels": 3}
        entries.append({"image": {"checksum": "", "pathname": f"/{i}.png", "shape": shape}, "objects": cells})
    (tmp_path / "set" / "training.json").write_text(json.dumps(entries), encoding="utf-8")
    content = {
        "train_images": str(tmp_path / "set"),
        "labels": list(objects),
        "infected_labels": ["ring"],
        "red_cell_labels": ["red blood cell"],
        "patch_cache": str(tmp_path / "cache"),
        "name": "m",
        "deterministic": True,
        "epochs": 3,
        "steps_per_epoch": 2,
        "batch_size": 16,
        "image_size": [16, 16],
        "proposals": "watershed",
        "augmentation": "slides+mixup",
        "kept_weights": "last",
        "early_stopping": None,
        "tta": 1,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return tmp_path / "config.yaml"


def train(config, models, *more):
    return main(["train", "--config", str(config), "--set", f"output_models={models}", *more])


def answers_of(model):
    """Weights, and what is detected in an image."""
    detector = load_detector(model, "keras")[0]
    found = detector.detect(np.random.default_rng(1).integers(0, 255, (100, 120, 3), dtype=np.uint8))
    weights = keras.saving.load_model(model / "classifier.keras", compile=False).get_weights()
    return [*weights, found.xyxy, found.confidence, found.data["probabilities"]]


def test_through_a_full_disk_and_a_resume(config, tmp_path, monkeypatch, capsys):
    """Two trainings, of which the second finds no room for the state after its second epoch, and what both detect."""
    assert train(config, tmp_path / "whole") == 0
    save, disk = RunState.save, LimitedFiles(tmp_path / "cut")

    def save_without_room(run, *arguments):
        with disk.room(1000 if len(run.history) == 1 else 1 << 40):
            save(run, *arguments)

    monkeypatch.setattr(RunState, "save", save_without_room)
    capsys.readouterr()
    assert train(config, tmp_path / "cut") == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.rstrip().endswith("error: File too large; make room, then run the command again")
    monkeypatch.setattr(RunState, "save", save)
    assert train(config, tmp_path / "cut", "--resume") == 0
    assert "epoch 1/3" not in capsys.readouterr().err
    pairs = list(zip(answers_of(tmp_path / "whole" / "m"), answers_of(tmp_path / "cut" / "m"), strict=True))
    assert all(np.array_equal(ours, theirs) for ours, theirs in pairs)
