"""Folders that are removed or cannot be written while a command is at work, and inputs that vanish after they were listed."""

import shutil

import numpy as np
import pytest

from malaria_cells.app.cli import main
from malaria_cells.app.commands import run as command
from malaria_cells.app.commands.run_model import LoadedModel
from malaria_cells.data import dataset
from tests.conftest import write_bbbc041, write_image
from tests.small_disk import SmallDisk
from tests.test_run_output import contents, rows, stub


@pytest.fixture
def during(monkeypatch, six_classes):
    """Lets something happen at the fourth image of a run."""

    def let(happen):
        detector, calls = stub(six_classes), []
        detect = detector.detect

        def detect_and(image):
            calls.append(1)
            if len(calls) == 4:
                happen()
            return detect(image)

        detector.detect = detect_and
        monkeypatch.setattr(command, "load", lambda *_: LoadedModel(detector, six_classes, True))
        monkeypatch.setattr(command, "write_run_report", lambda *_: None)

    let(lambda: None)
    return let


@pytest.fixture
def request_of(tmp_path):
    """The arguments of a run on sixty images, of which each has its own brightness."""
    for i in range(60):
        write_image(tmp_path / "in" / f"{i:02}.png", value=i)

    def arguments(output, *more):
        return ["run", "--image", str(tmp_path / "in"), "--output", str(output), *more]

    return arguments


@pytest.fixture
def disk(tmp_path):
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    disk.close()


def error_line(capsys):
    said = capsys.readouterr().err
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    return errors[0]


def test_an_output_folder_that_is_removed_in_the_middle(during, request_of, tmp_path, capsys):
    """Half of the results would otherwise look like all of them."""
    output = tmp_path / "out"
    assert main(request_of(tmp_path / "whole")) == 0
    during(lambda: shutil.rmtree(output))
    assert main(request_of(output)) == 1
    assert f"{output}: was removed while the run was writing into it" in error_line(capsys)
    during(lambda: None)
    assert main(request_of(output)) == 0
    assert contents(output) == contents(tmp_path / "whole")


def test_an_output_that_becomes_read_only(during, request_of, tmp_path, disk, capsys):
    output = disk.folder / "out"
    assert main(request_of(tmp_path / "whole")) == 0
    with disk.read_only():
        assert main(request_of(output)) == 1
        assert "Read-only file system; check that you may write" in error_line(capsys)
    assert main(request_of(output)) == 0
    assert contents(output) == contents(tmp_path / "whole")


def test_images_that_vanish_are_listed(during, request_of, tmp_path, capsys):
    during(lambda: (tmp_path / "in" / "59.png").unlink())
    assert main(request_of(tmp_path / "out")) == 3
    (failed,) = rows(tmp_path / "out" / "failed.csv")
    assert failed["image"] == "59.png"
    assert "no such" in failed["reason"].lower()
    assert len(rows(tmp_path / "out" / "counts.csv")) == 60


@pytest.fixture
def data_set(tmp_path):
    return write_bbbc041(tmp_path / "set", {f"{i}.png": [("ring", 5, 6, 30, 41), ("red blood cell", 40, 1, 99, 79)] for i in range(4)})


@pytest.mark.parametrize("name", ["1.png", "training.json"])
def test_a_conversion_whose_input_vanishes(data_set, tmp_path, monkeypatch, capsys, name):
    from malaria_cells.app.commands.explore import AnnotationRequest

    read = AnnotationRequest.read
    happen = (data_set.parent / name).unlink

    def read_and_lose(request):
        if name == "training.json":
            happen()
            return read(request)
        found = read(request)
        happen()
        return found

    monkeypatch.setattr(AnnotationRequest, "read", read_and_lose)
    assert main(["convert", str(data_set), str(tmp_path / "coco"), "--to", "coco"]) in {1, 2}
    assert name in error_line(capsys)
    assert not (tmp_path / "coco").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("name", [pytest.param("1.png", marks=pytest.mark.slow), "training.json"])
def test_a_training_whose_input_vanishes(data_set, tmp_path, monkeypatch, capsys, name):
    """After the annotation was read; nothing of a model is left."""
    from malaria_cells.training import train_model

    load = dataset.load_data_set

    def load_and_lose(config):
        if name == "training.json":
            data_set.unlink()
        found = load(config)
        (data_set.parent / name).unlink(missing_ok=True)
        return found

    monkeypatch.setattr(train_model, "load_data_set", load_and_lose)
    (tmp_path / "config.yaml").write_text(
        f"train_images: {data_set.parent}\nlabels: [ring, red blood cell]\noutput_models: {tmp_path / 'models'}\n"
        f"patch_cache: {tmp_path / 'cache'}\nname: m\nproposals: watershed\n",
        encoding="utf-8",
    )
    assert main(["train", "--config", str(tmp_path / "config.yaml")]) in {1, 2}
    assert ("1.png" if name == "1.png" else str(data_set.parent)) in error_line(capsys)
    assert not (tmp_path / "models" / "m").exists()


def test_models_and_patches_that_cannot_be_written(data_set, tmp_path, disk, capsys):
    for key in ("output_models", "patch_cache"):
        places = {"output_models": tmp_path / "models", "patch_cache": tmp_path / "cache"} | {key: disk.folder / "x"}
        sets = [part for name, place in places.items() for part in ("--set", f"{name}={place}")]
        (tmp_path / "config.yaml").write_text(
            f"train_images: {data_set.parent}\nlabels: [ring, red blood cell]\nname: m\nproposals: watershed\n", encoding="utf-8"
        )
        with disk.read_only():
            assert main(["train", "--config", str(tmp_path / "config.yaml"), *sets]) in {1, 2}
        assert str(disk.folder) in error_line(capsys)
        assert not (tmp_path / "models" / "m").exists()


def test_a_review_folder_that_is_removed(tmp_path):
    """Of a page that is open; the next correction is saved into a new one."""
    from malaria_cells.app.page.review_file import save_correction
    from malaria_cells.app.page.uploads import UploadedImage
    from malaria_cells.data.labels import LabelSet

    write_image(tmp_path / "a.png")
    image = UploadedImage("a.png", (tmp_path / "a.png").read_bytes(), np.full((80, 100, 3), 200, np.uint8), None)
    arguments = image, np.array([[5, 6, 30, 41]], np.float32), np.array([0]), LabelSet(("ring",))
    assert save_correction(tmp_path / "review", *arguments) == 1
    shutil.rmtree(tmp_path / "review")
    assert save_correction(tmp_path / "review", *arguments) == 1


def test_a_correction_whose_save_was_killed_behind_its_image_keeps_its_name(tmp_path):
    from malaria_cells.app.page.review_file import save_correction
    from malaria_cells.app.page.uploads import UploadedImage
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.data.labels import LabelSet

    labels = LabelSet(("ring",))
    write_image(tmp_path / "review" / "images" / "a.png")
    for value in (200, 90):  # the image itself, and another one of that name
        write_image(tmp_path / "a.png", value=value)
        image = UploadedImage("a.png", (tmp_path / "a.png").read_bytes(), np.full((80, 100, 3), value, np.uint8), None)
        save_correction(tmp_path / "review", image, np.array([[5, 6, 30, 41]], np.float32), np.array([0]), labels)
    saved = load_annotations(tmp_path / "review" / "annotations.json", labels).images
    assert sorted(image.path.name for image in saved) == ["a (2).png", "a.png"]
