"""The shipped model: small, loadable, used where no model is named, and as good as its card says."""

import json
import re

import pytest

from malaria_cells.cli import main


def test_it_is_small_and_has_a_card(repository):
    folder = repository / "pretrained" / "vivax"
    assert sum(p.stat().st_size for p in folder.iterdir()) < 4e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "not a medical device" in card
    assert "/" + "home" not in (folder / "config.yaml").read_text() + (folder / "model.yaml").read_text()


def test_run_uses_it_where_no_model_is_named(sample, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # wherever it is called from
    picture = str(sorted((sample / "images").iterdir())[0])
    assert main(["run", "--image", picture]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^1 picture: \d+ cells, \d+ of \d+ red cells infected: [\d.]+ %, 95 % interval", said, re.M)
    columns = (tmp_path / "results" / "counts.csv").read_text().splitlines()[0].split(",")
    assert columns[:7] == ["image", "red blood cell", "gametocyte", "ring", "trophozoite", "schizont", "infected"]


@pytest.mark.slow
def test_it_is_as_good_as_its_card_says(iml, tmp_path):
    options = {"image": iml / "images", "annotations": iml / "annotations.json", "split": iml / "split.json", "output": tmp_path / "out"}
    assert main(["run", *(part for key, value in options.items() for part in (f"--{key}", str(value)))]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["mAP50"] == pytest.approx(0.889, abs=0.02)
    assert metrics["cell"]["AP50"] == pytest.approx(0.975, abs=0.005)
    assert metrics["cell"]["recall50"] == pytest.approx(0.992, abs=0.005)
    assert metrics["infected"]["f1"] == pytest.approx(0.876, abs=0.02)
    assert metrics["infected"]["AP50"] == pytest.approx(0.914, abs=0.02)
