"""The page without a browser: what its parts do, and that a slider does not run the network again."""

import json
import re
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from malaria_cells.app.cli import _parser, main
from malaria_cells.app.page.uploads import MAX_MEGAPIXELS, UploadedImage, counted_cells, read_upload, sample_smear
from malaria_cells.base.errors import InputError
from malaria_cells.base.file_names import folded
from tests.conftest import write_image

APP = """
import sys
from pathlib import Path
from malaria_cells.app.page.app import main
main([{model!r}], Path({review!r}))
"""


def decide(detector, smear, infected_threshold, cell_threshold):
    return detector.with_settings(infected_threshold=infected_threshold, cell_threshold=cell_threshold).decide(*smear.predictions)


@pytest.fixture(scope="module")
def uploaded():
    from malaria_cells.inference.model_folder import load_detector, shipped

    detector = load_detector(shipped())[0]
    content = sample_smear()
    pixels = read_upload("smear.png", content)
    predictions = detector.predict(pixels)
    return detector, UploadedImage("smear.png", content, pixels, predictions, detector.familiarity(pixels, detector.decide(*predictions)))


def test_thresholds_decide_what_is_counted(uploaded):
    detector, smear = uploaded
    everything = decide(detector, smear, 0.01, 0.01)
    nothing = decide(detector, smear, 0.99, 0.99)
    assert len(everything) == len(nothing) > 20
    assert len(counted_cells(nothing)) < len(counted_cells(everything))
    assert (counted_cells(everything).class_id >= 0).all()


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n broken"])
def test_an_unreadable_file_is_named_as_it_was_dropped(content):
    with pytest.raises(InputError, match=r"my smear\.png") as caught:
        read_upload("my smear.png", content)
    assert "/tmp" not in str(caught.value)


def test_limits_are_said(tmp_path):
    with pytest.raises(InputError, match=r"big.jpg has 60 MB; the page takes files of up to 50 MB"):
        read_upload("big.jpg", bytes(60_000_000))
    write_image(tmp_path / "wide.png", (MAX_MEGAPIXELS * 1000 + 1000, 1000))
    with pytest.raises(InputError, match=r"wide.png has 51000 x 1000 pixels; the page takes up to 50 megapixels"):
        read_upload("wide.png", (tmp_path / "wide.png").read_bytes())


def test_corrections_are_what_training_takes(uploaded, sample, tmp_path):
    """Twice the same image and once another: two images, the later labels; and a training's data with them."""
    from malaria_cells.app.page.review_file import NO_CELL, save_correction
    from malaria_cells.config import load_config
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.data.dataset import load_data_set

    detector, smear = uploaded
    cells = counted_cells(decide(detector, smear, 0.01, 0.01))
    review = tmp_path / "review"
    ids = np.array(cells.class_id)
    assert save_correction(review, smear, cells.xyxy, ids, detector.labels) == 1
    ids[0], ids[1] = 4, NO_CELL
    assert save_correction(review, smear, cells.xyxy, ids, detector.labels) == 1
    (review / "notes.txt").write_text("mine")
    other = UploadedImage("other.png", (sample / "images").glob("slide0*").__next__().read_bytes(), smear.pixels, smear.predictions)
    assert save_correction(review, other, cells.xyxy[:3], ids[:3].clip(0), detector.labels) == 2
    assert (review / "notes.txt").read_text() == "mine"
    saved = {Path(p.key).name: p for p in load_annotations(review / "annotations.json", detector.labels).images}
    assert saved["smear.png"].path.read_bytes() == smear.content
    assert len(saved["smear.png"].class_ids) == len(cells) - 1
    assert (saved["smear.png"].class_ids == 4).any()
    config = tmp_path / "c.yaml"
    labels = list(detector.labels.names)
    config.write_text(json.dumps({"train_images": str(sample), "corrections": str(review), "labels": labels}))
    before, after = (load_data_set(load_config(config, sets)) for sets in (["corrections=null"], []))
    assert len(after.all_images) > len(before.all_images)


def test_downloads_are_the_files_of_run(uploaded, tmp_path):
    from malaria_cells.app.page import downloads

    detector, smear = uploaded
    (tmp_path / "smear.png").write_bytes(smear.content)
    assert main(["run", "--image", str(tmp_path / "smear.png"), "--output", str(tmp_path / "out")]) == 0
    for name in ("detections.csv", "counts.csv"):
        assert downloads.file_of(name, detector, [smear], "m") == (tmp_path / "out" / name).read_bytes()
    assert downloads.annotated_png(detector, smear) == (tmp_path / "out" / "annotated" / "smear.png.png").read_bytes()
    report = downloads.file_of("report.html", detector, [smear], "m", "For research only.")
    assert b"Most doubtful cells" in report
    assert b"For research only." in report


def test_the_report_to_take_home_has_the_terms_of_the_model(untrained_model, tmp_path, monkeypatch):
    from malaria_cells.app.page import downloads, panels

    model = shutil.copytree(untrained_model, tmp_path / "model")
    content = yaml.safe_load((model / "model.yaml").read_text(encoding="utf-8")) | {"terms": "For research only."}
    (model / "model.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.setattr(downloads, "file_of", lambda *arguments: arguments[-1])
    assert panels._file_maker("report.html", None, [], str(model))() == "For research only."


HOSTILE = ["a" * 300 + ".png", "x</b>.png", "![x](http%3A//a.b).png", "..", "TOTAL", "$a$ $_{.png"]


def test_every_download_of_images_with_hostile_names(uploaded):
    from malaria_cells.app.page import downloads
    from malaria_cells.app.page.app import _with_unique_names

    detector, smear = uploaded
    uploads = _with_unique_names([(name, smear.content) for name in [*HOSTILE, *HOSTILE]])
    assert len({folded(name) for name, _ in uploads}) == 2 * len(HOSTILE)
    images = [replace(smear, name=uploads[i][0]) for i in (0, 1, 4)]
    text = downloads.file_of("report.html", detector, images, "m").decode()
    assert "b>.png" not in text
    assert "b&gt;.png" in text
    images += [replace(smear, name=uploads[i][0]) for i in (2, 3, 5, 6, 10)]
    lines = downloads.file_of("counts.csv", detector, images, "m").decode().splitlines()
    assert len({line.split(",")[0] for line in lines}) == len(images) + 2
    for p in images:
        assert downloads.annotated_png(detector, p).startswith(b"\x89PNG")


def test_names_on_the_page_are_no_markdown():
    from malaria_cells.app.page.app import _with_unique_names
    from malaria_cells.app.page.markdown import plain

    assert plain("![x](http://a.b/c.png)") == "\\!\\[x\\](http\\://a.b/c.png)"
    assert plain("broken.png: not an image") == "broken.png: not an image"
    names = ["s1/a.png", "C:\\s2\\a.png", "a (2).png", "A.png"]
    assert [name for name, _ in _with_unique_names([(n, b"") for n in names])] == ["a.png", "a (3).png", "a (2).png", "A (4).png"]


def test_two_images_of_one_name_are_both_kept(uploaded, sample, tmp_path):
    """In the review, of two sessions; and one dropped under two names is one image."""
    from malaria_cells.app.page.review_file import save_correction
    from malaria_cells.data.annotations import load_annotations

    detector, smear = uploaded
    cells = counted_cells(decide(detector, smear, 0.01, 0.01))
    boxes, ids = np.array([[i, i, i + 30, i + 30] for i in range(3)], dtype=np.float32), np.array(cells.class_id[:3])
    review = tmp_path / "review"
    (review / "images").mkdir(parents=True)
    (review / "images" / "mine.png").write_bytes(b"mine")
    assert save_correction(review, smear, boxes, ids, detector.labels) == 1
    content = next((sample / "images").glob("slide0*")).read_bytes()
    other = UploadedImage(smear.name, content, read_upload("o.png", content), smear.predictions)
    assert save_correction(review, other, boxes[:2], ids[:2], detector.labels) == 2
    assert save_correction(review, replace(other, name="again.png"), boxes[:1], ids[:1], detector.labels) == 2
    assert save_correction(review, replace(other, name="mine.png", content=content + b" "), boxes, ids, detector.labels) == 3
    saved = {Path(p.key).name: p for p in load_annotations(review / "annotations.json", detector.labels).images}
    assert {name: len(p.boxes_xyxy) for name, p in saved.items()} == {"smear.png": 3, "smear (2).png": 1, "mine (2).png": 3}
    assert saved["smear.png"].path.read_bytes() == smear.content
    assert saved["smear (2).png"].path.read_bytes() == content
    assert (review / "images" / "mine.png").read_bytes() == b"mine"


def test_an_image_that_is_written_upright_is_known_again(uploaded, tmp_path):
    import io

    from PIL import Image

    from malaria_cells.app.page.review_file import save_correction

    detector, smear = uploaded
    image, buffer = Image.fromarray(smear.pixels), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(buffer, "JPEG", exif=exif)
    turned = UploadedImage("t.jpg", buffer.getvalue(), read_upload("t.jpg", buffer.getvalue()), smear.predictions)
    nothing = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64)
    assert [save_correction(tmp_path / "r", turned, *nothing, detector.labels) for _ in range(2)] == [1, 1]


def test_a_review_that_cannot_be_read_is_a_sentence(uploaded, tmp_path):
    from malaria_cells.app.page.review_file import save_correction

    detector, smear = uploaded
    nothing = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64)
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "annotations.json").write_text("{")
    with pytest.raises(InputError, match=r"annotations\.json"):
        save_correction(tmp_path / "r", smear, *nothing, detector.labels)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot be written"):
        save_correction(tmp_path / "file", smear, *nothing, detector.labels)


@pytest.fixture
def page(tmp_path):
    from streamlit.testing.v1 import AppTest

    from malaria_cells.inference.model_folder import shipped

    return AppTest.from_string(APP.format(model=str(shipped()), review=str(tmp_path / "review")), default_timeout=120)


def metrics(page):
    return {m.label: m.value for m in page.metric}


@pytest.mark.slow
def test_a_slider_decides_again_and_asks_no_network(page, monkeypatch):
    from malaria_cells.inference.two_stage_detector import TwoStageDetector

    looks = []
    predict = TwoStageDetector.predict
    monkeypatch.setattr(TwoStageDetector, "predict", lambda self, image: looks.append(1) or predict(self, image))
    page.run()
    assert not page.exception
    assert "try the sample" in page.info[0].value
    page.toggle(key="sample").set_value(True).run()
    assert not page.exception
    before = metrics(page)
    assert int(before["Cells"]) > 20
    page.slider(key="cell").set_value(0.99).run()
    after = metrics(page)
    assert int(after["Cells"]) < int(before["Cells"])
    page.slider(key="cell").set_value(0.01).run()
    assert len(looks) == 1


@pytest.mark.slow
def test_dropped_files_one_of_them_broken(page, tmp_path):
    page.run()
    page.file_uploader(key="files").upload("a.png", sample_smear(), "image/png").run()
    cells = metrics(page)["Cells"]
    both = [("a.png", sample_smear(), "image/png"), ("broken.png", b"nothing", "image/png")]
    page.file_uploader(key="files").set_value(both).run()
    assert not page.exception
    assert "broken.png: not an image that can be read" in page.error[0].value
    assert metrics(page)["Cells"] == cells


@pytest.mark.slow
def test_one_content_under_two_names_and_names_that_are_markdown(page):
    page.run()
    names = ["![x](http%3A//a.b).png", "b" * 300 + ".png"]
    page.file_uploader(key="files").set_value([(name, sample_smear(), "image/png") for name in names]).run()
    assert not page.exception
    assert len(page.selectbox(key="image").options) == 2


@pytest.mark.slow
def test_no_cells_is_a_sentence(page):
    page.run()
    page.toggle(key="sample").set_value(True).run()
    page.slider(key="infected").set_value(0.99)
    page.slider(key="cell").set_value(0.99).run()
    assert not page.exception
    assert metrics(page)["Cells"] == "0"
    assert "No cell is detected in this image" in page.warning[0].value


@pytest.mark.slow
def test_a_correction_is_saved(page, tmp_path):
    page.run()
    page.toggle(key="sample").set_value(True).run()
    label = next(box for box in page.selectbox if box.label == "Correct label")
    label.set_value("not a cell").run()
    page.button(key="correct").click().run()
    assert not page.exception
    assert "holds 1 image." in page.success[0].value
    saved = json.loads((tmp_path / "review" / "annotations.json").read_text())
    assert len(saved["annotations"]) == int(metrics(page)["Cells"]) - 1


@pytest.mark.slow
def test_a_folder_that_is_no_model(tmp_path):
    from streamlit.testing.v1 import AppTest

    page = AppTest.from_string(APP.format(model=str(tmp_path), review=str(tmp_path)), default_timeout=60).run()
    assert not page.exception
    assert "not a model folder, model.yaml is missing" in page.error[0].value


def test_what_page_refuses(tmp_path, capsys):
    assert main(["page", "--model", str(tmp_path)]) == 2
    assert "not a model folder" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["page", "--port", str(port)]) == 2
    assert re.search(rf"--port {port}: cannot be bound .*in use.*choose another port, such as --port 8600", capsys.readouterr().err)
    assert main(["page", "--port", "70000"]) == 2
    assert "--port 70000: not a port, expected 1 to 65535" in capsys.readouterr().err


def test_adapting_waits_for_corrected_images_and_switches_to_the_new_model(uploaded, tmp_path, monkeypatch):
    from streamlit.testing.v1 import AppTest

    from malaria_cells.app.page import adapting
    from malaria_cells.app.page.review_file import save_correction
    from malaria_cells.inference.model_folder import shipped

    detector, smear = uploaded
    boxes = np.array([[10, 10, 60, 60]], dtype=np.float32)
    review, models = tmp_path / "review", tmp_path / "models"
    shutil.copytree(shipped(), models / "thin_smear-adapted1")
    output = adapting.new_folder(models, "pretrained/thin_smear")
    assert output == models / "thin_smear-adapted2"
    assert adapting.corrected_images(review) == 0
    save_correction(review, smear, boxes, np.array([0]), detector.labels)
    assert adapting.corrected_images(review) == 1
    command = adapting.command_of(review, "pretrained/thin_smear", output)
    assert _parser().parse_args(command).output == output

    script = f"from pathlib import Path\nfrom malaria_cells.app.page.adapting import panel\npanel(Path({str(review)!r}), 'm', Path('x'))"
    page = AppTest.from_string(script, default_timeout=120).run()
    assert "5 or more corrected images" in page.caption[0].value
    monkeypatch.setattr(adapting, "MIN_IMAGES", 1)
    started = []

    class Process:
        code = None

        def __init__(self, program, **_):
            started.append(program)

        def poll(self):
            return self.code

    monkeypatch.setattr(adapting.subprocess, "Popen", Process)
    page.run()
    page.button(key="adapt").click().run()
    assert started[0][1:4] == ["-m", "malaria_cells", "adapt"]
    assert "Adapting the model: starting" in page.info[0].value
    Process.code = 2
    page.run()
    assert "The model could not be adapted" in page.error[0].value
    page.button(key="close adapting").click().run()
    assert page.button(key="adapt")
    assert not adapting._jobs()
