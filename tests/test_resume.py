"""``run --resume``: a run that was killed goes on where it was, and ends as one that was let alone."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from malaria_cells.app.cli import main
from malaria_cells.app.commands import run as command
from malaria_cells.app.commands.run_model import LoadedModel
from malaria_cells.base import files
from malaria_cells.results.output_folder import ANNOTATED, UNFINISHED, claimed
from malaria_cells.results.run_journal import JOURNAL
from tests.conftest import write_bbbc041, write_image
from tests.test_run_output import KILLER, contents, stub

NAMES = [f"{letter}.png" for letter in "abcdef"]


class Dead(BaseException):
    """The process is gone."""


def run(*arguments):
    return main(["run", *map(str, arguments)])


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def model(monkeypatch, six_classes):
    """A stub whose report is a line; its attribute `seen` holds the colours of the images that it was given, and it dies at `dies_at`."""
    detector = stub(six_classes)
    detect, detector.seen, detector.dies_at = detector.detect, [], None

    def noting(image):
        colour = int(image[0, 0, 0])
        if colour == detector.dies_at:
            raise Dead
        detector.seen.append(colour)
        return detect(image)

    detector.detect = noting
    monkeypatch.setattr(command, "load", lambda *_: LoadedModel(detector, six_classes, True, engine="keras"))
    monkeypatch.setattr(command, "write_run_report", lambda output, *_: files.write_text(output.folder / "report.html", "report\n"))
    monkeypatch.setattr("malaria_cells.base.parallel.MIN_WORKERS", 1)
    monkeypatch.setattr("malaria_cells.base.parallel.cores", lambda: 1)
    return detector


@pytest.fixture
def killed(model, tmp_path):
    """A run on six images that died at the fourth: the arguments of the run, and its output folder."""
    for number, name in enumerate(NAMES):
        write_image(tmp_path / "in" / name, value=number)
    request = ("--image", tmp_path / "in", "--output", tmp_path / "out")
    model.dies_at = 3
    with pytest.raises(Dead):
        run(*request)
    model.dies_at, model.seen = None, []
    return request, tmp_path / "out"


def colours_of(model):
    """Colours of the images that were detected, without that of the call that traces the network."""
    return sorted(colour for colour in model.seen if colour < 100)


def test_only_what_is_not_finished_is_done(killed, model, tmp_path, capsys):
    request, output = killed
    assert not (output / "detections.csv").exists()
    assert run(*request, "--resume") == 0
    assert "--resume: 3 of 6 images are finished, 3 to do" in capsys.readouterr().out
    assert colours_of(model) == [3, 4, 5]
    resumed = contents(output)
    shutil.rmtree(output)
    assert run(*request) == 0
    assert resumed == contents(output)
    assert not any(name.startswith(".") for name in resumed)


def test_an_unfinished_run_is_named_and_left_alone(killed, capsys):
    request, output = killed
    before = contents(output)
    assert run(*request) == 2
    error = capsys.readouterr().err
    assert f"--output {output}: holds an unfinished run; add --resume to go on with it, or choose another --output" in error
    assert contents(output) == before
    (output / JOURNAL).unlink()  # as the message says
    assert run(*request) == 0


def test_a_run_that_died_before_its_first_image_has_nothing_to_lose(model, tmp_path):
    write_image(tmp_path / "in" / "a.png", value=0)
    model.dies_at = 0
    request = ("--image", tmp_path / "in", "--output", tmp_path / "out")
    for _ in range(2):
        with pytest.raises(Dead):
            run(*request)
        assert (tmp_path / "out" / JOURNAL).is_file()
    model.dies_at = None
    assert run(*request) == 0
    assert not (tmp_path / "out" / JOURNAL).exists()


def test_a_run_that_is_still_at_work_is_no_unfinished_one(killed, capsys):
    request, output = killed
    with claimed(output):
        for more in ([], ["--resume"]):
            assert run(*request, *more) == 2
            assert "another run is writing into it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--tta", "4"], "--tta (not given, now 4)"),
        (["--nms", "class", "--score-threshold", "0.2"], "--score-threshold (not given, now 0.2), --nms (not given, now class)"),
        (["--mode", "classify"], "--mode (detect, now classify)"),
        (["--labels", "a,b"], "--labels (not given, now ['a', 'b'])"),
    ],
)
def test_other_settings_are_refused(killed, capsys, more, message):
    request, output = killed
    before = contents(output)
    assert run(*request, *more, "--resume") == 2
    error = capsys.readouterr().err
    assert f"--resume: the unfinished run in {output} has other settings: {message}; repeat its settings, or choose another" in error
    assert contents(output) == before
    assert run(*request, "--resume") == 0


def test_another_model_engine_or_version_is_refused(killed, model, monkeypatch, six_classes, tmp_path, repository, capsys):
    request, output = killed
    other = shutil.copytree(repository / "pretrained" / "thin_smear", tmp_path / "model")
    (other / "model.yaml").write_text((other / "model.yaml").read_text() + "\n")
    assert run(*request, "--model", other, "--resume") == 2
    assert "other settings: --model (its files differ); repeat" in capsys.readouterr().err
    monkeypatch.setattr(command, "load", lambda *_: LoadedModel(model, six_classes, True, engine="onnx"))
    monkeypatch.setattr("importlib.metadata.version", lambda _: "99")
    assert run(*request, "--resume") == 2
    error = capsys.readouterr().err
    assert "--engine (keras, now onnx), the version of malaria-cells (" in error
    assert ", now 99)" in error
    assert (output / JOURNAL).is_file()


def test_what_is_done_when_all_images_are_finished_may_differ(killed, tmp_path):
    request, output = killed
    truth = write_bbbc041(tmp_path / "truth", {"a.png": [("ring", 30, 5, 50, 25)]})
    assert run(*request, "--annotations", truth, "--compare", "--force", "--review", "2", "--resume") == 0
    assert json.loads((output / "metrics.json").read_text())["images"] == 1
    assert (output / "review" / "doubtful.csv").is_file()


def test_changed_images_and_lost_drawings_are_done_again(killed, model, tmp_path, capsys, caplog):
    request, output = killed
    write_image(tmp_path / "in" / "a.png", (120, 80), value=50)
    (output / ANNOTATED / "b.png.png").unlink()
    (output / ANNOTATED / "c.png.png").write_bytes(b"")  # as a power failure may leave it
    assert run(*request, "--resume") == 0
    assert "--resume: 0 of 6 images are finished, 6 to do" in capsys.readouterr().out
    assert "--resume: changed since they were finished, and done again: 1 image (a.png)" in caplog.text
    assert "--resume: without their annotated image, and done again: 2 images (b.png, c.png)" in caplog.text
    assert colours_of(model) == [1, 2, 3, 4, 5, 50]
    assert [image["width"] for image in json.loads((output / "detections.json").read_text())["images"]] == [120, 100, 100, 100, 100, 100]


def test_images_that_are_gone_or_new_are_named(killed, model, tmp_path, caplog):
    request, output = killed
    (tmp_path / "in" / "a.png").rename(tmp_path / "a.png")  # finished
    (tmp_path / "in" / "f.png").unlink()  # not finished
    write_image(tmp_path / "in" / "g.png", value=60)
    truth = write_bbbc041(tmp_path / "truth", {"b.png": [("ring", 30, 5, 50, 25)]})
    assert run(*request, "--annotations", truth, "--resume") == 3
    assert "--resume: no longer found, and listed in failed.csv: 2 images (a.png, f.png)" in caplog.text
    assert "--resume: new since the run began, and left out; a run of their own detects them: 1 image (g.png)" in caplog.text
    assert [row["image"] for row in rows(output / "failed.csv")] == ["a.png", "f.png"]
    assert [row["image"] for row in rows(output / "counts.csv")] == ["b.png", "c.png", "d.png", "e.png", "TOTAL"]
    assert colours_of(model) == [3, 4]
    assert sorted(p.name for p in (output / ANNOTATED).iterdir()) == ["b.png.png", "c.png.png", "d.png.png", "e.png.png"]


def test_an_image_that_comes_back_is_done_again(killed, model, tmp_path):
    """What was drawn of it was removed when it was gone."""
    request, _ = killed
    (tmp_path / "in" / "a.png").rename(tmp_path / "a.png")
    model.dies_at = 4
    with pytest.raises(Dead):
        run(*request, "--resume")
    (tmp_path / "a.png").rename(tmp_path / "in" / "a.png")
    model.dies_at, model.seen = None, []
    assert run(*request, "--resume") == 0
    assert colours_of(model) == [0, 4, 5]


def test_other_images_are_refused(killed, tmp_path, capsys):
    _, output = killed
    write_image(tmp_path / "other" / "a.png")
    assert run("--image", tmp_path / "other", "--output", output, "--resume") == 2
    assert f"the images of the unfinished run are in {tmp_path}/in, found {tmp_path}/other; name the same" in capsys.readouterr().err
    assert run("--image", tmp_path / "in" / "[a-c].png", "--output", output, "--resume") == 2
    assert "--image and --split leave out 3 images of the unfinished run, first: d.png; name the same" in capsys.readouterr().err
    assert run("--image", tmp_path / "in" / "*.png", "--output", output, "--resume") == 0  # the same images, named otherwise


def test_an_output_folder_among_the_images(model, tmp_path, monkeypatch):
    """What was drawn before the kill is no input."""
    for number, name in enumerate(NAMES):
        write_image(tmp_path / name, value=number)
    monkeypatch.chdir(tmp_path)
    model.dies_at = 3
    with pytest.raises(Dead):
        run("--image", ".")
    model.dies_at = None
    assert run("--image", ".", "--resume") == 0
    assert [row["image"] for row in rows(tmp_path / "results" / "counts.csv")] == [*NAMES, "TOTAL"]


def test_failed_images_are_tried_again(model, tmp_path):
    """Their cause may have gone, as a network drive that was away for a moment."""
    for number, name in enumerate(NAMES):
        write_image(tmp_path / "in" / name, value=number)
    whole = (tmp_path / "in" / "a.png").read_bytes()
    (tmp_path / "in" / "a.png").write_bytes(whole[:50])
    (tmp_path / "in" / "b.png").write_bytes(whole[:50])
    model.dies_at = 4
    request = ("--image", tmp_path / "in", "--output", tmp_path / "out")
    with pytest.raises(Dead):
        run(*request)
    model.dies_at = None
    (tmp_path / "in" / "a.png").write_bytes(whole)
    assert run(*request, "--resume") == 3
    assert [row["image"] for row in rows(tmp_path / "out" / "failed.csv")] == ["b.png"]
    assert [row["image"] for row in rows(tmp_path / "out" / "counts.csv")] == ["a.png", *NAMES[2:], "TOTAL"]
    assert not (tmp_path / "out" / JOURNAL).exists()


def test_an_interrupted_run_can_be_resumed(killed, model, monkeypatch, capsys):
    """Its tables hold what is finished; they and the journal stay until it goes on."""
    request, output = killed
    (output / JOURNAL).unlink()
    detect = model.detect

    def interrupted(image):
        if image[0, 0, 0] == 3:
            raise KeyboardInterrupt
        return detect(image)

    model.detect = interrupted
    assert run(*request) == 130
    assert "the same command with --resume goes on with the others" in capsys.readouterr().out
    assert [row["image"] for row in rows(output / "counts.csv")] == [*NAMES[:3], "TOTAL"]
    assert not (output / UNFINISHED).exists()
    assert run(*request) == 2
    model.detect, model.seen = detect, []
    assert run(*request, "--tta", "4", "--resume") == 2
    assert run(*request, "--resume") == 0
    assert colours_of(model) == [3, 4, 5]
    assert [row["image"] for row in rows(output / "counts.csv")] == [*NAMES, "TOTAL"]


def test_a_resume_without_an_unfinished_run_begins_one_and_replaces_no_finished_one(model, tmp_path, capsys):
    """A job that is started again and again can always name --resume."""
    write_image(tmp_path / "in" / "a.png")
    request = ("--image", tmp_path / "in", "--output", tmp_path / "out", "--resume")
    assert run(*request) == 0
    assert "holds no unfinished run; a new one begins" in capsys.readouterr().out
    before = contents(tmp_path / "out")
    assert run(*request) == 2
    assert "holds a finished run and no unfinished one; leave out --resume to replace it" in capsys.readouterr().err
    assert contents(tmp_path / "out") == before


def test_a_torn_line_and_a_foreign_journal(killed, model, capsys, caplog):
    request, output = killed
    whole = (output / JOURNAL).read_bytes()
    (output / JOURNAL).write_bytes(b"{}\n" + whole)
    assert run(*request, "--resume") == 2
    assert f"{output / JOURNAL}: its first line is damaged" in capsys.readouterr().err
    (output / JOURNAL).write_bytes(whole[:-40])
    assert run(*request, "--resume") == 0
    assert f"{output / JOURNAL}: 1 line torn or damaged; images that no other line has will be done again" in caplog.text
    assert colours_of(model) == [2, 3, 4, 5]


def test_the_time_of_all_parts_is_added_up(killed, tmp_path):
    request, output = killed
    head, *lines = (output / JOURNAL).read_bytes().splitlines(keepends=True)
    from malaria_cells.results.journal_lines import content_of, line_of

    late = [line_of(content_of(line) | {"seconds": 600.0}) for line in lines]
    (output / JOURNAL).write_bytes(head + b"".join(late))
    truth = write_bbbc041(tmp_path / "truth", {"a.png": [("ring", 30, 5, 50, 25)]})
    assert run(*request, "--annotations", truth, "--resume") == 0
    assert 100 <= json.loads((output / "metrics.json").read_text())["seconds_per_image"] < 110


def test_the_command_in_the_report_repeats_the_run(tmp_path):
    from malaria_cells.app.commands.run_request import RunRequest

    assert RunRequest("in", tmp_path, resume=True).command_line() == RunRequest("in", tmp_path).command_line()


def test_classified_images_are_kept_too(untrained_model, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)).save(tmp_path / "in" / f"{i}.png")
    request = ("--model", untrained_model, "--image", tmp_path / "in", "--mode", "classify", "--output")
    assert run(*request, tmp_path / "whole") == 0
    from malaria_cells.app.commands import run_images

    read = run_images.read_image

    def interrupted(path):
        if path.name == "2.png":
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(run_images, "read_image", interrupted)
    assert run(*request, tmp_path / "out") == 130
    monkeypatch.setattr(run_images, "read_image", read)
    assert run(*request, tmp_path / "out", "--resume") == 0
    assert "--resume: 2 of 4 images are finished, 2 to do" in capsys.readouterr().out
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_a_resume_killed_at_any_operation_goes_on(killed, model, tmp_path, capsys):
    request, output = killed
    shutil.copytree(output, tmp_path / "killed")
    assert run(*request, "--resume") == 0
    expected = contents(output)

    def begin():
        shutil.rmtree(output)
        shutil.copytree(tmp_path / "killed", output)

    begin()
    operations = KILLER.run(output, None, lambda: run(*request, "--resume"))
    assert operations > 20
    for left in range(operations):
        begin()
        KILLER.run(output, left, lambda: run(*request, "--resume"))
        assert run(*request, "--resume") == 0, f"killed at operation {left} of {operations}"
        assert contents(output) == expected, f"killed at operation {left} of {operations}"
    capsys.readouterr()


def n_finished(output):
    """Number of finished images in the journal of a run that is at work."""
    path = output / JOURNAL
    return path.read_bytes().count(b"\n") - 1 if path.is_file() else 0


def killed_at(command, output, n_images):
    """Start a run and kill it when so many images are finished; return the number that is finished then."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while n_finished(output) < n_images and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    return n_finished(output)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_run_that_is_killed_three_times_ends_as_one_that_was_let_alone(repository, sample, tmp_path):
    """The shipped model on smears, some of them mirrored, and a broken image; every file is the same, but for the time in the report."""
    (tmp_path / "in" / "more").mkdir(parents=True)
    for number, path in enumerate(sorted((sample / "images").iterdir())):
        shutil.copy(path, tmp_path / "in")
        if number % 2:
            with Image.open(path) as image:
                image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "in" / "more" / f"{path.stem}.png")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"no image")
    output = tmp_path / "out"
    command = [sys.executable, str(repository / "run.py"), "--image", str(tmp_path / "in"), "--output", str(output)]
    command += ["--annotations", str(sample / "test.json")]

    def finished_run(*more):
        """Run to the end; return all files but for what tells the time."""
        assert subprocess.run([*command, *more], capture_output=True, check=False).returncode == 3
        found = contents(output)
        found["report.html"] = re.sub(rb"\d+\.\d\d s per image", b"", found["report.html"])
        return found

    expected = finished_run()
    assert expected["detections.csv"].count(b"\n") > 500
    assert sum(name.startswith(ANNOTATED) for name in expected) == 18
    shutil.rmtree(output)
    done = [killed_at(command, output, 3)]
    done.append(killed_at([*command, "--resume"], output, done[-1] + 4))
    done.append(killed_at([*command, "--resume"], output, done[-1] + 4))
    assert 3 <= done[0] < done[1] < done[2] < 18
    assert not (output / "detections.csv").exists()
    found = finished_run("--resume")
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
