"""Every fold is trained without its images and scored on them, once; the test part is left alone."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import yaml
from PIL import Image

from malaria_cells.app.cli import main
from malaria_cells.app.commands.crossvalidate import TABLE, summary, table
from malaria_cells.app.commands.crossvalidate_sets import _hold_out, _with_fields_of_view
from malaria_cells.base.errors import InputError
from malaria_cells.config import load_config, make_config
from malaria_cells.data.dataset import load_data_set
from malaria_cells.data.sample import write_sample
from malaria_cells.inference.model_description import ABOUT, file_fingerprint
from malaria_cells.inference.model_yaml import load_description
from malaria_cells.training.errors_elsewhere import read_elsewhere
from malaria_cells.training.two_stage_data import check_single_cells
from malaria_cells.tuning.fold_figures import mean_and_error
from malaria_cells.tuning.folds import is_trained
from tests.test_leaks import NAMES, slides

SHORT = {"epochs": 1, "steps_per_epoch": 4, "batch_size": 16, "image_size": "[24, 24]", "proposals": "watershed", "tta": 1}


def crossvalidate(config, output, **settings):
    sets = [part for key, value in (SHORT | settings).items() for part in ("--set", f"{key}={value}")]
    return main(["crossvalidate", f"--config={config}", *sets, "--folds", "2", "--output", str(output)])


@pytest.mark.slow
def test_folds_of_the_sample(repository, tmp_path, capsys):
    sample = tmp_path / "sample"
    write_sample(sample, training=16, test=4, seed=7, size_wh=(480, 360))
    settings = {"train_images": sample, "patch_cache": tmp_path / "cache"}
    assert crossvalidate(repository / "configs/from_scratch.yaml", tmp_path / "cv", **settings) == 0
    said = capsys.readouterr().out
    assert "| fold | mAP50 | cell AP50 |" in said
    assert "| mean ± standard error |" in said
    splits = [json.loads((tmp_path / "cv" / f"fold{i}" / "split.json").read_text()) for i in (1, 2)]
    held_out = [set(split["test"]) for split in splits]
    assert not held_out[0] & held_out[1]
    assert len(held_out[0] | held_out[1]) == 16  # the training images, not the four of test.json
    for split in splits:
        assert not set(split["test"]) & {*split["train"], *split["validation"]}
    table = json.loads((tmp_path / "cv" / TABLE).read_text())
    assert table["finished"] == table["folds"] == 2
    assert sum(fold["images"] for fold in table["by_fold"]) == 16
    # Once more: what is trained stays; of another recipe it is refused.
    before = (tmp_path / "cv" / "fold1" / "model.yaml").stat().st_mtime_ns
    assert crossvalidate(repository / "configs/from_scratch.yaml", tmp_path / "cv", **settings) == 0
    assert "fold1: trained before" in capsys.readouterr().out
    assert (tmp_path / "cv" / "fold1" / "model.yaml").stat().st_mtime_ns == before
    assert crossvalidate(repository / "configs/from_scratch.yaml", tmp_path / "cv", **settings, learning_rate=0.01) == 2
    assert "fold1: holds a model of another config" in capsys.readouterr().err


@pytest.fixture(scope="module")
def two_laboratories(tmp_path_factory):
    """A config of two rendered data sets, of which one has no test part and does not mark leukocytes."""
    folder = tmp_path_factory.mktemp("laboratories")
    write_sample(folder / "first", training=6, test=2, seed=7, size_wh=(320, 240))
    write_sample(folder / "second", training=6, test=1, seed=8, size_wh=(320, 240))
    (folder / "second" / "test.json").unlink()
    path = folder / "second" / "training.json"
    entries = json.loads(path.read_text())
    for entry in entries:
        entry["objects"] = [o for o in entry["objects"] if o["category"] != "leukocyte"]
    path.write_text(json.dumps(entries))
    cells = {"path": str(folder / "cells"), "label_map": {"healthy": "red blood cell", "sick": ["ring", "trophozoite"]}}
    for name, colour in (("healthy", (220, 150, 160)), ("sick", (120, 60, 150))):
        (folder / "cells" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (40, 44), colour).save(folder / "cells" / name / f"{i}.png")
    config = {"data_sets": [{"path": str(folder / name)} for name in ("first", "second")], "test_size": 0, "validation_size": 0.3}
    config["data_sets"].append(cells)
    config |= {"patch_cache": str(folder / "cache"), "output_models": str(folder / "models"), "name": "both"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.mark.slow
def test_each_data_set_is_left_out_once(two_laboratories, tmp_path, capsys):
    sets = [part for key, value in SHORT.items() for part in ("--set", f"{key}={value}")]
    command = ["crossvalidate", f"--config={two_laboratories / 'config.yaml'}", *sets, "--by", "data_set", "--output", str(tmp_path / "cv")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "without first: scored on its test part, 2 images" in said
    assert "without second: scored on all its images, since it has no test part, 6 images" in said
    assert re.search(r"second: does not annotate leukocyte.*: unknown there, not background", said)
    assert "first: cells of 7" in said
    assert said.count("cells: 6 images of single cells, which train the classifier alone: red blood cell 3, ring or trophozoite 3") == 2
    assert "| left out | mAP50 | cell AP50 |" in said
    assert "\n| second | " in said
    table = json.loads((tmp_path / "cv" / TABLE).read_text())
    assert [(f["left_out"], f["scored_on"], f["images"]) for f in table["by_fold"]] == [("first", "test", 2), ("second", "all", 6)]
    for fold in table["by_fold"]:
        assert fold["counts"].keys() > {"infected", "detected", "healthy", "false_alarms"}
        assert fold["counts"]["healthy"] > 10
    kept = read_elsewhere(str(tmp_path / "cv" / TABLE))  # as the config key `elsewhere` has it
    assert kept["errors_elsewhere"].keys() == {"first", "second"}
    assert "without second: scored again, with the sigmoid for unfamiliar images that is fitted to the other data sets" in said
    for left_out, other in (("first", "second"), ("second", "first")):
        split = json.loads((tmp_path / "cv" / f"without_{left_out}" / "split.json").read_text())
        assert {key.partition("/")[0] for key in split["test"]} == {left_out}
        assert {key.partition("/")[0] for part in ("train", "validation") for key in split[part]} == {other}
    assert "cells: 6 images of single cells" in (tmp_path / "cv" / "without_first" / "report.html").read_text(encoding="utf-8")
    assert "single-cell" in load_description(tmp_path / "cv" / "without_first")[0].fingerprints
    # The report says each set's figures, and the folder's own config trains the same again.
    assert "Figures by data set" in (tmp_path / "cv" / "without_first" / "report.html").read_text(encoding="utf-8")
    assert [e.name for e in load_config(tmp_path / "cv" / "without_first" / "config.yaml").data_sets] == ["second", "cells"]
    assert main(command) == 0
    assert "without_first: trained before" in capsys.readouterr().out


def test_single_cells_are_never_left_out(two_laboratories, caplog):
    data = load_data_set(load_config(two_laboratories / "config.yaml"))
    assert _with_fields_of_view(data, ["first", "second", "cells"]) == ["first", "second"]
    assert "cells: images of single cells, never held out" in caplog.text
    parts, _ = _hold_out(data, "first")
    assert len(parts.single_cells) == 6
    alone = replace(data, train=parts.train, validation=parts.validation, test=None)
    with pytest.raises(InputError, match="holds out one set of fields of view after another; found one, expected two or more"):
        _with_fields_of_view(alone, ["second", "cells"])


def test_a_model_that_other_single_cells_taught_is_another(two_laboratories, untrained_model, tmp_path):
    config = load_config(two_laboratories / "config.yaml")
    data = load_data_set(config)
    model = shutil.copytree(untrained_model, tmp_path / "model")
    made_of = {"config": file_fingerprint(config.to_yaml())} | {part: own.fingerprint for part, own in data.all_parts.items()}
    content = yaml.safe_load((model / ABOUT).read_text(encoding="utf-8")) | {"fingerprints": made_of}
    (model / ABOUT).write_text(yaml.safe_dump(content), encoding="utf-8")
    assert is_trained(model, config, data)
    fewer = data.single_cells.subset(p.key for p in data.single_cells.images[1:])
    with pytest.raises(InputError, match="holds a model of another config or other images"):
        is_trained(model, config, replace(data, single_cells=fewer))


def test_a_label_of_several_classes_wants_a_class_for_background(two_laboratories):
    data = load_data_set(load_config(two_laboratories / "config.yaml"))
    check_single_cells(True, data)
    check_single_cells(False, replace(data, single_cells=None))
    with pytest.raises(InputError, match="background_per_image: a list in label_map of data_sets needs a background class"):
        check_single_cells(False, data)


def test_one_data_set_cannot_be_left_out(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("data_sets: [{path: a}]")
    (tmp_path / "plain.yaml").write_text("train_images: a")
    for name, found in (("c", "one data set"), ("plain", "no `data_sets`")):
        assert main(["crossvalidate", "--config", str(tmp_path / f"{name}.yaml"), "--by", "data_set"]) == 2
        assert f"--by data_set holds out one data set after another; found {found}, expected two or more" in capsys.readouterr().err
    assert main(["crossvalidate", "--config", str(tmp_path / "c.yaml"), "--by", "data_set", "--folds", "3"]) == 2
    assert "--folds: applies to --by fold only" in capsys.readouterr().err


def test_copies_of_what_is_left_out_are_not_trained_on(tmp_path, caplog):
    slides(tmp_path / "a", NAMES)
    slides(tmp_path / "b", [*NAMES[:2], *(f"other{i}.png" for i in range(10))])
    slides(tmp_path / "c", [f"third{i}.png" for i in range(6)])
    entries = [{"path": str(tmp_path / name)} for name in ("a", "b", "c")]
    data = load_data_set(make_config({"data_sets": entries, "labels": ["ring"], "test_size": 0}, "test"))
    parts, part = _hold_out(data, "a")
    assert (part, len(parts.test)) == ("all", 12)
    assert len(parts.train) + len(parts.validation) == 10 + 6
    assert "a: 2 images of other sets are copies of its images and left out; first: b/slide0_0.png" in caplog.text


def test_mean_and_standard_error_by_hand():
    assert mean_and_error([0.8, None, 0.9, 1.0]) == pytest.approx((0.9, 0.1 / 3**0.5))
    assert mean_and_error([0.8]) == (0.8, None)
    assert mean_and_error([None]) is None


def test_table_and_summary():
    fold = {"mAP50": 0.5, "cell": {"AP50": 0.9, "recall50": 1.0}}  # no infected class
    assert table([fold, fold | {"mAP50": 0.7}]).splitlines()[-1].startswith("| mean ± standard error | 0.600 ± 0.100 | 0.900 ± 0.000 |")
    content = summary([fold], 5, ["tta=8"])
    assert content["mean"]["mAP50"] == 0.5
    assert content["mean"]["infected F1"] is None
    assert (content["finished"], content["folds"], content["set"]) == (1, 5, ["tta=8"])
    whole = {"accuracy": 0.9, "macro_f1": 0.8, "balanced_accuracy": 0.7}
    assert table([whole]).splitlines()[0] == "| fold | accuracy | macro F1 | balanced accuracy |"
