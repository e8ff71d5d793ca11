"""What is kept of a training that was cut off: found, gone on with, put aside, never lost."""

import os

import pytest

from malaria_cells.config import make_config
from malaria_cells.errors import InputError
from malaria_cells.training.unfinished import UnfinishedRun, folder_of, newest


def settings(**changes):
    return make_config(changes, "test")


def test_resume_wants_the_same_config(tmp_path):
    UnfinishedRun.start(tmp_path / "run", settings())
    with pytest.raises(InputError, match="differs from the unfinished run's in epochs, random_state"):
        UnfinishedRun.resume(tmp_path / "run", settings(epochs=9, random_state=1))
    with pytest.raises(InputError, match="found no unfinished run"):
        UnfinishedRun.resume(tmp_path / "other", settings())


def test_a_run_begun_anew_puts_an_unfinished_one_aside(tmp_path, caplog):
    """Until it is finished; if it ends before it made anything, the unfinished one is there again."""
    folder, aside = folder_of(tmp_path, "m"), tmp_path / ".m.unfinished.before"
    (UnfinishedRun.start(folder, settings()).folder / "night").write_text("long")
    for ends in (UnfinishedRun.withdraw, lambda run: None):  # an error; a kill
        ends(UnfinishedRun.start(folder, settings()))
        assert "it is put aside as .m.unfinished.before" in caplog.text
        assert (folder if ends is UnfinishedRun.withdraw else aside).joinpath("night").is_file()
    run = UnfinishedRun.start(folder, settings())
    assert (aside / "night").is_file()
    assert newest(tmp_path) == "m"
    (folder / "proposer.keras").write_text("")
    run.withdraw()
    assert [p.name for p in sorted(tmp_path.iterdir())] == [folder.name, aside.name]
    run.remove()
    assert not list(tmp_path.iterdir())


def test_the_newest_unfinished_run_is_found(tmp_path):
    assert newest(tmp_path) is None
    for i, name in enumerate(("2026-01-02", "2026-01-01")):
        UnfinishedRun.start(folder_of(tmp_path, name), settings())
        os.utime(folder_of(tmp_path, name), (1000 + i, 1000 + i))
    assert newest(tmp_path) == "2026-01-01"
