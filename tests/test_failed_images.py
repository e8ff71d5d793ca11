"""One image that cannot be worked on costs the others nothing."""

import shutil

import numpy as np
import pytest

from malaria_cells.data.patches import rescale
from malaria_cells.inference.two_stage_detector import TwoStageDetector
from tests.conftest import write_image
from tests.test_run_command import rows, run


def test_broken_images_are_listed_and_the_rest_is_done(untrained_model, sample, tmp_path, capsys):
    source = sorted((sample / "images").iterdir())[:2]
    (tmp_path / "in").mkdir()
    shutil.copy(source[0], tmp_path / "in" / "good.jpg")
    (tmp_path / "in" / "cut.jpg").write_bytes(source[1].read_bytes()[:2000])
    (tmp_path / "in" / "text.png").write_text("not an image")
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    assert run("--model", untrained_model, "--image", tmp_path / "in", "--output", tmp_path / "out") == 3
    failed = {r["image"]: r["reason"] for r in rows(tmp_path / "out" / "failed.csv")}
    assert set(failed) == {"cut.jpg", "empty.png", "text.png"}
    assert "broken" in failed["cut.jpg"]
    assert [r["image"] for r in rows(tmp_path / "out" / "counts.csv")] == ["good.jpg", "TOTAL"]
    said = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("3 images failed: "))
    first = said.partition("failed.csv; first: ")[2]
    assert first.startswith(str(tmp_path / "in" / "cut.jpg")), said
    assert "broken" in first
    # A later run in the same folder leaves nothing of this one behind.
    assert run("--model", untrained_model, "--image", tmp_path / "in" / "good.jpg", "--output", tmp_path / "out") == 0
    assert not (tmp_path / "out" / "failed.csv").exists()


@pytest.mark.parametrize("method", ["learned", "watershed", "sliding"])
def test_images_smaller_than_a_cell_are_no_failures(method, untrained_model, repository, tmp_path):
    for name, size in (("one.png", (1, 1)), ("strip.png", (300, 2)), ("column.png", (1, 300))):
        write_image(tmp_path / "in" / name, size)
    model = repository / "pretrained" / "vivax" if method == "learned" else untrained_model
    assert run("--model", model, "--image", tmp_path / "in", "--proposals", method, "--output", tmp_path / "out") == 0
    assert len(rows(tmp_path / "out" / "counts.csv")) == 4


@pytest.mark.parametrize("factor", [0.1, 0.25, 0.47, 0.5, 1.0, 1.3])
def test_rescaling_rounds_and_leaves_a_pixel(factor):
    for width in range(1, 20):
        found = rescale(np.full((400, width, 3), 7, dtype=np.uint8), factor)
        assert found.shape == (round(400 * factor), max(round(width * factor), 1), 3)
        assert (found == 7).all()


def test_what_a_library_raises_for_one_image_is_told_and_the_rest_is_done(untrained_model, sample, tmp_path, monkeypatch, capsys, caplog):
    source = sorted((sample / "images").iterdir())[0]
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "c.jpg"):
        shutil.copy(source, tmp_path / "in" / name)
    write_image(tmp_path / "in" / "b.png", (30, 20))
    detect = TwoStageDetector.detect

    def refusing(detector, image):
        if image.shape == (20, 30, 3):
            raise RuntimeError("out of memory\nand more")
        return detect(detector, image)

    monkeypatch.setattr(TwoStageDetector, "detect", refusing)
    assert run("--model", untrained_model, "--image", tmp_path / "in", "--output", tmp_path / "out") == 3
    assert rows(tmp_path / "out" / "failed.csv") == [{"image": "b.png", "reason": "RuntimeError: out of memory"}]
    assert [r["image"] for r in rows(tmp_path / "out" / "counts.csv")] == ["a.jpg", "c.jpg", "TOTAL"]
    assert f"1 image failed: {tmp_path / 'out' / 'failed.csv'}; first: b.png: RuntimeError: out of memory\n" in capsys.readouterr().out
    assert "in refusing" in caplog.text


def test_a_run_whose_images_all_fail_scores_nothing_and_points_to_no_missing_folder(untrained_model, sample, tmp_path, capsys):
    for image in (sample / "images").iterdir():
        (tmp_path / "images" / image.name).parent.mkdir(exist_ok=True)
        (tmp_path / "images" / image.name).write_bytes(image.read_bytes()[:2000])
    asked = ("--annotations", sample / "test.json", "--compare", "--review", "3")
    assert run("--model", untrained_model, "--image", tmp_path / "images", *asked, "--output", tmp_path / "out") == 3
    said = capsys.readouterr().out
    assert "on 0 annotated images" in said
    assert "compared" not in said
    assert not (tmp_path / "out" / "compared").exists()
    assert not (tmp_path / "out" / "review").exists()
