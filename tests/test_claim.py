"""Names of trainings: what a folder can be named, and one training at a time."""

import os
import subprocess
import sys

import pytest

from malaria_cells.app.cli import main
from malaria_cells.base.errors import InputError
from malaria_cells.base.locks import LOCKS
from malaria_cells.fitting import claim
from malaria_cells.fitting.claim import check_place, claimed
from malaria_cells.fitting.run_folders import folder_of


@pytest.mark.parametrize("name", ["m", "2026-01-01", "plasmodium vivax, 2", "Größe", "a" * 200, ".hidden", "m..", "ä" * 118])
def test_names_of_folders_are_taken(tmp_path, name):
    check_place(tmp_path / "models", name)
    assert not list(tmp_path.iterdir())
    with claimed(tmp_path, name, resume=False) as held:
        assert held == name


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("a" * 300, "has 300 bytes; expected at most 236"),
        ("ä" * 119, "has 238 bytes"),
        ("a/b", "holds '/'"),
        ("../m", "holds '/'"),
        ("a\\b", r"holds '\\\\'"),
        ("..", "is not a valid name"),
        (".", "is not a valid name"),
        ("a\nb", r"holds '\\n'"),
        ("a\0b", r"holds '\\x00'"),
        ("\ud800", r"holds '\\ud800'"),
    ],
)
def test_other_names_are_refused_before_anything_is_read(tmp_path, name, match, monkeypatch, capsys):
    with pytest.raises(InputError, match=rf"name: .*{match}"):
        check_place(tmp_path, name)
    if "\ud800" in name:
        return
    (tmp_path / "config.yaml").write_text(f"name: {ascii(name) if name.isascii() else name}\n".replace("'", '"'), encoding="utf-8")
    assert main(["train", "--config", str(tmp_path / "config.yaml"), "--set", f"output_models={tmp_path / 'models'}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: name: ")
    assert len(said.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for place, match in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "models", "is a file"),
        (tmp_path / ("a" * 300), "File name too long"),
        (tmp_path / "a\0b", "models are written to a folder"),
    ):
        with pytest.raises(InputError, match=match):
            check_place(place, "m")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="is not writable; name another folder"):
        check_place(tmp_path / "new", "m")


def test_a_patch_cache_that_cannot_be_is_missed_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("train_images: none\n")
    (tmp_path / "file").write_text("")
    sets = ["--set", f"output_models={tmp_path / 'models'}", "--set", f"patch_cache={tmp_path / 'file' / 'patches'}"]
    assert main(["train", "--config", str(tmp_path / "config.yaml"), *sets]) == 2
    assert "file is a file; patches are written to a folder" in capsys.readouterr().err


def test_one_training_of_a_name_at_a_time(tmp_path):
    with claimed(tmp_path, "m", resume=False):
        for resume in (False, True):
            with pytest.raises(InputError, match=r"m: another training is writing to it; wait"), claimed(tmp_path, "m", resume):
                pytest.fail("it begins")
        with claimed(tmp_path, "other", resume=False):
            pass
    with claimed(tmp_path, "m", resume=False):
        pass


def test_trainings_without_a_name_that_begin_in_one_second_have_two(tmp_path, monkeypatch):
    class Clock(claim.dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(claim.dt, "datetime", Clock)
    with claimed(tmp_path, None, resume=False) as first, claimed(tmp_path, None, resume=False) as second:
        assert (first, second) == ("2026-01-02-030405", "2026-01-02-030405-2")
        (tmp_path / first).mkdir()
        folder_of(tmp_path, second).mkdir()
    with claimed(tmp_path, None, resume=False) as third:
        assert third == "2026-01-02-030405-3"


def test_without_a_name_the_newest_run_that_nobody_works_on_is_gone_on_with(tmp_path):
    with pytest.raises(InputError, match="found no unfinished run"), claimed(tmp_path / "models", None, resume=True):
        pytest.fail("it begins")
    assert not (tmp_path / "models").exists()
    for i, name in enumerate(("a", "b")):
        folder_of(tmp_path, name).mkdir()
        os.utime(folder_of(tmp_path, name), (1000 + i, 1000 + i))
    with claimed(tmp_path, None, resume=True) as newest, claimed(tmp_path, None, resume=True) as other:
        assert (newest, other) == ("b", "a")
        with pytest.raises(InputError, match="a: another training is writing to it"), claimed(tmp_path, None, resume=True):
            pytest.fail("it begins")


HOLD = """
import sys
from pathlib import Path
from malaria_cells.fitting.claim import claimed
with claimed(Path(sys.argv[1]), "m", resume=False):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_training_leaves_no_lock(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="is writing to it"), claimed(tmp_path, "m", resume=False):
        pytest.fail("it begins")
    holder.kill()
    holder.communicate()
    with claimed(tmp_path, "m", resume=False):
        assert [p.name for p in tmp_path.iterdir()] == [LOCKS]


def test_a_model_that_was_moved_away_is_back_before_its_place_is_swept(tmp_path):
    """As of a training that was killed just before its model was in place: the new training may fail."""
    for folder in (tmp_path / ".m.replaced-01" / "m", tmp_path / ".m.writing-02", tmp_path / ".m-2.writing-03"):
        folder.mkdir(parents=True)
        (folder / "model.yaml").write_text("whole")
    with claimed(tmp_path, "m", resume=False):
        assert (tmp_path / "m" / "model.yaml").read_text() == "whole"
        assert sorted(p.name for p in tmp_path.iterdir()) == [LOCKS, ".m-2.writing-03", "m"]
