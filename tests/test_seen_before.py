"""Images that a start model has learned from are known by their names."""

import json
import shutil
from dataclasses import replace

import pytest
import yaml

from malaria_cells.app.commands import crossvalidate_sets
from malaria_cells.app.commands.run_truth import select_part
from malaria_cells.base.errors import InputError
from malaria_cells.config import load_config, make_config
from malaria_cells.data.seen_before import learned_from, say_seen, seen_in
from malaria_cells.inference.model_description import ABOUT
from malaria_cells.inference.model_folder import PROPOSER
from malaria_cells.training.start_model import with_start
from tests.test_leaks import NAMES, draw, load, slides


def start(folder, **parts):
    folder.mkdir(exist_ok=True)
    (folder / "split.json").write_text(json.dumps(parts))
    return folder


@pytest.fixture
def start_with_list(untrained_model, tmp_path):
    """A model folder that lists what it was trained on, and that training can be begun with as far as its description goes."""
    folder = shutil.copytree(untrained_model, tmp_path / "start")
    content = yaml.safe_load((folder / ABOUT).read_text()) | {"proposals": "learned"}
    (folder / ABOUT).write_text(yaml.safe_dump(content))
    (folder / PROPOSER).write_bytes(b"")
    return start(folder, train=NAMES)


def test_what_a_model_and_those_before_it_learned_from(tmp_path):
    folder = start(tmp_path / "m", train=["a.jpg", "b.jpg"], validation=["c.jpg"], test=["d.jpg"], seen_before=["e.jpg", "a.jpg"])
    assert learned_from(folder) == ["a.jpg", "b.jpg", "c.jpg", "e.jpg"]
    assert learned_from(tmp_path) == []
    assert seen_in(folder, ["x/B.png", "d.jpg", "e", "bb.jpg"]) == ["x/B.png", "e"]
    assert seen_in(folder, ["x/B.png", "d.jpg", "f", "bb.jpg"]) == []  # b alone may be anybody's; d is of the test part
    assert seen_in(start(tmp_path / "n", train=["PA171690.JPG", "1234567.png"]), ["a", "b", "c", "pa171690", "1234567"]) == ["pa171690"]
    assert seen_in(tmp_path / "nothing", []) == []


def test_images_that_the_start_model_has_seen_are_counted_and_named(tmp_path, caplog):
    slides(tmp_path / "set", NAMES)
    images = load(tmp_path / "set").all_images
    stem = images.images[0].path.stem
    test = replace(images, images=images.images[:2])
    rest = replace(images, images=images.images[2:])
    folder = start(tmp_path / "m", train=[f"other/images/{stem.upper()}.JPG"], test=[p.path.name for p in images.images[1:]])
    assert say_seen(folder, {"validation": rest, "test": test}) == {"seen_before": {"test": 1}}
    assert "1 of 2 images of the test part have file names of images that" in caplog.text
    assert "too confident" not in caplog.text
    say_seen(folder, {"validation": test}, "--from")
    assert f"--from: 1 of 2 images of the validation part have file names of images that {folder} was trained on" in caplog.text
    assert "calibration, thresholds and intervals are chosen on them, and are then too confident" in caplog.text
    caplog.clear()
    assert say_seen(start(tmp_path / "n", train=["x.png"]), {"test": test}) == {}
    assert not caplog.text


def test_what_the_models_before_saw_is_no_part_of_a_split(tmp_path):
    """A second fine-tuning on one folder has its test images in both lists."""
    for name in ("a.png", "b.png"):
        draw(tmp_path / name, 1)
    start(tmp_path / "m", train=["b.png"], test=["a.png"], seen_before=["a.png", "b.png"])
    assert select_part(tmp_path, ["a.png", "b.png"], tmp_path / "m" / "split.json", "test") == ["a.png"]
    with pytest.raises(InputError, match=r"holds the parts 'test', 'train', expected 'validation'"):
        select_part(tmp_path, ["a.png", "b.png"], tmp_path / "m" / "split.json", "validation")


def test_no_data_set_is_left_out_that_the_start_model_was_trained_on(start_with_list, tmp_path):
    slides(tmp_path / "set", NAMES)
    images = load(tmp_path / "set").all_images
    with pytest.raises(
        InputError, match=r"start_from: \S+: was trained on images with the file names of 12 of 12 images .*start_from=null"
    ):
        crossvalidate_sets._check_start_model(make_config({"start_from": str(start_with_list)}, "c.yaml"), images)
    crossvalidate_sets._check_start_model(make_config({}, "c.yaml"), images)


@pytest.mark.parametrize("name", ["a" * 300, "a\0b"])
def test_a_start_model_of_an_impossible_name_is_refused_in_a_sentence(tmp_path, name):
    (tmp_path / "c.yaml").write_text(json.dumps({"start_from": name}))
    with pytest.raises(InputError, match="start_from"):
        with_start(load_config(tmp_path / "c.yaml"))
