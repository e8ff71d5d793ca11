"""Photographs that a start model has learned from are known by their names."""

import json
from dataclasses import replace

from malaria_cells.seen_before import learned_from, say_seen, seen_in
from tests.test_leaks import NAMES, load, slides


def start(folder, **parts):
    folder.mkdir(exist_ok=True)
    (folder / "split.json").write_text(json.dumps(parts))
    return folder


def test_what_a_model_and_those_before_it_learned_from(tmp_path):
    folder = start(tmp_path / "m", train=["a.jpg", "b.jpg"], validation=["c.jpg"], test=["d.jpg"], seen_before=["e.jpg", "a.jpg"])
    assert learned_from(folder) == ["a.jpg", "b.jpg", "c.jpg", "e.jpg"]
    assert learned_from(tmp_path) == []
    assert seen_in(folder, ["x/B.png", "d.jpg", "e", "bb.jpg"]) == ["x/B.png", "e"]


def test_photographs_that_the_start_model_has_seen_are_counted_and_named(tmp_path, caplog):
    slides(tmp_path / "set", NAMES)
    pictures = load(tmp_path / "set").all_pictures
    stem = pictures.pictures[0].path.stem
    test = replace(pictures, pictures=pictures.pictures[:2])
    rest = replace(pictures, pictures=pictures.pictures[2:])
    folder = start(tmp_path / "m", train=[f"other/images/{stem.upper()}.JPG"], test=[p.path.name for p in pictures.pictures])
    assert say_seen(folder, {"validation": rest, "test": test}) == {"seen_before": {"test": 1}}
    assert "1 photograph of 2 of the test part have; if they are the same, figures on that part flatter" in caplog.text
    caplog.clear()
    assert say_seen(start(tmp_path / "n", train=["x.png"]), {"test": test}) == {}
    assert not caplog.text
