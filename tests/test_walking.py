import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from malaria_cells.base.errors import InputError
from malaria_cells.data.images import list_images, walk_files


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(root: Path) -> list[str]:
    return [p.relative_to(root).as_posix() for p in walk_files(root)]


def test_own_files_of_every_depth_sorted_below_the_root_as_given(tmp_path, monkeypatch):
    put(tmp_path, "b.png", "a/deep/er/x.txt", "a/y.png")
    assert names(tmp_path) == ["a/deep/er/x.txt", "a/y.png", "b.png"]
    monkeypatch.chdir(tmp_path)
    assert walk_files(Path("a")) == [Path("a/deep/er/x.txt"), Path("a/y.png")]
    assert walk_files(Path()) == [Path("a/deep/er/x.txt"), Path("a/y.png"), Path("b.png")]


def test_hidden_folders_and_those_of_other_programs_are_not_searched(tmp_path):
    put(tmp_path, "a.png", "._a.png", ".git/b.png", "sub/.thumbnails/c.png", "__MACOSX/d.png", "sub/@eaDir/e.png", "$RECYCLE.BIN/f.png")
    assert names(tmp_path) == ["a.png"]
    assert [p.name for p in walk_files(tmp_path / ".git")] == ["b.png"]  # named by a person
    assert list_images(tmp_path)[1] == ["a.png"]


def test_links_to_folders_are_followed_for_each_name(tmp_path):
    put(tmp_path, "pool/g.png", "pool/deep/h.png", "data/own.png")
    for name in ("A", "B"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "pool")
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "pool/g.png")
    assert names(tmp_path / "data") == ["A/deep/h.png", "A/g.png", "B/deep/h.png", "B/g.png", "link.png", "own.png"]
    (tmp_path / "all").symlink_to("data")
    assert names(tmp_path / "all") == names(tmp_path / "data")


def test_links_that_lead_back_end(tmp_path):
    put(tmp_path, "a/x.png", "b/y.png")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/b").symlink_to(tmp_path / "b")
    (tmp_path / "b/a").symlink_to(tmp_path / "a")
    (tmp_path / "b/self").symlink_to("self")
    (tmp_path / "b/none.png").symlink_to("nowhere")
    assert names(tmp_path) == ["a/b/y.png", "a/x.png", "b/a/x.png", "b/y.png"]


def test_links_that_branch_at_every_step_end(tmp_path):
    put(tmp_path, *(f"out/{i}/p.png" for i in range(40)))
    for i in range(39):
        for name in "lr":
            (tmp_path / f"out/{i}/{name}").symlink_to(tmp_path / f"out/{i + 1}")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/first").symlink_to(tmp_path / "out/0")
    assert len(names(tmp_path / "in")) == 40


def test_a_folder_that_cannot_be_opened_is_told(tmp_path, monkeypatch, caplog):
    put(tmp_path, "a.png", "closed/b.png")
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert names(tmp_path) == ["a.png"]
    assert "1 folder left out, since opening failed; first: " in caplog.text
    assert "closed (Permission denied)" in caplog.text
    with pytest.raises(InputError, match=r"closed: cannot be searched \(Permission denied\)"):
        walk_files(tmp_path / "closed")


@pytest.mark.parametrize("name", ["none", "file.txt"])
def test_the_root_must_be_a_folder(tmp_path, name):
    put(tmp_path, "file.txt")
    with pytest.raises(InputError, match=f"{name}: cannot be searched"):
        walk_files(tmp_path / name)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from("lmn")), max_size=12, unique_by=lambda t: (t[0], t[2])))
def test_any_links_end_and_every_own_file_comes_once(tmp_path_factory, links):
    root = tmp_path_factory.mktemp("links")
    own = ["0/p.png", "0/1/p.png", "0/1/2/p.png", "3/p.png", "3/4/p.png", "5/p.png"]
    folders = [root / Path(name).parent for name in own]
    put(root, *own)
    for where, to, name in links:
        (folders[where] / name).symlink_to(folders[to])
    found = names(root)
    assert set(own) <= set(found)
    assert len(found) == len(set(found))
    assert len(found) <= len(own) * (1 + len(links))
