"""The page of results: complete in itself, small, and saying what the tables say."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from malaria_cells.app.cli import main
from malaria_cells.evaluation import error_analysis, micro_f1
from malaria_cells.results.document import Document, Headline, Section, plot
from tests.test_evaluation import LABELS, detections, image, truth_as_prediction

MOST_BYTES = 10e6
IMAGE = "docs/images/smear.jpg"


def check_alone(page):
    """Nothing is fetched: no address but in text, every image inlined."""
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < MOST_BYTES
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"url\(|@import|<script|<link", text)
    return text


def titles(text):
    return re.findall(r"<h2>(.*?)</h2>", text)


@pytest.mark.slow
def test_a_scored_run(untrained_model, sample, tmp_path):
    """An unread image and a scored annotation: every section that there is."""
    output = tmp_path / "results"
    arguments = ["--image", str(sample / "images"), "--annotations", str(sample / "test.json"), "--score-threshold", "0.01"]
    assert main(["run", "--model", str(untrained_model), *arguments, "--output", str(output)]) == 0
    text = check_alone(output / "report.html")
    assert titles(text) == [
        "Classes",
        "Parasitemia by image",
        "Confusion matrix",
        "Precision and recall",
        "Calibration of the scores",
        "Annotation beside detection",
        "Most doubtful cells",
        "How to reproduce this",
    ]
    metrics = json.loads((output / "metrics.json").read_text())
    assert f"<b>{metrics['mAP50']:.3f}</b>" in text
    assert f"<b>{metrics['cell']['recall']:.1%}</b>" in text
    with (output / "counts.csv").open() as file:
        total = list(csv.DictReader(file))[-1]
    assert f"<b>{100 * float(total['parasitemia']):.2f} %</b>" in text
    assert f"{int(total['infected']):,} of {int(total['red_cells']):,} red cells" in text
    assert f"--model {untrained_model}" in text
    assert "--score-threshold 0.01" in text


@pytest.mark.slow
def test_a_run_without_annotation_and_with_a_broken_image(repository, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "smear.jpg").write_bytes((repository / IMAGE).read_bytes())
    (tmp_path / "in" / "broken.jpg").write_bytes(b"no image")
    assert main(["run", "--image", str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 3
    text = check_alone(tmp_path / "out" / "report.html")
    assert "Images with most infected cells" in titles(text)
    assert "Images that failed" in titles(text)
    assert "<td>broken.jpg</td>" in text
    assert "smear.jpg: " in text


@pytest.mark.slow
def test_a_training(repository, sample, tmp_path):
    values = {"train_images": sample, "output_models": tmp_path / "m", "patch_cache": tmp_path / "c", "name": "m", "proposals": "watershed"}
    values |= {"epochs": 2, "steps_per_epoch": 10, "image_size": "[32, 32]"}
    sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    assert main(["train", "--config", str(repository / "configs" / "from_scratch.yaml"), *sets]) == 0
    text = check_alone(tmp_path / "m" / "m" / "report.html")
    assert titles(text) == [
        "Classes",
        "Training",
        "Confusion matrix",
        "Precision and recall of patches",
        "Calibration of the probabilities",
        "Annotation beside detection",
        "Parasitemia by image",
        "Most doubtful cells",
        "How to reproduce this",
    ]
    metrics = json.loads((tmp_path / "m" / "m" / "metrics.json").read_text())["test"]
    assert f"<b>{metrics['macro_f1']:.3f}</b>" in text
    assert "--set name=m" in text


def test_what_people_name_cannot_break_the_page(tmp_path):
    document = Document("<b>bold</b>", "&", "run 'a b'", [("<i>", "</dl>")], [Headline("<x>", "1", "<y>")])
    document.sections.append(Section("<h1>", "</p>", columns=("<th>",), rows=(("<td>",),)))
    document.write(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for raw in ("<b>bold", "<i>", "<x>", "<y>", "<td><td>", "<h1></h2>"):
        assert raw not in text
    assert "&lt;b&gt;bold" in text


def test_the_same_plot_is_the_same_bytes():
    from malaria_cells.results.charts import class_fractions

    counts = {"detected": np.array([300, 2, 0])}
    first, second = (plot(lambda path: class_fractions(counts, ("a", "b", "c"), path), "bars").source for _ in range(2))
    assert first == second


def test_confusion_by_hand():
    truth = image([[0, 0, 20, 20], [40, 0, 60, 20], [80, 0, 100, 20], [120, 0, 140, 20]], [0, 2, 2, -1])
    # A red cell found, a ring taken for a schizont, a ring missed, one on the ignore region, one on nothing.
    found = detections([[0, 0, 20, 20], [40, 0, 60, 20], [120, 0, 140, 20], [200, 200, 220, 220]], [0, 3, 0, 0], [0.9, 0.8, 0.9, 0.7])
    wanted = np.zeros((5, 5), dtype=int)
    wanted[0, 0] = wanted[2, 3] = wanted[2, 4] = wanted[4, 0] = 1
    assert error_analysis.confusion([truth], [found], LABELS).tolist() == wanted.tolist()


def test_score_reliability_by_hand():
    truth = image([[0, 0, 20, 20], [40, 0, 60, 20]], [0, 2])
    found = detections([[0, 0, 20, 20], [1, 0, 20, 20], [40, 0, 60, 20]], [0, 0, 3], [0.95, 0.45, 0.95])
    points = error_analysis.score_reliability([truth], [found])
    assert points.n.tolist() == [1, 2]  # the second box on the same cell is wrong, and so is the schizont on the ring
    assert points.right.tolist() == [0.0, 0.5]
    assert points.predicted == pytest.approx([0.45, 0.95])


def test_images_are_ranked_by_their_own_f1():
    perfect = image([[0, 0, 20, 20]], [0], "a.png")
    empty = replace(image([], []), key="b.png")
    missed = image([[0, 0, 20, 20]], [2], "c.png")
    found = [truth_as_prediction(perfect), detections([], [], []), detections([], [], [])]
    f1 = error_analysis.f1_by_image([perfect, empty, missed], found, LABELS)
    assert f1[0] == 1 == micro_f1([perfect], found[:1], LABELS)
    assert np.isnan(f1[1])
    assert f1[2] == 0


def test_the_curve_is_where_the_average_comes_from():
    from malaria_cells.evaluation import average_precision

    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 300, (30, 2))
    truth = image(np.concatenate([corner, corner + 25], axis=1), rng.integers(0, 4, 30))
    found = detections(truth.cells_xyxy + rng.normal(0, 6, (30, 4)), truth.cell_class_ids, rng.uniform(0.1, 1, 30))
    by_class = average_precision([truth], [found], LABELS)
    assert by_class.curve50.shape == (4, 101)
    assert by_class.curve50.mean(axis=1) == pytest.approx(by_class.ap50)


def test_words_are_set_from_the_left_and_numbers_from_the_right(tmp_path):
    rows = (("a.png", "12.5 %", "unusual", "the stain is redder"), ("b.png", "none", "unusual", ""))
    document = Document("t", "s", "run", sections=[Section("s", columns=("image", "parasitemia", "familiarity", "reason"), rows=rows)])
    document.write(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<th class="words">reason</th>' in text
    assert '<td class="words">the stain is redder</td>' in text
    assert "<th>parasitemia</th>" in text  # "none" is what stands in a column of numbers
    assert Section("s", columns=("a",)).words == frozenset()
