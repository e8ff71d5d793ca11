"""What a run leaves in its output, whatever ends it and whatever was there before."""

import csv
import json
import os
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from malaria_cells.app.cli import main
from malaria_cells.app.commands import run as command
from malaria_cells.app.commands.run_model import LoadedModel
from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.data.detections import Detections
from malaria_cells.results.output_folder import ANNOTATED, COMPARED, UNFINISHED, claimed
from malaria_cells.results.run_journal import has_finished_images
from tests.conftest import write_bbbc041, write_image


class Killed(BaseException):
    """The process is gone: nothing that it would do afterwards is done."""


class Killer:
    """Ends a run at its n-th operation on a file below a folder: that one fails, and so does every later one."""

    def __init__(self):
        self.folder, self.left = None, None
        self.count = 0
        sys.addaudithook(self)  # there is no way to take it away again

    def __call__(self, event, arguments):
        if self.folder is None or event not in {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"}:
            return
        path = arguments[0]
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(self.folder):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        self.count += 1
        if self.left is not None and self.count > self.left:
            raise Killed

    def run(self, folder, left, step):
        """Number of operations that `step` has on files below `folder`, if it is let."""
        self.folder, self.left, self.count = str(folder), left, 0
        try:
            step()
        except Killed:
            pass
        finally:
            self.folder = None
        return self.count


KILLER = Killer()


def stub(six_classes, fails=()):
    """A detector that finds two cells in every image."""

    def detect(image):
        p = np.zeros((2, 7), dtype=np.float32)
        p[0, 0], p[1, 3] = 0.9, 0.8
        data = {"probabilities": p, "objectness": np.ones(2), "counted_as": np.array([0, 3])}
        xyxy = np.array([[1, 1, 20, 20], [30, 5, 50, 25]], dtype=np.float32)
        return Detections.from_boxes(xyxy=xyxy, class_id=np.array([0, 3]), confidence=np.array([0.9, 0.8], dtype=np.float32), **data)

    settings = SimpleNamespace(infected_threshold=0.5, cell_threshold=0.5)
    unknown = {"familiarity": lambda *_: None, "errors_for": lambda *_: None}
    return SimpleNamespace(labels=six_classes, errors=None, settings=settings, detect=detect, **unknown)


@pytest.fixture
def quick(monkeypatch, six_classes):
    """Runs of a stub, whose report is a line."""
    monkeypatch.setattr(command, "load", lambda *_: LoadedModel(stub(six_classes), six_classes, True))
    monkeypatch.setattr(command, "write_run_report", lambda output, *_: files.write_text(output.folder / "report.html", "report\n"))


def run(*arguments):
    return main(["run", *map(str, arguments)])


def contents(folder):
    """All files by their paths, the time that an image took left out."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    if "metrics.json" in found:
        found["metrics.json"] = json.loads(found["metrics.json"]) | {"seconds_per_image": None}
    return found


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_run_killed_at_any_operation_goes_on(quick, tmp_path, capsys):
    """With nothing there before, and over an earlier run with other images and a person's own file among them."""
    images = tmp_path / "in"
    truth = write_bbbc041(images, {"a/x.png": [("ring", 30, 5, 50, 25)]})
    request = ("--image", images, "--annotations", truth, "--compare")
    write_image(tmp_path / "old" / "old.png")
    whole, earlier, output = tmp_path / "whole", tmp_path / "earlier", tmp_path / "out"
    assert run(*request, "--output", whole) == 0
    expected = contents(whole)
    assert {p.split("/")[0] for p in expected} >= {"detections.csv", "metrics.json", "report.html", ANNOTATED, COMPARED}
    assert run("--image", tmp_path / "old", "--output", earlier) == 0
    (earlier / ANNOTATED / "notes.txt").write_text("mine")
    for before, more in ((None, {}), (earlier, {f"{ANNOTATED}/notes.txt": b"mine"})):

        def begin(before=before):
            shutil.rmtree(output, ignore_errors=True)
            if before:
                shutil.copytree(before, output)

        begin()
        operations = KILLER.run(output, None, lambda: run(*request, "--output", output))
        assert contents(output) == expected | more
        assert operations > 30
        for left in range(0, operations, 2 if before else 1):
            begin()
            assert KILLER.run(output, left, lambda: run(*request, "--output", output)) > left
            killed = f"killed at operation {left} of {operations}"
            left_behind = contents(output)
            if has_finished_images(output):
                assert run(*request, "--output", output) == 2, killed
                assert contents(output) == left_behind, killed
            is_begun = not before or UNFINISHED in left_behind  # otherwise the earlier run's results are whole and there is nothing else
            assert run(*request, "--output", output, *(["--resume"] if is_begun else [])) == 0, killed
            assert contents(output) == expected | more, killed
    capsys.readouterr()


def test_two_runs_do_not_write_into_one_folder(quick, tmp_path, capsys):
    write_image(tmp_path / "a.png")
    with claimed(tmp_path / "out"):
        assert run("--image", tmp_path / "a.png", "--output", tmp_path / "out") == 2
        assert "another run is writing into it; wait until it ends, or choose another --output" in capsys.readouterr().err
    assert not (tmp_path / "out" / UNFINISHED).exists()
    assert run("--image", tmp_path / "a.png", "--output", tmp_path / "out") == 0


def test_a_run_that_comes_to_nothing_leaves_nothing(tmp_path):
    for folder in (tmp_path / "new" / "out", tmp_path / "there"):
        (tmp_path / "there").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match="no"), claimed(folder):
            raise ValueError("no")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
    assert not list((tmp_path / "there").iterdir())


def test_a_refused_run_leaves_everything_as_it_was(quick, tmp_path, monkeypatch, capsys):
    write_image(tmp_path / "a.png")
    assert run("--image", tmp_path / "a.png", "--output", tmp_path / "out") == 0
    before = contents(tmp_path)

    def refuse(*_):
        raise InputError("no such class")

    monkeypatch.setattr(command, "load", refuse)
    for output in ("out", "new/out"):
        assert run("--image", tmp_path / "a.png", "--output", tmp_path / output) == 2
    assert contents(tmp_path) == before
    assert not (tmp_path / "new").exists()
    (tmp_path / "out" / UNFINISHED).touch()  # of a run that was killed: what it left stays known
    assert run("--image", tmp_path / "a.png", "--output", tmp_path / "out") == 2
    assert (tmp_path / "out" / UNFINISHED).exists()


@pytest.mark.parametrize("name", ["metrics.json", "report.html", "detections.csv", "failed.csv"])
def test_files_of_another_program_are_not_written_over(quick, tmp_path, capsys, name):
    write_image(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("id,value\n1,2\n")
    assert run("--image", tmp_path / "a.png", "--output", tmp_path / "out") == 2
    assert f"holds {name}, which no run wrote and which would be overwritten" in capsys.readouterr().err
    assert {p.name: p.read_text() for p in (tmp_path / "out").iterdir()} == {name: "id,value\n1,2\n"}


def test_a_folder_of_images_that_is_a_link_is_not_emptied(quick, tmp_path, capsys):
    write_image(tmp_path / "a.png")
    assert run("--image", tmp_path / "a.png", "--output", tmp_path / "out") == 0
    (tmp_path / "out" / ANNOTATED).rename(tmp_path / "mine")
    (tmp_path / "out" / ANNOTATED).symlink_to(tmp_path / "mine")
    assert run("--image", tmp_path / "a.png", "--output", tmp_path / "out") == 2
    assert "annotated in it is a link or a file" in capsys.readouterr().err
    assert (tmp_path / "mine" / "a.png.png").is_file()


def test_nothing_of_an_earlier_run_is_taken_for_this_ones(quick, tmp_path, capsys):
    truth = write_bbbc041(tmp_path / "in", {"a.png": [("ring", 30, 5, 50, 25)]})
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    request = ("--image", tmp_path / "in", "--output", tmp_path / "out")
    assert run(*request, "--annotations", truth, "--compare", "--review", "1") == 3
    assert {"failed.csv", "metrics.json", "per_class.csv", COMPARED, "review"} <= {p.name for p in (tmp_path / "out").iterdir()}
    (tmp_path / "in" / "broken.png").unlink()
    capsys.readouterr()
    assert run(*request) == 0
    left = {p.name for p in (tmp_path / "out").iterdir()}
    assert left == {"detections.csv", "counts.csv", "detections.json", "report.html", ANNOTATED, "review"}
    assert "review is from an earlier run; it may hold corrections and was left unchanged" in capsys.readouterr().out


def test_long_and_equal_names_of_drawn_images(quick, tmp_path, capsys):
    names = ["a" * 246 + "1.png", "a" * 246 + "2.png", "x.png", "X.png", "x.png.png/y.png"]
    for name in names:
        write_image(tmp_path / "in" / name)
    assert run("--image", tmp_path / "in", "--output", tmp_path / "out") == 0
    assert sum(p.is_file() for p in (tmp_path / "out" / ANNOTATED).rglob("*.png")) == len(names)
    assert (tmp_path / "out" / ANNOTATED / "X.png.png").is_file()
    assert {r["image"] for r in rows(tmp_path / "out" / "counts.csv")} == {*names, "TOTAL"}
    assert "4 images drawn under another name" in capsys.readouterr().out


def test_the_terms_of_the_weights_are_in_the_report(monkeypatch, six_classes, tmp_path):
    monkeypatch.setattr(command, "load", lambda *_: LoadedModel(stub(six_classes), six_classes, True, terms="For research only."))
    write_image(tmp_path / "in" / "a.png")
    assert run("--image", tmp_path / "in", "--output", tmp_path / "out") == 0
    assert "For research only." in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
def test_a_name_that_is_a_formula_and_not_utf_8(monkeypatch, six_classes, tmp_path, capsys):
    """The real report, which holds the name in its charts and captions."""
    monkeypatch.setattr(command, "load", lambda *_: LoadedModel(stub(six_classes), six_classes, True))
    name = os.fsdecode(b"caf\xe9 $a$ $_{.png")
    write_image(tmp_path / "in" / name)
    assert run("--image", tmp_path / "in" / name, "--output", tmp_path / "out") == 0
    assert (tmp_path / "out" / ANNOTATED / f"{name}.png").is_file()
    assert [r["image"] for r in rows(tmp_path / "out" / "counts.csv")] == ["caf\\udce9 $a$ $_{.png", "TOTAL"]
    assert json.loads((tmp_path / "out" / "detections.json").read_text())["images"][0]["file_name"] == name
    assert "caf\\udce9 $a$" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_names_that_mean_something_else_in_a_table(quick, tmp_path, capsys):
    write_image(tmp_path / "in" / "=1+1.png")
    write_image(tmp_path / "TOTAL.png")
    (tmp_path / "TOTAL.png").rename(tmp_path / "TOTAL")
    assert run("--image", tmp_path / "in", "--output", tmp_path / "out") == 0
    assert "1 name in the tables begin with =, +, - or @" in capsys.readouterr().out
    assert [r["image"] for r in rows(tmp_path / "out" / "counts.csv")] == ["=1+1.png", "TOTAL"]
    assert run("--image", tmp_path / "TOTAL", "--output", tmp_path / "total") == 0
    assert [r["image"] for r in rows(tmp_path / "total" / "counts.csv")] == ["./TOTAL", "TOTAL"]


def test_an_image_that_cannot_be_drawn_costs_no_table(quick, monkeypatch, tmp_path, capsys):
    from malaria_cells.results import run_outputs as outputs

    write = outputs.write_png

    def full(path, scene):
        if path.name == "b.png.png":
            raise OSError(28, "No space left on device")
        write(path, scene)

    monkeypatch.setattr(outputs, "write_png", full)
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "in" / name)
    assert run("--image", tmp_path / "in", "--output", tmp_path / "out") == 3
    assert [r["image"] for r in rows(tmp_path / "out" / "counts.csv")] == ["a.png", "b.png", "TOTAL"]
    (failed,) = rows(tmp_path / "out" / "failed.csv")
    assert failed["image"] == "b.png"
    assert "is in the tables, but could not be drawn: [Errno 28] No space left" in failed["reason"]
