"""The shipped model: small, loadable, used where no model is named, and as good as its card says."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from malaria_cells.app.cli import main


def test_it_is_small_and_has_a_card(repository):
    folder = repository / "pretrained" / "thin_smear"
    assert sum(p.stat().st_size for p in folder.iterdir()) < 8e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "not a medical device" in card
    terms = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))["terms"]
    assert all("BBBC041" in text and "CC BY-NC-SA" in text and "research" in text for text in (card, terms))
    assert "/" + "home" not in (folder / "config.yaml").read_text() + (folder / "model.yaml").read_text()


def test_run_uses_it_where_no_model_is_named(sample, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # wherever it is called from
    image = str(sorted((sample / "images").iterdir())[0])
    assert main(["run", "--image", image]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^1 image: \d+ cells, \d+ of \d+ red cells infected: [\d.]+ %, 95 % interval", said, re.M)
    columns = (tmp_path / "results" / "counts.csv").read_text().splitlines()[0].split(",")
    labels = ["red blood cell", "leukocyte", "gametocyte", "ring", "trophozoite", "schizont", "platelet"]
    assert columns[:9] == ["image", *labels, "infected"]


def kept_figures(repository):
    return json.loads((repository / "pretrained" / "thin_smear" / "metrics.json").read_text(encoding="utf-8"))["by_data_set"]


def test_readme_and_card_have_the_figures_of_the_shipped_model(repository, tmp_path):
    """And a copy of them in which a figure was changed is noticed, and written right."""
    pages = ("README.md", "pretrained/thin_smear/README.md")
    for name in ("docs/figures.py", "pretrained/thin_smear/metrics.json", *pages):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, tmp_path / name)

    def figures(*options):
        return subprocess.run([sys.executable, tmp_path / "docs" / "figures.py", *options], capture_output=True, text=True, check=False)

    checked = figures("--check")
    assert (checked.returncode, checked.stderr) == (0, "")
    shown = f"{kept_figures(repository)['iml']['cell']['AP50']:.3f}"
    for name in pages:
        right = (tmp_path / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(right.replace(shown, "0.123"), encoding="utf-8")
        checked = figures("--check")
        assert checked.returncode == 1
        assert f"{tmp_path / name}: its figures are not those of" in checked.stderr
        assert figures().returncode == 0
        assert (tmp_path / name).read_text(encoding="utf-8") == right


def test_the_results_page_has_the_figures_of_the_shipped_model(repository):
    """The rows of the card's table."""
    card = (repository / "pretrained" / "thin_smear" / "README.md").read_text(encoding="utf-8")
    page = (repository / "docs" / "results.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (?:IML|BBBC|BCCD|Barcelona|DeepBioNet|Bangkok).*$", card.partition("figures:")[2].partition("end of figures")[0], re.M
    )
    assert len(rows) == 6
    for row in rows:
        assert row in page


@pytest.mark.slow
@pytest.mark.parametrize(("name", "place"), [("iml", "."), ("bbbc041", "../labs/bbbc041")])
def test_it_is_as_good_as_its_card_says(name, place, iml, repository, tmp_path):
    """On the images of the two laboratories that have malaria."""
    data, kept = iml / place, kept_figures(repository)[name]
    if not data.is_dir():
        pytest.skip(f"{data}: no such folder")
    annotated = ",".join(label for label, row in kept["per_class"].items() if row["n"])
    options = {"image": data / "images", "annotations": data / "annotations.json", "split": data / "split.json"}
    options |= {"annotated-labels": annotated, "output": tmp_path / "out"}
    assert main(["run", *(part for key, value in options.items() for part in (f"--{key}", str(value)))]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["mAP50"] == pytest.approx(kept["mAP50"], abs=0.02)
    assert metrics["infected"]["f1"] == pytest.approx(kept["infected"]["f1"], abs=0.02)
    assert metrics["infected"]["AP50"] == pytest.approx(kept["infected"]["AP50"], abs=0.02)
    assert metrics["cell"] == pytest.approx(kept["cell"], abs=0.005)
