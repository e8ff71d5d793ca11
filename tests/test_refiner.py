"""A second classifier looks again at the cells that the first is not certain of."""

import csv
import json
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
import yaml

from malaria_cells.app.cli import main
from malaria_cells.base.errors import InputError
from malaria_cells.config import make_config
from malaria_cells.data.patches import crop_boxes, resize
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.classifier import Cascade, infected_classes
from malaria_cells.inference.model_folder import load_detector, save_model
from malaria_cells.inference.model_yaml import load_description
from malaria_cells.inference.tta import Refinement
from malaria_cells.models import build_classifier
from malaria_cells.models.stored.keras_files import load_network


def looks(hints):
    """A first classifier whose probability of class 1 is given, a second that says one half, and what the second was asked."""
    asked = []

    def first(p):
        fraction = np.array([hints[i] for i in p[:, 0, 0, 0]])
        return np.stack([1 - fraction, fraction], axis=1).astype(np.float32)

    def second(p):
        asked.append(p[:, 0, 0, 0].tolist())
        return np.full((len(p), 2), 0.5, dtype=np.float32)

    patches = np.zeros((len(hints), 8, 8, 3), dtype=np.uint8)
    patches[:] = np.arange(len(hints))[:, None, None, None]
    return first, second, patches, asked


def test_a_hint_of_a_finding_is_looked_at_again():
    first, second, patches, asked = looks([0.0, 0.08, 0.12, 0.9])
    found = Cascade(first, second).raw_probabilities(patches, 1, np.array([False, True]))
    assert found[:, 1] == pytest.approx([0.0, 0.08, 0.31, 0.7])
    assert asked == [[2, 3]]
    assert Cascade(first).raw_probabilities(patches, 1, np.array([False, True]))[:, 1] == pytest.approx([0.0, 0.08, 0.12, 0.9])


def test_where_no_class_is_a_finding_the_uncertain_is_looked_at_again():
    first, second, patches, asked = looks([0.0, 0.04, 0.06, 0.9])
    found = Cascade(first, second).raw_probabilities(patches, 1, np.array([False, False]))
    assert found[:, 1] == pytest.approx([0.0, 0.04, 0.28, 0.7])
    assert asked == [[2, 3]]


def test_the_recipe_is_the_first_one_but_for_what_is_named():
    config = make_config({"refiner": {"epochs": 3, "learning_rate": 0.001}, "dropout": 0.4, "weights": "none"}, "test")
    first, second = config.classifiers
    assert first is config
    assert (second.model, second.epochs, second.learning_rate, second.dropout) == ("lite", 3, 0.001, 0.4)
    assert make_config({}, "test").classifiers == (make_config({}, "test"),)
    larger = {"refiner": {"epochs": 3, "learning_rate": 0.001, "image_size": [96, 112]}}
    assert [look.image_size for look in make_config(larger, "test").classifiers] == [(64, 64), (96, 112)]
    assert [look.image_size for look in config.classifiers] == [(64, 64), (64, 64)]
    mixed = {"augmentation": "slides", "refiner": {"epochs": 3, "learning_rate": 0.001, "augmentation": "slides+mixup"}}
    assert [look.augmentation for look in make_config(mixed, "test").classifiers] == ["slides", "slides+mixup"]
    assert [look.augmentation for look in config.classifiers] == ["stain", "stain"]
    larger["refiner"]["image_size"] = [8, 112]
    with pytest.raises(InputError, match=r"refiner\.image_size: \[8, 112\] is too small; expected at least 16 pixels"):
        make_config(larger, "test")
    with pytest.raises(InputError, match=r"refiner\.epochs"):
        make_config({"refiner": {"learning_rate": 0.001}}, "test")


def test_an_unfinished_second_training_goes_on(tmp_path):
    run = RunState.start(tmp_path / "run", make_config({}, "test"))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    run.part(1).save(model, {"loss": 0.5}, better=True)
    assert run.part(0) is run
    assert (run.history, run.part(1).history, run.part(1).best_epoch) == ([], [{"loss": 0.5}], 0)


def test_what_is_suspect_is_cut_again_for_the_second():
    first, second, patches, asked = looks([0.0, 0.08, 0.12, 0.9])
    cut = []

    def crop_for_refiner(rows):
        cut.append(rows.tolist())
        return np.full((len(rows), 16, 12, 3), 7, dtype=np.uint8)

    Cascade(first, second).raw_probabilities(patches, 2, np.array([False, True]), crop_for_refiner)
    assert cut == [[2, 3]]
    assert asked == [[7, 7], [7, 7]]  # both, in two views


def test_what_one_view_clears_is_not_seen_in_further_ones():
    first, second, patches, asked = looks([0.0, 0.15, 0.3, 0.9])  # 0.325, 0.4 and 0.7 by both
    refinement = Refinement(further_views=0.4)
    refined = Cascade(first, second, refinement=refinement).raw_probabilities(patches, 4, np.array([False, True]))
    assert refined[:, 1] == pytest.approx([0.0, 0.325, 0.4, 0.7])
    assert [len(seen) for seen in asked] == [3, 2 * 3]  # the other three views of two
    asked.clear()
    Cascade(first, second, refinement=refinement).raw_probabilities(patches, 4, np.array([False, False]))
    assert [len(seen) for seen in asked] == [3, 3 * 3]  # where no class is infected, of all that are refined


@pytest.fixture(params=[None, (48, 48)], ids=["same size", "larger"])
def pair(request, untrained_model, tmp_path):
    """A model folder whose two looks answer differently."""
    description, _ = load_description(untrained_model)
    first = load_network(untrained_model / "classifier.keras")
    second = build_classifier(description.model, request.param or description.image_size_hw, 7, 0.0, "none", False)
    for variable in second.trainable_variables:
        variable.assign(np.random.default_rng(1).normal(0, 0.2, variable.shape))
    folder = tmp_path / "pair"
    folder.mkdir()
    save_model(folder, [first, second], replace(description, refiner=description.model, refiner_size_hw=request.param))
    return folder


def test_both_are_saved_and_loaded(pair):
    detector, _ = load_detector(pair)
    classifier = detector.classifier
    patches = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    size_hw = classifier.refiner_size_hw or (32, 32)
    first, second = classifier.cascade.network(patches), classifier.cascade.refiner(np.stack([resize(patch, size_hw) for patch in patches]))
    assert np.abs(first - second).max() > 0.01
    again = Refinement().needed(first, infected_classes(classifier.labels, 7))
    assert again.any()
    expected = np.where(again[:, None], (first + second) / 2, first)
    assert classifier(patches) == pytest.approx(classifier.calibration(expected), abs=1e-5)
    shutil.copyfile(pair / "classifier.keras", pair / "refiner.keras")
    with pytest.raises(InputError, match=r"classifier\.keras and refiner\.keras differs from when it was saved"):
        load_detector(pair)
    (pair / "refiner.keras").unlink()
    with pytest.raises(InputError, match=r"refiner\.keras: no such file"):
        load_detector(pair)


def test_folders_with_the_former_names_of_keys_and_files_answer_alike(pair):
    patches = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    expected = load_detector(pair)[0].classifier(patches)
    path = pair / "model.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for former, present in (("rejects", "has_background"), ("second_look", "refiner"), ("second_look_size_hw", "refiner_size_hw")):
        content[former] = content.pop(present)
    content["calibration"]["findings"] = content["calibration"].pop("infection")
    del content["refiner_file"]
    content["files"]["second_look.keras"] = content["files"].pop("refiner.keras")
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    (pair / "refiner.keras").rename(pair / "second_look.keras")
    detector, description = load_detector(pair)
    assert description.refiner_file == "second_look.keras"
    assert detector.classifier(patches) == pytest.approx(expected, abs=0)


def test_a_detector_cuts_suspects_out_of_the_image(pair):
    """In the size of each look, not one from the other."""
    detector, _ = load_detector(pair)
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    cells = np.array([[20, 20, 120, 120], [60, 70, 150, 170]], dtype=np.float32)
    classifier = detector.classifier
    size_hw = classifier.refiner_size_hw or classifier.image_size_hw
    looks = (classifier.cascade.network, classifier.image_size_hw), (classifier.cascade.refiner, size_hw)
    first, second = (look(crop_boxes(image, cells, classifier.context, size)) for look, size in looks)
    assert Refinement().needed(first, infected_classes(classifier.labels, 7)).all()
    assert detector.classify(image, cells) == pytest.approx(classifier.calibration((first + second) / 2), abs=1e-5)


@pytest.mark.slow
def test_both_are_exported(pair):
    assert main(["export", "--model", str(pair), "--format", "onnx"]) == 0
    ours, theirs = (load_detector(pair, engine)[0].classifier for engine in ("keras", "onnx"))
    patches = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    assert theirs.cascade.refiner is not None
    assert theirs(patches) == pytest.approx(ours(patches), abs=1e-4)


def test_weights_of_the_second_that_are_not_there_are_missed_before_the_first_is_trained(repository, sample, tmp_path, capsys):
    settings = {"train_images": sample, "output_models": tmp_path / "models", "patch_cache": tmp_path / "cache", "name": "m"}
    settings |= {"proposals": "watershed", "refiner": "{model: lite, weights: none.weights.h5, epochs: 1, learning_rate: 0.001}"}
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    assert main(["train", f"--config={repository / 'configs/from_scratch.yaml'}", *sets]) == 2
    assert "none.weights.h5" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
    assert [p.name for p in (tmp_path / "models").iterdir()] == []


@pytest.mark.slow
def test_both_are_trained_and_fine_tuned(repository, sample, tmp_path, capsys):
    """The refiner sees larger patches than the classifier."""
    settings = {"train_images": sample, "output_models": tmp_path, "patch_cache": tmp_path / "cache", "name": "m", "tta": 2}
    settings |= {"epochs": 2, "steps_per_epoch": 4, "batch_size": 16, "image_size": "[32, 32]", "proposals": "watershed"}
    settings |= {"refiner": "{model: lite, weights: imagenet, epochs: 1, learning_rate: 0.001, image_size: [48, 40]}", "refit": 0.5}
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    assert main(["train", f"--config={repository / 'configs/from_scratch.yaml'}", *sets]) == 0
    said = capsys.readouterr().err
    assert "training the refiner, lite" in said
    assert "fine-tuning lite on train + validation" in said
    folder = tmp_path / "m"
    assert {p.name for p in folder.glob("*.keras")} == {"classifier.keras", "refiner.keras"}
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    epochs = [("1", "1"), ("1", "2"), ("2", "1"), ("3", "1"), ("4", "1")]
    assert [(row["training"], row["epoch"]) for row in rows] == epochs
    assert [row["val_loss"] != "" for row in rows] == [True, True, True, False, False]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["refiner"] == {"best_epoch": 1, "epochs": 1}
    assert metrics["refit"] == {"epochs": [1, 1]}
    report = (folder / "report.html").read_text()
    assert "compact, refiner lite" in report
    assert "Epochs of the refiner" in report
    assert "1 and 1 epochs on train + validation" in report
    assert main(["run", "--model", str(folder), "--image", str(sample), "--output", str(tmp_path / "results")]) == 0
