"""The shipped model: small, loadable, used where no model is named, and as good as its card says."""

import json
import re
import shutil
import subprocess
import sys

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


def kept_figures(repository):
    return json.loads((repository / "pretrained" / "vivax" / "metrics.json").read_text(encoding="utf-8"))["detection"]


def test_readme_and_card_have_the_figures_of_the_shipped_model(repository, tmp_path):
    """And a copy of them in which a figure was changed is noticed, and written right."""
    pages = ("README.md", "pretrained/vivax/README.md")
    for name in ("docs/figures.py", "pretrained/vivax/metrics.json", "pretrained/vivax/model.yaml", *pages):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, tmp_path / name)

    def figures(*options):
        return subprocess.run([sys.executable, tmp_path / "docs" / "figures.py", *options], capture_output=True, text=True, check=False)

    checked = figures("--check")
    assert (checked.returncode, checked.stderr) == (0, "")
    for name in pages:
        right = (tmp_path / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(right.replace("0.876", "0.890"), encoding="utf-8")
        checked = figures("--check")
        assert checked.returncode == 1
        assert f"{tmp_path / name}: its figures are not those of" in checked.stderr
        assert figures().returncode == 0
        assert (tmp_path / name).read_text(encoding="utf-8") == right


def test_the_results_page_has_the_figures_of_the_shipped_model(repository):
    page = (repository / "docs" / "results.md").read_text(encoding="utf-8")
    kept = kept_figures(repository)
    cell, infected, parasitemia = kept["cell"], kept["infected"], kept["parasitemia"]
    wanted = {
        "cell recall at IoU 0.5": f"{cell['recall50']:.3f}",
        "cell AP50": f"{cell['AP50']:.3f}",
        "infected precision": f"{infected['precision']:.3f}",
        "infected recall": f"{infected['recall']:.3f}",
        "infected F1": f"{infected['f1']:.3f}",
        "infected AP50": f"{infected['AP50']:.3f}",
        "false alarms per 1,000 red cells": f"{infected['false_alarms_per_1000_red_cells']:.1f}",
        "mAP50": f"{kept['mAP50']:.3f}",
        "mAP": f"{kept['mAP']:.3f}",
        "micro F1 of all cells": f"{kept['micro_f1']:.3f}",
        "parasitemia, mean absolute error": f"{100 * parasitemia['mean_absolute_error']:.2f} points",
    }
    wanted |= {f"AP50 {name} ({row['n']:,})": f"{row['AP50']:.3f}" for name, row in kept["per_class"].items()}
    for name, figure in wanted.items():
        assert f"\n| {name} | {figure} |" in page, name
    ours = [f"{v:.3f}" for v in (kept["mAP50"], cell["AP50"], cell["recall50"], infected["f1"], infected["AP50"])]
    assert f"\n| ours | {' | '.join(ours)} |" in page
    assert f"\n| 1 | {ours[0]} | {ours[2]} | {ours[3]} | {ours[0]} | {ours[2]} | {ours[3]} |" in page  # once as large
    counted = [f"{cell[key]:.3f}" for key in ("recall", "precision", "f1")]
    assert "counts {} of the annotated cells, and {} of what it counts are cells\n(F1 {})".format(*counted) in page


@pytest.mark.slow
def test_it_is_as_good_as_its_card_says(iml, repository, tmp_path):
    options = {"image": iml / "images", "annotations": iml / "annotations.json", "split": iml / "split.json", "output": tmp_path / "out"}
    assert main(["run", *(part for key, value in options.items() for part in (f"--{key}", str(value)))]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    kept = kept_figures(repository)
    assert metrics["mAP50"] == pytest.approx(kept["mAP50"], abs=0.02)
    assert metrics["infected"]["f1"] == pytest.approx(kept["infected"]["f1"], abs=0.02)
    assert metrics["infected"]["AP50"] == pytest.approx(kept["infected"]["AP50"], abs=0.02)
    assert metrics["cell"] == pytest.approx(kept["cell"], abs=0.005)
