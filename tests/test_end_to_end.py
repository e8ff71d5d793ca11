"""From annotated images to scored detections, with nothing put in between: on rendered smears and on real images."""

import csv
import json

import pytest
import yaml

from malaria_cells.app.cli import main


def train(repository, config, folder, **settings):
    settings = {"output_models": folder / "models", "patch_cache": folder / "cache", "name": "m", "proposals": "watershed"} | settings
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    assert main(["train", f"--config={repository / config}", *sets]) == 0
    return folder / "models" / "m"


@pytest.mark.slow
def test_sample(repository, tmp_path, capsys):
    assert main(["sample", str(tmp_path / "sample"), "--training", "20", "--test", "8", "--seed", "3"]) == 0
    model = train(repository, "configs/from_scratch.yaml", tmp_path, train_images=tmp_path / "sample", epochs=4, steps_per_epoch=45)
    metrics = json.loads((model / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.95
    assert {"accuracy", "micro_f1", "macro_f1", "per_class", "confusion", "calibration_error"} <= metrics["test"].keys()
    header = (model / "history.csv").read_text().splitlines()[0]
    assert header.startswith("epoch,")
    assert "val_macro_f1" in header
    output = tmp_path / "results"
    test_images = str(tmp_path / "sample" / "images" / "slide5*.jpg")
    annotations = str(tmp_path / "sample" / "test.json")
    assert main(["run", "--model", str(model), "--image", test_images, "--annotations", annotations, "--output", str(output)]) == 0
    scored = json.loads((output / "metrics.json").read_text())
    assert scored["images"] == 8
    assert scored["mAP50"] > 0.6
    assert scored["cell"]["recall50"] > 0.9
    assert scored["infected"]["f1"] > 0.6


@pytest.mark.slow
def test_real_images(repository, iml, tmp_path):
    """A few images, a few steps: the whole way works on what a microscope gives, with a refiner and the training further."""
    everything = json.loads((iml / "annotations.json").read_text())
    split = json.loads((iml / "split.json").read_text())
    names = {"train": split["train"][:16], "test": split["test"][:3]}
    kept = [entry for entry in everything if entry["image_name"] in names["train"] + names["test"]]
    (tmp_path / "few.json").write_text(json.dumps(kept))
    (tmp_path / "split.json").write_text(json.dumps(names))
    files = {"train_images": iml, "annotations": tmp_path / "few.json", "split_file": tmp_path / "split.json"}
    short = {"epochs": 2, "steps_per_epoch": 12, "batch_size": 32, "tta": 1}
    refiner = {"model": "lite", "weights": "imagenet", "epochs": 1, "learning_rate": 0.001, "image_size": [96, 96]}
    model = train(repository, "configs/iml.yaml", tmp_path, **files, **short, refiner=json.dumps(refiner))
    description = yaml.safe_load((model / "model.yaml").read_text())
    assert 60 < description["cell_size"] < 110
    request = ["run", "--model", str(model), "--image", str(iml / "images"), "--annotations", str(tmp_path / "few.json")]
    assert main([*request, "--split", str(tmp_path / "split.json"), "--output", str(tmp_path / "results")]) == 0
    scored = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert scored["images"] == 3
    assert scored["cell"]["recall50"] > 0.8
    with (tmp_path / "results" / "counts.csv").open() as file:
        counts = list(csv.DictReader(file))
    assert [row["image"] for row in counts] == [*sorted(names["test"]), "TOTAL"]
    assert 150 < int(counts[-1]["red_cells"]) < 700
