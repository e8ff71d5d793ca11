import json

import pytest

from malaria_cells import files
from malaria_cells.errors import InputError


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
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "a.jpg").write_text("mine")
    for path in (folder, folder / "a.jpg"):
        with pytest.raises(InputError, match="is already there"), files.replacing_folder(path, known_by):
            pytest.fail("it begins")
    assert (folder / "a.jpg").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["photographs"]


def test_json_is_strict(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "m.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())
    files.write_json(tmp_path / "m.json", {"a": None})
    assert json.loads((tmp_path / "m.json").read_text()) == {"a": None}
