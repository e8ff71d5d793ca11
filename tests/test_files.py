import json
import os
import shutil
import subprocess
import sys

import pytest

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.inference.model_yaml import load_description


def test_a_failed_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(IsADirectoryError), files.replacing(path) as beside:
        (beside.write_text("half"), tmp_path.write_text("fails"))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_a_failed_folder_leaves_the_old_one_whole(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a").write_text("old")
    with pytest.raises(IsADirectoryError), files.replacing_folder(folder, "a") as beside:
        ((beside / "b").write_text("half"), tmp_path.write_text("fails"))
    assert [p.name for p in folder.iterdir()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("old", ["a", None])
def test_a_folder_is_replaced_whole(tmp_path, old):
    """One that its file tells, and an empty one."""
    folder = tmp_path / "model"
    folder.mkdir()
    if old:
        (folder / old).write_text("old")
    with files.replacing_folder(folder, old) as beside:
        (beside / "b").write_text("new")
        assert not (folder / "b").exists()
    assert [p.name for p in folder.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("known_by", ["model.yaml", None])
def test_what_is_somebodys_own_is_not_replaced(tmp_path, known_by):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.jpg").write_text("mine")
    for path in (folder, folder / "a.jpg"):
        with pytest.raises(InputError, match="already exists"), files.replacing_folder(path, known_by):
            pytest.fail("it begins")
    assert (folder / "a.jpg").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["images"]


def test_json_is_strict(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "m.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())
    files.write_json(tmp_path / "m.json", {"a": None})
    assert json.loads((tmp_path / "m.json").read_text()) == {"a": None}


def test_permissions_are_those_of_any_new_file(tmp_path, monkeypatch):
    """And the process's own mask, which other threads make files by, is left alone."""
    old = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", lambda _: pytest.fail("changed for all threads"))
        files.write_text(tmp_path / "a", "")
        with files.replacing_folder(tmp_path / "folder", None):
            pass
        assert [oct((tmp_path / name).stat().st_mode & 0o777) for name in ("a", "folder")] == ["0o640", "0o750"]
    finally:
        monkeypatch.undo()
        os.umask(old)


@pytest.mark.parametrize("letter", ["a", "ä"])
def test_names_as_long_as_a_file_system_takes(tmp_path, letter):
    name = letter * (251 // len(letter.encode()))
    files.write_text(tmp_path / f"{name}.csv", "text")
    for _ in range(2):
        with files.replacing_folder(tmp_path / name, "a") as beside:
            (beside / "a").write_text("text")
    files.remove_folder(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [f"{name}.csv"]


class KilledError(BaseException):
    """Stands for a kill."""


def make(folder, text):
    with files.replacing_folder(folder, "a") as beside:
        (beside / "a").write_text(text)


def killed_between_the_renames(folder, monkeypatch):
    """Nothing is at the folder's place then."""
    make(folder, "old")
    moved, replace = [], os.replace

    def die_at_the_second(*places):
        if moved:
            raise KilledError
        moved.append(replace(*places))

    monkeypatch.setattr(os, "replace", die_at_the_second)
    monkeypatch.setattr(shutil, "rmtree", lambda _: None)
    with pytest.raises(KilledError):
        make(folder, "new")
    monkeypatch.undo()
    assert not folder.exists()


def test_a_kill_between_two_renames_loses_nothing(tmp_path, monkeypatch, caplog):
    folder = tmp_path / "model"
    killed_between_the_renames(folder, monkeypatch)
    assert (files.former(folder) / "a").read_text() == "old"
    assert files.former(tmp_path / "model2") is None
    files.put_back(folder)
    assert "model: writing it was interrupted; the previous version is restored" in caplog.text
    assert (folder / "a").read_text() == "old"
    files.sweep(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    killed_between_the_renames(folder, monkeypatch)
    with pytest.raises(InputError, match="already exists and holds no b"), files.replacing_folder(folder, "b"):
        pytest.fail("what was there is forgotten")
    make(folder, "newer")
    assert (folder / "a").read_text() == "newer"


def test_a_model_whose_writing_was_cut_off_is_said_to_be_beside_its_place(tmp_path, monkeypatch):
    killed_between_the_renames(tmp_path / "model", monkeypatch)
    with pytest.raises(InputError, match=r"model: writing a new model was interrupted; the previous model is now .*replaced.*move it"):
        load_description(tmp_path / "model")


def test_a_folder_that_another_process_puts_in_the_place_meanwhile_is_replaced(tmp_path, monkeypatch):
    """As where two processes write the same, or one puts back what the other has moved away."""
    folder, replace, done = tmp_path / "model", os.replace, []

    def another_first(source, target):
        if target == folder and not done:
            done.append(folder.mkdir())
            (folder / "a").write_text("the other one's")
        replace(source, target)

    monkeypatch.setattr(os, "replace", another_first)
    make(folder, "ours")
    assert (folder / "a").read_text() == "ours"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_what_is_removed_is_whole_or_gone(tmp_path, monkeypatch):
    make(tmp_path / "store", "text")
    monkeypatch.setattr(shutil, "rmtree", lambda _: (_ for _ in ()).throw(KilledError))
    with pytest.raises(KilledError):
        files.remove_folder(tmp_path / "store")
    monkeypatch.undo()
    assert not (tmp_path / "store").exists()
    files.sweep(tmp_path / "store")
    assert not list(tmp_path.iterdir())


COUNT = """
import sys
from pathlib import Path
from malaria_cells.base.locks import locked
counter = Path(sys.argv[1])
for _ in range(60):
    with locked(counter, "waits", wait=True):
        counter.write_text(str(int(counter.read_text()) + 1))
"""


def test_one_process_at_a_time_though_the_lock_is_removed_each_time(tmp_path):
    (tmp_path / "counter").write_text("0")
    running = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path / "counter")], stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert (tmp_path / "counter").read_text() == "180"
    assert [p.name for p in tmp_path.iterdir()] == ["counter"]


@pytest.mark.parametrize("rows", [[], [[], []], [[{"id": 1, "box": [1.5, 2]}], [], [{"id": 2, "name": 'a "rows": []\nb'}, {"id": 3}]]])
def test_rows_are_written_one_after_another_as_all_at_once(rows, tmp_path):
    content = {"info": {"folder": 'its "rows": [] are'}, "rows": [], "more": [1]}
    files.write_json(tmp_path / "whole.json", content | {"rows": [row for part in rows for row in part]})
    files.write_json_rows(tmp_path / "parts.json", content, "rows", iter(rows))
    assert (tmp_path / "parts.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
