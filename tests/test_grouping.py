"""Groups by the names of images: found, or said that they are not, and never for ever."""

import logging
import time
from pathlib import Path

import numpy as np
import pytest

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.annotations.grouping import grouped

NOTHING = np.zeros((0, 4)), np.zeros(0, dtype=int), np.zeros(0, dtype=bool)


def groups(keys, group):
    return [p.group for p in grouped([AnnotatedImage(k, Path(k), (9, 9), "", *NOTHING) for k in keys], group, Path("set.json"))]


def test_groups_are_what_the_pattern_finds(caplog):
    with caplog.at_level(logging.WARNING):
        assert groups(["a/slide1_x.png", "slide12_y.png"], r"(slide\d+)_") == ["slide1", "slide12"]
        assert groups(["a/b/1.png", "2.png"], "folder") == ["a/b", "."]
        assert groups(["a/1.png"], None) == ["a/1.png"]
        assert groups(["1x.png"], r"(?:(\d)x)") == ["1"]
    assert not caplog.records


@pytest.mark.parametrize(
    ("keys", "group", "expected", "message"),
    [
        (["a.png", "b.png"], r"(slide\d+)_", ["a.png", "b.png"], "finds a slide in none of 2 paths; first without: 'a.png'"),
        (["s1_a.png", "b.png", "c.png"], r"(s\d)_", ["s1", "b.png", "c.png"], "finds a slide in 1 of 3 paths; first without: 'b.png'"),
        (["a1.png", "a.png"], r"a(\d)?", ["1", "a.png"], "in 1 of 2 paths; first without: 'a.png'"),  # the group takes no part
        (["a1.png", "b2.png"], r"(\d*)", ["a1.png", "b2.png"], "in none of 2 paths"),  # empty at the start of each: no slide of all
    ],
)
def test_images_without_a_slide_are_counted(caplog, keys, group, expected, message):
    with caplog.at_level(logging.WARNING):
        assert groups(keys, group) == expected
    (record,) = caplog.records
    assert "set.json: group: " in record.message
    assert message in record.message
    assert "to folder, or to null" in record.message


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("((a|a)*)$", "takes more than 0.3 seconds for 40 paths, and was stopped at 'aaaa"),
        ("((a|aa)*)$", "takes more than 0.3 seconds"),
        ("((((a{65535}){65535}){65535}){65535})", "its repetition counts multiply to more than 10,000"),
        ("(a{99999999999999999999})", "its repetition counts multiply to more than 10,000"),
        ("(" * 400 + ")" * 400, "more than 500"),
        ("slide", "it has no (group)"),
        ("(slide", "not a regular expression"),
        ("[", "not a regular expression"),
    ],
)
def test_patterns_that_cannot_be_used_end_at_once(monkeypatch, group, message):
    monkeypatch.setattr("malaria_cells.data.annotations.grouping.SECONDS", 0.3)
    started = time.process_time()
    with pytest.raises(InputError, match=r"^group: ") as refused:
        groups(["a" * 40 + "b.png", "x" * 60] * 20, group)
    assert message in str(refused.value)
    assert time.process_time() - started < 2
