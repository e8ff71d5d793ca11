"""A disk without room: one line says so, the exit code is 1, finished work is kept, and with room the same command ends the work."""

import json

import numpy as np
import pytest

from malaria_cells.app.cli import main
from malaria_cells.app.commands import run as command
from malaria_cells.app.commands.run_model import LoadedModel
from malaria_cells.app.page.review_file import save_correction
from malaria_cells.app.page.uploads import UploadedImage
from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations import load_annotations
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.patch_store import Cropping, build_patch_store
from tests.conftest import bbbc041_entry, write_bbbc041, write_image
from tests.mirror import archive, serving
from tests.small_disk import LimitedFiles, SmallDisk
from tests.test_run_output import contents, stub

NO_ROOM = ("No space left on device; make room, then run the command again", "File too large; make room, then run the command again")


@pytest.fixture(params=[SmallDisk, LimitedFiles])
def disk(request, tmp_path):
    """A disk whose room a test sets; with `LimitedFiles` it is that of each file."""
    disk = request.param(tmp_path / "disk")
    yield disk
    disk.close()


def said_once(capsys):
    """Whether the last line of stderr is the one about the disk, and nothing is a traceback."""
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said.rstrip().splitlines()[-1].removeprefix("error: ") in NO_ROOM


def noise(path, seed, size_wh=(120, 100)):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size_wh[::-1], 3), dtype=np.uint8)).save(path)


@pytest.mark.parametrize("room", [0, 150_000])
def test_detection(disk, tmp_path, monkeypatch, six_classes, capsys, room):
    """No room for the journal, or in the midst of the images and for the tables; the run goes on where it was, to the same files."""
    monkeypatch.setattr(command, "load", lambda *_: LoadedModel(stub(six_classes), six_classes, True))
    monkeypatch.setattr(command, "write_run_report", lambda *_: None)
    for i in range(60):
        write_image(tmp_path / "in" / f"{i}.png")
    request = ["run", "--image", str(tmp_path / "in")]
    assert main([*request, "--output", str(tmp_path / "whole")]) == 0
    output = ["--output", str(disk.folder / "out")]
    with disk.room(room if isinstance(disk, SmallDisk) else room // 20):  # the journal and detections.json are larger
        assert main([*request, *output]) == 1
    assert said_once(capsys)
    assert not (disk.folder / "out" / "detections.json").exists()
    assert main([*request, *output, "--resume"]) == 0
    assert (room > 0) == (" of 60 images are finished" in capsys.readouterr().out)
    assert contents(disk.folder / "out") == contents(tmp_path / "whole")


def test_conversion(disk, tmp_path, capsys):
    for i in range(4):
        noise(tmp_path / "set" / "images" / f"{i}.png", i)
    content = [bbbc041_entry(f"/images/{i}.png", [("ring", 5, 5, 30, 30)], (120, 100)) for i in range(4)]
    (tmp_path / "set" / "training.json").write_text(json.dumps(content), encoding="utf-8")
    request = ["convert", str(tmp_path / "set" / "training.json"), str(disk.folder / "coco"), "--to", "coco"]
    with disk.room(20_000):
        assert main(request) == 1
    assert said_once(capsys)
    assert not any(disk.folder.iterdir())
    assert main(request) == 0
    assert len(load_annotations(disk.folder / "coco", None)) == 4


def test_download(disk, tmp_path, monkeypatch, capsys):
    """The archive finds no room, then what is unpacked; bytes that were fetched are not fetched again."""
    entry = bbbc041_entry("/images/a.png", [("ring", 5, 5, 30, 30)])
    write_image(tmp_path / "a.png")
    members = {"malaria/images/a.png": (tmp_path / "a.png").read_bytes(), "malaria/noise": np.random.default_rng(0).bytes(3_000_000)}
    members |= {"malaria/training.json": json.dumps([entry]).encode(), "malaria/test.json": b"[]"}
    with serving({"/bbbc/BBBC041/malaria.zip": archive(members)}) as server:
        monkeypatch.setenv("MALARIA_CELLS_MIRROR", server.url)
        request = ["download", "bbbc041", "--data", str(disk.folder / "data")]
        with disk.room(2_500_000):
            assert main(request) == 1
        assert said_once(capsys)
        assert len(server.requests) == 1
        if isinstance(disk, SmallDisk):
            with disk.room(2_000_000):
                assert main(request) == 1
            assert said_once(capsys)
        assert main(request) == 0
        assert server.requests[1][1] is not None
        assert server.requests[1][1] != "bytes=0-"
    assert [p.name for p in (disk.folder / "data").iterdir()] == ["bbbc041"]


def test_cutting_patches(disk, tmp_path):
    """A memory map of a file without room would end the process."""
    annotations = load_annotations(write_bbbc041(tmp_path / "set", {f"{i}.png": [("ring", 5, 6, 30, 41)] for i in range(3)}), None)
    cropping = Cropping((64, 64), 1.25, 20, 0)
    with disk.room(400_000), pytest.raises(OSError, match=r"No space left|File too large"):
        build_patch_store(annotations, cropping, disk.folder / "cache")
    assert not list((disk.folder / "cache").glob("*"))
    assert len(build_patch_store(annotations, cropping, disk.folder / "cache").patches) == 63


def test_saving_a_correction(disk, tmp_path):
    """What was saved before stays, and the next save succeeds."""
    labels = LabelSet(("red blood cell", "ring"))

    for i in range(2):
        noise(tmp_path / f"{i}.png", i)

    def save(i):
        image = UploadedImage(f"{i}.png", (tmp_path / f"{i}.png").read_bytes(), np.full((100, 120, 3), i, np.uint8), None)
        return save_correction(disk.folder / "review", image, np.array([[5, 6, 30, 41]], np.float32), np.array([1]), labels)

    assert save(0) == 1
    with disk.room(10_000), pytest.raises(InputError, match=r"review: cannot be written .*that the disk has room"):
        save(1)
    assert len(load_annotations(disk.folder / "review" / "annotations.json", labels)) == 1
    assert save(1) == 2
    assert len(load_annotations(disk.folder / "review" / "annotations.json", labels)) == 2
