"""Published systems by their own terms, from a YAML to a scored result, with no code touched."""

import csv
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from malaria_cells.app.cli import main
from malaria_cells.config import load_config
from malaria_cells.data.dataset import load_data_set

# The keys and values of the pneumonia configuration that is copied from repository to repository.
COPIED = """
batch_size: 60
epochs: 35
image_size: [150, 150]
labels: [NORMAL, PNEUMONIA]
output_models: models/
plot_training_data: true
random_state: 42
test_size: 0.3
train_images: chest_xray/train/
train_size: 1000
validation_steps: 15
steps_per_epoch: 60
"""


def chest_xray(folder, n=40):
    """Grey images, of which the second class has a bright spot somewhere."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:180, 0:220]
    for spot, name in enumerate(("NORMAL", "PNEUMONIA")):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            image = 90 + 40 * np.cos(x / 30) + rng.normal(0, 12, x.shape)
            cx, cy = rng.uniform(50, 170), rng.uniform(50, 130)
            image += spot * 90 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 900)
            Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(folder / name / f"{i}.jpeg")


@pytest.mark.slow
def test_the_copied_configuration_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    chest_xray(tmp_path / "chest_xray" / "train")
    (tmp_path / "c.yaml").write_text(COPIED)
    # All keys are as copied; only the length is cut, by the command line, so that the test ends.
    assert main(["train", "--config=c.yaml", "--set", "epochs=2", "--set", "steps_per_epoch=6"]) == 0
    said = capsys.readouterr()
    assert "train_size: 'NORMAL' has 40 images, 1000 were asked for; all are taken" not in said.out
    (model,) = (tmp_path / "models").iterdir()
    assert (model / "training_data.png").is_file()
    saved = yaml.safe_load((model / "config.yaml").read_text())
    assert {k: v for k, v in yaml.safe_load(COPIED).items() if saved[k] != v} == {"epochs": 35, "steps_per_epoch": 60}
    metrics = json.loads((model / "metrics.json").read_text())["test"]
    assert metrics["patches"] == 24  # three tenths of eighty
    assert 0 <= metrics["roc_auc"] <= 1
    assert set(metrics["per_class"]) == {"NORMAL", "PNEUMONIA"}
    request = ["run", "--model", str(model), "--image", "chest_xray/train", "--annotations", "chest_xray/train", "--output", "out"]
    assert main(request) == 0
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "label", "score", "p_NORMAL", "p_PNEUMONIA"]
    assert [r["image"] for r in rows] == sorted(f"{name}/{i}.jpeg" for name in ("NORMAL", "PNEUMONIA") for i in range(40))
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["patches"] == 80


def test_every_key_of_the_copied_configuration_is_understood(tmp_path):
    from malaria_cells.config import load_config

    (tmp_path / "c.yaml").write_text(COPIED)
    config = load_config(tmp_path / "c.yaml")
    assert config.labels == ["NORMAL", "PNEUMONIA"]
    assert (config.train_size, config.test_size, config.validation_steps) == (1000, 0.3, 15)


@pytest.mark.slow
def test_a_voc_set_in_the_bccd_layout_trains_and_detects(sample, tmp_path, monkeypatch, capsys):
    """Rendered smears, rewritten as BCCD is laid out, from a YAML that names paths and labels alone."""
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(sample), str(tmp_path / "BCCD"), "--to", "voc"]) == 0
    main_lists = tmp_path / "BCCD" / "ImageSets" / "Main"
    stems = (main_lists / "train.txt").read_text().split()
    for name, part in {"train": stems[:5], "val": stems[5:6], "trainval": stems[:6], "test": stems[6:]}.items():
        (main_lists / f"{name}.txt").write_text("\n".join(part) + "\n")
    labels = ["red blood cell", "ring", "trophozoite", "schizont", "gametocyte", "leukocyte"]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"name": "bccd", "train_images": "BCCD", "labels": labels}))
    assert main(["train", "--config=c.yaml", "--set", "epochs=2", "--set", "steps_per_epoch=40", "--set", "proposals=watershed"]) == 0
    table = capsys.readouterr().out
    assert [line.split()[:2] for line in table.splitlines()[1:4] if line[:5] in {"train", "valid", "test "}]
    request = ["run", "--model", "models/bccd", "--image", "BCCD/JPEGImages", "--annotations", "BCCD", "--output", "out"]
    assert main(request) == 0
    scored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert scored["images"] == 8
    assert scored["cell"]["recall50"] > 0.8


@pytest.mark.slow
def test_scanned_classification_from_yaml(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chest_xray(tmp_path / "set", n=12)
    content = {"name": "m", "train_images": "set", "labels": ["NORMAL", "PNEUMONIA"], "image_size": [96, 96], "tta": {"runs": 4, "scan": 4}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(content | {"epochs": 1, "steps_per_epoch": 2, "batch_size": 8}))
    assert main(["train", "--config=c.yaml"]) == 0
    tables = []
    for output, options in (("a", []), ("b", []), ("c", ["--tta", "1"])):
        assert main(["run", "--model", "models/m", "--image", "set", "--output", output, *options]) == 0
        tables.append((tmp_path / output / "predictions.csv").read_bytes())
    assert tables[0] == tables[1] != tables[2]


def test_groups_of_published_configs_fit_the_genuine_data(repository, iml, laboratories):
    """The set's own split.json is no leak by the groups, and every image has one."""
    images = load_data_set(load_config(repository / "configs" / "iml.yaml", [f"train_images={iml}"]))
    assert len(images.test) == 45
    assert len({p.group for p in images.all_images.images}) < 40
    cells = load_data_set(load_config(repository / "configs" / "nih.yaml", [f"train_images={laboratories / 'nih'}"]))
    assert len({p.group for p in cells.all_images.images}) == 40  # patients
