"""A model goes on from a few annotated images."""

import csv
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from malaria_cells.app.cli import main
from malaria_cells.app.commands import adapt_data
from malaria_cells.app.commands.adapt_data import AdaptRequest, labels_for
from malaria_cells.base.errors import InputError
from malaria_cells.config import load_config, make_config
from malaria_cells.inference.calibration import Calibration, InfectionSigmoid, fit_calibration
from malaria_cells.inference.decision import DetectionSettings
from malaria_cells.inference.familiarity import FamiliarityLimits
from malaria_cells.inference.model_description import ABOUT, InferenceSettings, file_fingerprint
from malaria_cells.inference.model_folder import load_detector, save_model, shipped
from malaria_cells.inference.model_yaml import load_description
from malaria_cells.inference.suppression import NestedBoxes
from malaria_cells.inference.tta import Refinement
from malaria_cells.models.stored.keras_files import load_network
from malaria_cells.training import few_images
from malaria_cells.training.budget import MIN_FRACTION, Budget, Plan, Stage, plan_of, stages_of
from tests.conftest import write_bbbc041, write_image
from tests.test_leaks import NAMES, slides


@given(st.integers(2, 200), st.integers(0, 100), st.booleans())
def test_a_usual_machine_has_time_for_the_usual_steps(images, old, refiner):
    plan = plan_of(min(images, 40), min(images, 40), min(old, 0))
    stages = stages_of(plan, refiner)
    assert 2 <= plan.folds <= 5
    assert sum(s.of_steps + s.fixed for s in stages) < 600
    now = [0.0]
    budget = Budget(600, stages, lambda: now[0])
    for stage in stages:
        if stage.steps:
            assert budget.steps(stage.name) == stage.steps
        now[0] += stage.of_steps + stage.fixed
    assert budget.least_fraction == 1


@given(st.floats(1.1, 6))
def test_a_slow_machine_takes_fewer_steps_and_ends_in_time(slower):
    stages = [Stage("look", 0, 0, 20), *[Stage("train", 100, 50, 5)] * 4, Stage("end", 0, 0, 5)]
    now, taken = [0.0], []
    budget = Budget(260, stages, lambda: now[0])
    for stage in stages:
        steps = budget.steps(stage.name) if stage.steps else 0
        taken += [steps] if steps else []
        now[0] += slower * (stage.fixed + (stage.of_steps * steps / stage.steps if steps else 0))
    assert taken == sorted(taken, reverse=True)
    assert now[0] < 260 * 1.15 or taken[-1] == MIN_FRACTION * 100
    assert (budget.least_fraction < 1) == (min(taken) < 100)


def test_few_infected_cells_leave_the_start_models_decisions():
    start = DetectionSettings(infected_threshold=0.3, candidate_threshold=0.1, cell_threshold=0.4, proposal_weight=0.5)
    chosen = DetectionSettings(infected_threshold=0.7, candidate_threshold=0.3, cell_threshold=0.6, proposal_weight=0.25, nms_iou=0.6)
    none = few_images.blended_settings(chosen, start, n_infected=4, n_cells=500)
    assert (none.infected_threshold, none.candidate_threshold, none.cell_threshold, none.nms_iou) == (0.3, 0.1, 0.6, 0.6)
    half = few_images.blended_settings(chosen, start, n_infected=10, n_cells=20)
    assert (half.infected_threshold, half.candidate_threshold) == pytest.approx((0.5, 0.2))
    assert (half.cell_threshold, half.proposal_weight) == (0.4, 0.5)


def test_few_infected_cells_leave_the_start_models_platt_scaling():
    carried = InfectionSigmoid((False, True, True, False), 2.0, -1.0)
    fitted = Calibration(1.0, 0.9, (0.1,) * 4, InfectionSigmoid(carried.classes, 1.0, 1.0))
    assert few_images.blended_calibration(fitted, carried, 3).infection == carried
    assert few_images.blended_calibration(fitted, carried, 10).infection == InfectionSigmoid(carried.classes, 1.5, 0.0)
    assert few_images.blended_calibration(replace(fitted, infection=None), carried, 90).infection == carried
    assert few_images.blended_calibration(fitted, None, 0) == fitted


@pytest.mark.parametrize("scaling", [None, InfectionSigmoid((False, True, False), 1.5, 0.6)])
def test_carried_over_the_start_models_probability_of_infection_stays(scaling):
    """Whatever temperature and shift were fitted to images without an infected cell, infection is as probable as before."""
    rng = np.random.default_rng(3)
    logits = rng.normal((3, -2, -9, 1), 2, (400, 4))  # red cells, ring, a class that is new, background
    raw = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    is_infected = np.array([False, True, False, False])
    start = Calibration(1.0, 0.7, (0.5, -3.0, 0.4), scaling)
    mapped = few_images.start_in_new_classes(start, [0, 1, None, 2], is_infected)
    assert mapped.log_prior_ratio == pytest.approx((0.5, -3.0, 0.45, 0.4))
    fitted = Calibration(1.4, 0.0, (0.4, 0.0, -0.5, -0.1))
    blended = few_images.blended_calibration(fitted, few_images.carried_over(scaling, mapped, fitted, raw, is_infected), 0)
    wanted = replace(mapped, infection=scaling and InfectionSigmoid(tuple(is_infected.tolist()), scaling.slope, scaling.offset))
    before, now = wanted(raw)[:, 1], blended(raw)[:, 1]
    suspicious = np.argsort(-before)[:40]
    assert np.abs(before - now)[suspicious].max() < 0.05
    assert fitted(raw)[suspicious, 1].mean() > 1.5 * before[suspicious].mean()  # what happened without carrying over


def test_a_class_that_training_never_showed_leaves_the_shift_of_the_others_alone():
    rng = np.random.default_rng(0)
    ids = rng.choice(2, 600, p=[0.95, 0.05])
    logits = 3 * np.eye(3)[ids] + rng.normal((0, 0, -8), 1, (600, 3))
    raw = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    is_infected = np.array([False, False, True])
    fitted = fit_calibration(raw, ids, np.array([0.5, 0.5, 0.0]), is_infected)
    assert fitted.log_prior_ratio[2] == 0
    assert fitted.shift > 0.5
    assert fitted(raw)[:, 2].max() < 0.01


def test_the_share_of_new_weights_is_that_by_which_classes_are_told_apart():
    rng = np.random.default_rng(0)
    ids = rng.choice(3, 400, p=[0.6, 0.2, 0.2])
    bad, good = np.full((400, 3), 1 / 3), 0.1 + 0.7 * np.eye(3)[ids]
    for by_fraction, best in (([bad] * 4 + [good], 1.0), ([bad, bad, good, good, good], 0.5), ([good] * 5, 0.0)):
        found = few_images.OutOfFold(ids, by_fraction, np.full(3, 1 / 3), np.array([False, True, False]))
        assert found.best_fraction()[0] == best


def test_two_cells_of_a_rare_class_do_not_decide_the_share_of_new_weights():
    ids = np.repeat([0, 1, 2], [300, 100, 2])
    before = np.full((402, 3), 1 / 3)
    after = 0.05 + 0.85 * np.eye(3)[ids]
    after[-2:] = 0.98, 0.019, 0.001  # the new weights are wrong about both cells of the rare class, and right about all others
    found = few_images.OutOfFold(ids, [before, before, after, after, after], np.full(3, 1 / 3), np.array([False, False, False]))
    assert found.best_fraction()[0] == 0.5
    raw, calibration = found.calibrated(0.5)
    nll = -calibration.log_probabilities(raw)[np.arange(402), ids]
    assert np.mean([nll[ids == c].mean() for c in range(3)]) > np.log(3)  # with equal weights the two cells would have decided


def request(tmp_path, **changes):
    return AdaptRequest(tmp_path / "data", tmp_path / "start", tmp_path / "new", **changes)


def test_new_names_become_labels_and_likely_synonyms_are_asked_about(tmp_path, six_classes):
    known = list(six_classes.names)
    assert labels_for(["ring", "platelet", "difficult"], request(tmp_path), six_classes) == [*known, "platelet"]
    with pytest.raises(InputError, match=r"'RBC'.*--label-map 'RBC=red blood cell'.*--labels '.*,RBC'.*--ignore-labels"):
        labels_for(["RBC", "ring"], request(tmp_path), six_classes)
    assert labels_for(["RBC"], request(tmp_path, label_map={"RBC": "red blood cell"}), six_classes) == known
    assert labels_for(["RBC"], request(tmp_path, labels=["RBC", "ring"]), six_classes) == ["RBC", "ring"]
    assert labels_for(["ring", "debris"], request(tmp_path, ignore_labels=["debris"]), six_classes) == known
    with pytest.raises(InputError, match=r"category 'platelet' is not in --labels \(ring\)"):
        labels_for(["ring", "platelet"], request(tmp_path, labels=["ring"]), six_classes)
    with pytest.raises(InputError, match="holds no annotated cell"):
        labels_for(["difficult"], request(tmp_path), six_classes)
    with pytest.raises(InputError, match="--ignore-labels: 'ring' is a label of the model"):
        labels_for(["ring"], request(tmp_path, ignore_labels=["ring"]), six_classes)


CELL = [("red blood cell", 10, 10, 30, 30)]


@pytest.mark.parametrize(
    ("images", "spoil", "message"),
    [
        ({"a.png": CELL}, None, "1 image of 1 group cannot be split, which needs two: add images"),
        ({"a.png": [], "b.png": []}, None, "has no labelled cell"),
        ({"a.png": CELL, "b.png": CELL}, "b.png", "b.png"),
        (None, None, "data: no such file or folder; expected annotated images"),
        ({"a.png": CELL, "b.png": CELL}, "taken", "already exists and holds no model.yaml"),
        ({"a.png": CELL, "b.png": CELL}, "start", "--from: .*nowhere: no such folder"),
        ({"a.png": CELL, "b.png": CELL}, "same", "is the start model's folder"),
        ({"a.png": CELL, "b.png": CELL}, "within", "lies in the start model's folder"),
        ({"a.png": CELL, "b.png": CELL}, "around", r"contains the input \S*data, which would be overwritten"),
    ],
    ids=["one", "no cell", "unreadable", "no data", "somebody's folder", "no model", "over itself", "within", "around its data"],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, capsys, images, spoil, message):
    if images is not None:
        write_bbbc041(tmp_path / "data", images)
    if spoil == "b.png":
        (tmp_path / "data" / "b.png").write_bytes(b"no image")
    if spoil == "taken":
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "thesis.txt").write_text("mine")
    start = tmp_path / "nowhere" if spoil == "start" else shipped()
    if spoil == "around":
        (tmp_path / ABOUT).write_text("of a model in whose folder the images lie")
    outputs = {"same": shipped(), "within": shipped() / "mine", "around": tmp_path}
    output = outputs.get(spoil, tmp_path / "new")
    before = {p for p in tmp_path.rglob("*") if ".locks" not in p.parts}
    assert main(["adapt", str(tmp_path / "data"), "--from", str(start), "--output", str(output)]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert {p for p in tmp_path.rglob("*") if ".locks" not in p.parts} == before


OWN = InferenceSettings(Refinement(min_infected=0.2), NestedBoxes(decay=0.4))


@pytest.fixture
def one_look(tmp_path_factory):
    """The shipped model without its refiner, which would take most of the time."""
    description, _ = load_description(shipped())
    networks = [load_network(shipped() / file) for file in ("classifier.keras", "proposer.keras")]
    folder = tmp_path_factory.mktemp("models") / "start"
    folder.mkdir()
    settings = replace(description.settings, tta=1)
    known = replace(description.familiarity, limits=FamiliarityLimits(out_of_focus=1.5))
    save_model(
        folder,
        networks[:1],
        replace(description, refiner=None, refiner_size_hw=None, proposer_tta=1, settings=settings, inference=OWN, familiarity=known),
        networks[1],
    )
    return folder


@pytest.mark.slow
def test_a_model_is_adapted(sample, one_look, tmp_path, monkeypatch, capsys):
    """Few images, few steps: the whole way, with a label that the model does not know."""
    monkeypatch.setattr("malaria_cells.training.adapt_model.plan_of", lambda images, groups, old: Plan(2, 2, 1, images + old))
    monkeypatch.setattr("malaria_cells.proposals.learned.training.STATISTICS_CROPS", 8)
    entries = json.loads((sample / "training.json").read_text())[:4]
    entries[0]["objects"][0]["category"] = "debris"
    shutil.copytree(sample / "images", tmp_path / "data" / "images")
    (tmp_path / "data" / "annotations.json").write_text(json.dumps(entries))
    data, new = tmp_path / "data" / "annotations.json", tmp_path / "new"
    assert main(["adapt", str(data), "--from", str(one_look), "--output", str(new)]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert "new labels: debris, none of them infected" in said.out
    assert "cell AP50" in said.out
    detector, description = load_detector(new)
    start, _ = load_description(one_look)
    assert detector.labels.names == (*start.labels.names, *(n for n in detector.labels.names if n not in start.labels.names))
    assert "debris" in detector.labels.names
    assert description.adapted_from == {"name": "start", "fingerprint": file_fingerprint((one_look / ABOUT).read_text())}
    assert description.errors is not None
    assert (description.inference, description.familiarity.limits.out_of_focus) == (OWN, 1.5)  # the start model's
    assert (detector.classifier.cascade.refinement, detector.nested_boxes) == (OWN.refinement, OWN.nested_boxes)
    files = {p.name for p in new.iterdir()}
    assert files >= {"config.yaml", "model.yaml", "metrics.json", "history.csv", "report.html", "split.json", "proposer.keras"}
    metrics = json.loads((new / "metrics.json").read_text())
    assert metrics["images"] == 4
    assert set(metrics["share_of_new_weights"]) == {"proposer", "classifiers"}
    assert metrics["after"]["cell_AP50"] > 0.3
    assert len(list(csv.DictReader((new / "history.csv").read_text().splitlines()))) == 5
    assert load_config(new / "config.yaml").start_from == str(one_look)
    assert yaml.safe_load((new / ABOUT).read_text())["adapted_from"]["name"] == "start"
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == ["data", "new"]
    assert main(["run", "--model", str(new), "--image", str(sample / "images" / "slide5*.jpg"), "--output", str(tmp_path / "results")]) == 0


def test_old_data_may_have_single_cells_and_labels_that_the_new_model_lacks(tmp_path, caplog):
    """Also in the lists of a `label_map` and among a set's `annotated_labels`."""
    slides(tmp_path / "lab", NAMES)
    for name in ("sick", "healthy"):
        write_image(tmp_path / "cells" / name / "1.png")
    old = [
        {"path": str(tmp_path / "lab"), "annotated_labels": ["ring", "schizont"]},
        {"path": str(tmp_path / "cells"), "label_map": {"sick": ["ring", "schizont"], "healthy": ["schizont", "gametocyte"]}},
    ]
    config = make_config({"labels": ["ring"], "ignore_labels": []}, "test")
    for number, labels in enumerate((["ring", "schizont", "gametocyte"], None)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump({"data_sets": old, "labels": labels, "ignore_labels": [], "test_size": 0}))
        assert {p.key.split("/")[1] for p in adapt_data._old_images(path, config, 4)} == {"lab"}
        assert "gametocyte, schizont: not a label of the new model" in caplog.text
        assert f"--old-data {path}: 1 image of single cells left out" in caplog.text


def test_what_old_images_leave_out_is_unknown_in_an_adaptation_too(sample, six_classes, tmp_path):
    """A candidate in no box of an old image whose leukocytes nobody marked may be one; in a new image it is background."""
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.training.adaptation import Adaptation

    known = load_annotations(sample / "training.json", six_classes)
    new, old = known.images[:2]
    leukocyte, background = 1, len(six_classes)
    nothing = np.array([[0, 0, 3, 3]], dtype=np.float32)
    work = object.__new__(Adaptation)  # patches are cut without any network
    work.images = replace(known, images=(new,))
    work.old = replace(known, images=(replace(old, unannotated=(leukocyte,)),))
    work.config = make_config({"image_size": [16, 16], "background_per_image": 0}, "test")
    work.candidates = {p.key: (nothing, np.array([0.2], dtype=np.float32)) for p in (new, old)}
    work.folder = tmp_path
    store, refiner_store = work.stores()
    assert refiner_store is None
    of_candidate = {store.keys[store.image_ids[row]]: store.class_ids[row] for row in np.flatnonzero(store.proposed)}
    assert of_candidate == {new.key: background, old.key: background + 1}
    assert store.sets == ((leukocyte, background),)
