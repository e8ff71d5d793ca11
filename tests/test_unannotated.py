"""A detection of a class that nobody annotated is neither right nor wrong, in every figure, unless it lies on an annotated cell."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from malaria_cells.app.cli import main
from malaria_cells.app.commands.run_truth import read_truth
from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.evaluation import average_precision, class_matches, detection_metrics, error_rates
from malaria_cells.evaluation.by_data_set import figures_by_data_set
from malaria_cells.evaluation.error_analysis import confusion, score_reliability
from malaria_cells.results.scored_by import describe_labels
from malaria_cells.results.training_report import figures_by_data_set as section
from malaria_cells.training.thresholds import _best_cell_threshold
from tests.conftest import write_bbbc041
from tests.test_evaluation import LABELS, detections, image, random_case
from tests.test_scoring import request

RED, LEUKOCYTE, RING, SCHIZONT = range(4)
CELLS = [[10, 10, 50, 50], [100, 10, 140, 50], [200, 10, 240, 50]]
ELSEWHERE = [[10, 200, 50, 240], [100, 200, 140, 240]]


def everything(images, found):
    matches = class_matches(images, found, LABELS, average_precision(images, found, LABELS).ap50)
    return detection_metrics(images, found, LABELS, None).to_json(), matches, confusion(images, found, LABELS).tolist()


def test_what_nobody_looked_for_changes_no_figure():
    """Leukocytes and schizonts where nobody annotated any: the figures are those without them."""
    truth = replace(image(CELLS, [RED, RED, RING]), unannotated=(LEUKOCYTE, SCHIZONT))
    plain = detections(CELLS, [RED, RED, RING], [0.9, 0.8, 0.7])
    more = detections([*CELLS, *ELSEWHERE], [RED, RED, RING, LEUKOCYTE, SCHIZONT], [0.9, 0.8, 0.7, 0.95, 0.95])
    assert everything([truth], [more]) == everything([truth], [plain])
    assert score_reliability([truth], [more]).n.sum() == 3
    figures = everything([truth], [more])[0]
    assert figures["mAP50"] == figures["cell"]["AP50"] == figures["cell"]["precision"] == figures["infected"]["f1"] == 1
    # Of annotated classes they are false alarms, as ever.
    asked = everything([replace(truth, unannotated=())], [more])[0]
    assert asked["cell"]["precision"] == pytest.approx(3 / 5)
    assert asked["infected"]["precision"] == 0.5
    assert asked["cell"]["AP50"] < 1


def test_on_a_cell_that_is_annotated_as_another_it_is_wrong():
    truth = replace(image(CELLS, [RED, RED, RING]), unannotated=(LEUKOCYTE, SCHIZONT))
    found = detections(CELLS, [RED, SCHIZONT, RING], [0.9, 0.8, 0.7])
    assert error_rates([truth], [found], LABELS).false_alarms == 1
    assert confusion([truth], [found], LABELS)[RED, SCHIZONT] == 1


def test_a_set_without_a_class_says_nothing_of_that_class():
    """Of two laboratories one annotates rings: the AP of rings is that of its images, wherever the other's rings lie."""
    first = image(CELLS, [RED, RING, RING], "a.png")
    other = replace(image(CELLS, [RED, RED, RED], "b.png"), unannotated=(RING,))
    in_first = detections(CELLS, [RED, RING, RED], [0.9, 0.6, 0.7])
    in_other = detections([*CELLS, *ELSEWHERE], [RED, RING, RED, RING, RING], [0.9] * 5)
    both, alone = average_precision([first, other], [in_first, in_other], LABELS), average_precision([first], [in_first], LABELS)
    assert both.ap50[RING] == alone.ap50[RING] == pytest.approx(51 / 101)
    assert both.n[RING] == 2


def test_further_labels_of_such_a_detection_are_no_false_alarms_either():
    truth = replace(image(CELLS, [RED, RED, RED]), unannotated=(LEUKOCYTE,))
    found = detections([*CELLS, ELSEWHERE[0]], [RED, RED, RED, LEUKOCYTE], [0.5, 0.5, 0.5, 0.6])
    scores = np.zeros((4, 4))
    scores[:, RED] = [0.5, 0.5, 0.5, 0.55]
    found = replace(found, label_scores=scores)
    assert average_precision([truth], [found], LABELS).ap50[RED] == 1
    assert average_precision([replace(truth, unannotated=())], [found], LABELS).ap50[RED] < 1


@pytest.mark.parametrize("seed", range(3))
def test_what_is_annotated_everywhere_is_scored_as_ever(seed):
    images, found = random_case(seed)
    assert everything([replace(p, unannotated=()) for p in images], found) == everything(images, found)
    # No class left unasked but one that was never predicted: nothing changes.
    found = [d[d.class_id != SCHIZONT] for d in found]
    images = [replace(p, class_ids=np.where(p.class_ids == SCHIZONT, RING, p.class_ids)) for p in images]
    assert everything([replace(p, unannotated=(SCHIZONT,)) for p in images], found) == everything(images, found)


def test_the_cell_threshold_is_not_chosen_by_them():
    truth = replace(image(CELLS, [RED, RED, RED]), unannotated=(LEUKOCYTE,))
    found = detections([*CELLS, *ELSEWHERE], [RED, RED, RED, LEUKOCYTE, LEUKOCYTE], [0.9] * 5)
    found = replace(found, objectness=np.array([0.3, 0.3, 0.3, 0.5, 0.5], dtype=np.float32))
    low = _best_cell_threshold([truth], [found])
    assert low == _best_cell_threshold([truth], [found[:3]])


def test_run_is_told_which_labels_were_annotated(untrained_model, tmp_path, capsys):
    write_bbbc041(tmp_path / "set", {"0.png": [("red blood cell", 1, 1, 30, 30)]})
    words = ["run", "--model", untrained_model, "--image", tmp_path / "set", "--annotations", tmp_path / "set" / "training.json"]
    words = [str(w) for w in [*words, "--output", tmp_path / "out"]]
    assert main([*words, "--annotated-labels", "red blood cell,ring"]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["unannotated_labels"] == ["leukocyte", "gametocyte", "trophozoite", "schizont"]
    assert (
        "so their detections outside annotated cells are not scored: leukocyte, gametocyte, trophozoite, schizont"
        in capsys.readouterr().out
    )
    assert "--annotated-labels" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert main(words) == 0
    assert "unannotated_labels" not in json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert main([*words, "--annotated-labels", "rings"]) == 2
    assert "--annotated-labels: 'rings' is not in labels (did you mean 'ring'?)" in capsys.readouterr().err
    assert main([*words, "--annotated-labels", "ring"]) == 2
    assert "--annotated-labels: 'red blood cell' is missing, but the annotation has 1 cell of it" in capsys.readouterr().err
    assert main([*words[:5], "--annotated-labels", "ring"]) == 2
    assert "--annotated-labels: applies to an annotation that detections are scored against" in capsys.readouterr().err


def test_false_alarms_of_labels_that_no_annotation_has_are_pointed_out(tmp_path, six_classes):
    write_bbbc041(tmp_path, {"0.png": [("red blood cell", 1, 1, 30, 30), ("ring", 40, 40, 70, 70)]})
    truth = list(read_truth(request(tmp_path), tmp_path, ["0.png"], six_classes).images)
    found = detections([[1, 1, 30, 30], [40, 1, 60, 30]], [0, 1], [0.9, 0.9], n_classes=7, labels=six_classes)
    said = describe_labels(truth, [found], six_classes)
    assert said.startswith("labels without an annotation, so each detection is a false alarm: leukocyte (1 in all)")
    assert said.endswith("add --annotated-labels 'red blood cell,ring'")
    assert describe_labels(truth, [found[:1]], six_classes) == ""


def test_whole_images_know_no_such_labels(untrained_model, tmp_path):
    from malaria_cells.app.commands.run import run

    write_bbbc041(tmp_path, {"0.png": [("ring", 1, 1, 30, 30)]})
    with pytest.raises(InputError, match="--annotated-labels: applies to detections only"):
        run(request(tmp_path, model=untrained_model, mode="classify", annotated_labels=["ring"]))


def test_figures_by_data_set_are_those_of_each_alone():
    images, found = random_case(1, n_images=4)
    images = [replace(p, data_set="ba"[i % 2]) for i, p in enumerate(images)]
    figures = figures_by_data_set(AnnotationSet(LABELS, tuple(images)), {p.key: d for p, d in zip(images, found, strict=True)})
    assert list(figures) == ["a", "b"]
    rates = error_rates(images[1::2], found[1::2], LABELS)
    alone = detection_metrics(images[1::2], found[1::2], LABELS, None).to_json()
    assert figures["a"] == alone | {"counts": asdict(rates)}
    table = section(figures)
    assert [row[:2] for row in table.rows] == [("a", "2"), ("b", "2")]
    assert table.columns[:3] == ("data set", "images", "mAP50")
