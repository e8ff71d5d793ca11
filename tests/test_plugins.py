"""The package of `CONTRIBUTING.md` adds one of each kind from files of its own, by an entry point, and is trained and detected with."""

import csv
import os
import re
import subprocess
import sys

import pytest
import yaml

from malaria_cells.base.errors import InputError
from malaria_cells.base.registry import Registry
from malaria_cells.data.sample import write_sample


@pytest.fixture
def program(repository, tmp_path):
    """Runs a script of the repository where the package is installed."""
    files = re.findall(r"```python\n# (extras/\w+\.py)\n(.*?)```", (repository / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(files) == 7
    packages = tmp_path / "packages"
    for name, content in files:
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(content, encoding="utf-8")
    about = packages / "extras-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: extras\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[malaria_cells]\nextras = extras\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), str(repository)])}

    def run(*arguments):
        command = [sys.executable, "-m", "malaria_cells", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


def test_names_are_known_wherever_they_are_used(program, tmp_path):
    assert "| Lines | `lines` | a text whose first line is" in program("formats").stdout
    wrong = program("export", "--model", tmp_path, "--format", "twn")
    assert wrong.returncode == 2
    assert "twin" in wrong.stderr


def test_a_plugin_that_cannot_be_imported_is_named(program, tmp_path):
    (tmp_path / "packages" / "extras" / "__init__.py").write_text("import not_there", encoding="utf-8")
    failed = program("formats")
    assert failed.returncode == 2
    assert "the plugin 'extras' of extras (extras) cannot be loaded (No module named 'not_there'); mend or uninstall it" in failed.stderr


@pytest.mark.slow
def test_one_of_each_is_trained_exported_and_detected_with(program, tmp_path):
    write_sample(tmp_path / "sample", training=10, test=2, seed=3, size_wh=(320, 240))
    done = program("convert", "sample/training.json", "lines", "--to", "lines")
    assert "images are not copied" in done.stdout, done.stderr
    (tmp_path / "sample" / "training.boxes").write_text((tmp_path / "lines" / "annotations.boxes").read_text(), encoding="utf-8")
    settings = {
        "train_images": "sample",
        "annotations": "sample/training.boxes",
        "model": "two_layers",
        "augmentation": "flips+brightness",
        "proposals": "grid",
        "name": "m",
        "epochs": 1,
        "steps_per_epoch": 4,
        "batch_size": 16,
        "image_size": "[32, 32]",
        "start_from": "null",
        "refiner": "null",
        "tta": 1,
    }
    done = program("train", "--config", "configs/from_scratch.yaml", *(part for k, v in settings.items() for part in ("--set", f"{k}={v}")))
    assert done.returncode == 0, done.stderr
    for _ in range(2):  # the second replaces the first
        done = program("export", "--model", "models/m", "--format", "twin")
        assert done.returncode == 0, done.stderr
    assert list(yaml.safe_load((tmp_path / "models" / "m" / "twin" / "model.yaml").read_text())["files"]) == ["classifier.twin"]
    tables = []
    for engine in ("keras", "twin"):
        arguments = ["--model", "models/m", "--engine", engine, "--image", "sample/images/slide5*.jpg", "--output", engine]
        done = program("run", *arguments)
        assert done.returncode == 0, done.stderr
        with (tmp_path / engine / "detections.csv").open(encoding="utf-8") as file:
            tables.append(list(csv.DictReader(file)))
    assert tables[0]
    assert [row["width"] for row in tables[0]] == [row["width"] for row in tables[1]]
    assert all(abs(float(row["x_max"]) - float(row["x_min"]) - float(row["width"])) < 0.11 for row in tables[0])
    with (tmp_path / "keras" / "counts.csv").open(encoding="utf-8") as file:
        counts = list(csv.DictReader(file))
    assert sum(int(row["boxes"]) for row in counts[:-1]) == len(tables[0])
    assert counts[-1]["boxes"] == ""


def test_a_name_is_one_entry_s_alone():
    registry = Registry("thing", "malaria_cells.results.columns")
    registry.add("a", rank=2)(1)
    registry.add("b", "c", rank=1)(2)
    assert registry.names == ("b", "c", "a")
    assert registry["c"] == 2
    with pytest.raises(ValueError, match="thing: 'a' is already added"):
        registry.add("a")(3)
    with pytest.raises(InputError, match=r"thing: 'd' is unknown.*; expected one of b, c, a"):
        registry["d"]
