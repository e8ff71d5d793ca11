"""Scoring by an annotation that was made for something else: other classes, other names, more images than the part."""

import json
import logging

import pytest

from malaria_cells.app.cli import main
from malaria_cells.app.commands.run_request import RunRequest
from malaria_cells.app.commands.run_truth import read_truth, select_part
from malaria_cells.base.errors import InputError
from malaria_cells.config import make_config
from malaria_cells.data.dataset import load_data_set
from tests.conftest import write_bbbc041
from tests.test_leaks import NAMES, annotate, slides


def request(folder, **values):
    return RunRequest(str(folder), folder / "out", annotations=folder / "training.json", **values)


def test_categories_are_ignored_and_mapped_on_request(tmp_path, six_classes):
    objects = {"0.png": [("RBC", 1, 1, 30, 30), ("platelet", 40, 1, 60, 30), ("ring", 1, 40, 30, 70)]}
    write_bbbc041(tmp_path, objects)
    with pytest.raises(
        InputError, match=r"(?s)category 'RBC' is in neither the labels of the model nor ignored.*--label-map 'RBC=red blood cell'"
    ):
        read_truth(request(tmp_path), tmp_path, ["0.png"], six_classes)
    wanted = request(tmp_path, label_map={"RBC": "red blood cell"}, ignore_labels=["platelet"])
    (image,) = read_truth(wanted, tmp_path, ["0.png"], six_classes).images
    assert image.class_ids.tolist() == [0, -1, 3]
    assert image.ignore.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ignore_labels": ["ring"]}, "--ignore-labels: 'ring' is a label of the model"),
        ({"label_map": {"RBC": "red cells"}}, "--label-map: 'RBC' stands for 'red cells', which is in neither the labels of the model"),
    ],
)
def test_what_cannot_be_ignored_or_mapped(tmp_path, six_classes, values, message):
    write_bbbc041(tmp_path, {"0.png": [("ring", 1, 1, 30, 30)]})
    with pytest.raises(InputError, match=message):
        read_truth(request(tmp_path, **values), tmp_path, ["0.png"], six_classes)


def test_flags_about_an_annotation_need_one(tmp_path, six_classes):
    with pytest.raises(InputError, match=r"--ignore-labels: applies to an annotation.*name it with --annotations"):
        read_truth(RunRequest("x", tmp_path, ignore_labels=["a"]), tmp_path, [], six_classes)


def test_flags_of_the_command_line(untrained_model, tmp_path, capsys):
    write_bbbc041(tmp_path / "set", {"0.png": [("RBC", 1, 1, 30, 30), ("platelet", 40, 1, 60, 30)]})
    words = ["run", "--model", untrained_model, "--image", tmp_path / "set", "--annotations", tmp_path / "set" / "training.json"]
    words += [
        "--output",
        tmp_path / "out",
        "--ignore-labels",
        "platelet,thing",
        "--label-map",
        "RBC=red blood cell",
        "--label-map",
        "WBC=leukocyte",
    ]
    assert main([str(w) for w in words]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["ignored_labels"] == ["platelet", "thing"]
    assert metrics["label_map"] == {"RBC": "red blood cell", "WBC": "leukocyte"}
    assert metrics["per_class"]["red blood cell"]["n"] == 1
    assert "ignored labels, scored as neither right nor wrong: platelet, thing (1 region in all)" in capsys.readouterr().out
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "--ignore-labels platelet,thing" in report
    for wrong in ("RBC", "=ring", "a=,b=c"):
        with pytest.raises(SystemExit):
            main([*map(str, words), "--label-map", wrong])
    assert main([*map(str, words), "--label-map", "RBC=ring"]) == 2
    assert "'RBC' is mapped to 'red blood cell' and to 'ring'" in capsys.readouterr().err


def split(tmp_path, **lists):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(lists))
    return path


@pytest.mark.parametrize(
    ("lists", "keys", "kept"),
    [
        ({"test": ["1.jpg"]}, ["1.jpg", "sub/1.jpg"], ["1.jpg"]),
        ({"test": ["1.jpg"], "train": ["sub/1.jpg"]}, ["sub/1.jpg", "1.jpg"], ["1.jpg"]),
        ({"test": ["1.jpg", "2.jpg"], "train": ["sub/1.jpg"]}, ["2.jpg", "sub/1.jpg"], ["2.jpg"]),
        ({"test": ["images\\1.jpg"]}, ["1.jpg"], ["1.jpg"]),
    ],
)
def test_a_split_means_the_images_that_its_names_fit_longest(tmp_path, lists, keys, kept):
    assert select_part(tmp_path, keys, split(tmp_path, **lists), "test") == kept


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"test": ["1.jpg"]}, r"'1\.jpg' matches several images .*\(a/1\.jpg, b/1\.jpg\)"),
        ({"train": ["1.jpg"]}, r"holds the parts 'train', expected 'test'; name a part with --part"),
        ({"test": ["9.jpg"]}, r"none of the 2 images is in its 'test' part; first name: 9\.jpg"),
        ({"test": ["a/1.jpg"], "train": ["a/1.jpg"]}, r"'a/1\.jpg' is in 'test' and in another part"),
        ({"test": [1]}, r"'test' holds 1; expected names"),
        ({}, "holds no part, expected 'test'"),
    ],
)
def test_splits_that_do_not_say_which(tmp_path, lists, message):
    with pytest.raises(InputError, match=message):
        select_part(tmp_path, ["a/1.jpg", "b/1.jpg"], split(tmp_path, **lists), "test")


def test_names_without_an_image_are_counted(tmp_path, caplog):
    assert select_part(tmp_path, ["1.jpg"], split(tmp_path, test=["1.jpg", "8.jpg", "9.jpg"]), "test") == ["1.jpg"]
    assert "2 of 3 names of its 'test' part match no image" in caplog.text
    assert "first: 8.jpg" in caplog.text


def test_a_map_in_the_config_counts_in_every_part(tmp_path):
    slides(tmp_path / "set", NAMES[:8])
    annotate(tmp_path / "set", NAMES[:8], label="Ring form")
    slides(tmp_path / "set", NAMES[8:], "test.json")
    annotate(tmp_path / "set", NAMES[8:], "test.json", label="RF")
    slides(tmp_path / "corrected", ["new.png"])
    annotate(tmp_path / "corrected", ["new.png"], label="R")
    values = {"train_images": str(tmp_path / "set"), "corrections": str(tmp_path / "corrected")}
    with pytest.raises(InputError, match=r"(?s)'Ring form' is in neither labels.*add label_map: \{Ring form: ring\}"):
        load_data_set(make_config(values | {"labels": ["ring"]}, "test"))
    mapped = {"label_map": {"Ring form": "ring", "RF": "ring", "R": "ring"}}
    data = load_data_set(make_config(values | mapped | {"labels": ["ring"]}, "test"))
    assert data.all_images.class_counts.tolist() == [13]
    assert load_data_set(make_config(values | mapped | {"labels": None}, "test")).train.labels.names == ("ring",)


def test_a_set_without_infected_labels_is_asked_about(tmp_path, caplog):
    slides(tmp_path, NAMES)
    annotate(tmp_path, NAMES, label="Rings")
    with caplog.at_level(logging.WARNING):
        load_data_set(make_config({"train_images": str(tmp_path), "labels": ["Rings"]}, "test"))
    assert "none of Rings counts as infected, so infections are not counted. Is 'Rings' infected?" in caplog.text


def test_the_home_folder_is_known_in_paths(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert main(["run", "--image=~/none", "--output", "~/out", "--model=~/m"]) == 2
    assert f"{tmp_path / 'none'}: no such image" in capsys.readouterr().err
