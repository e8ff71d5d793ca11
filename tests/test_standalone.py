"""The example beside an exported model finds what the package finds, by its own code; what it would read wrongly it refuses."""

import ast
import csv
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from malaria_cells.data import boxes, stain
from malaria_cells.data.images import read_image, refusal
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.patches import resize
from malaria_cells.data.sample import Slide, render_smear
from malaria_cells.export import EXAMPLE, by_package, runs_alone, standalone, write_example
from malaria_cells.inference import classifier, suppression, tta
from malaria_cells.inference.calibration import SMALLEST, Calibration, InfectionSigmoid
from malaria_cells.inference.detector import DetectionSettings, TwoStageDetector
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.proposals import Proposer, tiles
from malaria_cells.proposals.learned import prediction
from malaria_cells.proposals.learned.settings import ProposalSettings
from tests.tiny_exports import CELL_SIZE, LABELS, save_export


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (150, 210, 3), dtype=np.uint8)


def check_same(cells, found, names):
    assert [c.label for c in cells] == found.data["class_name"].tolist()
    assert [c.counted_as for c in cells] == [names[i] if i >= 0 else None for i in found.data["counted_as"]]
    assert np.array([c.box for c in cells]).reshape(-1, 4) == pytest.approx(found.xyxy, abs=1e-3)
    assert np.array([c.score for c in cells]) == pytest.approx(found.confidence, abs=1e-4)


@pytest.mark.parametrize("refiner", [False, True])
@pytest.mark.parametrize("nms", ["agnostic", "class"])
@pytest.mark.parametrize(("n_labels", "has_background"), [(1, True), (2, True), (2, False), (6, True), (6, False)])
def test_it_finds_what_the_package_finds(n_labels, nms, refiner, has_background, noise, tmp_path):
    save_export(tmp_path, n_labels, refiner, has_background, nms=nms, tta=4, infected_threshold=0.3)
    detector = load_detector(tmp_path)[0].with_cell_size(CELL_SIZE)
    found = detector.detect(noise)
    assert 100 < len(found) < 300
    check_same(standalone.find_cells(noise, standalone.load(tmp_path)), found, detector.labels.names)
    assert len(set(found.data["counted_as"])) > n_labels / 2


@pytest.mark.parametrize("size_hw", [(30, 20), (60, 1200), (3, 900)])  # of a patch or two, of several tiles, of a line
def test_images_of_any_size(size_hw, tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    save_export(tmp_path, 2, sigmoid=True, has_background=False)
    detector = load_detector(tmp_path)[0].with_cell_size(CELL_SIZE)
    check_same(standalone.find_cells(image, standalone.load(tmp_path)), detector.detect(image), detector.labels.names)


def test_cells_of_another_size_by_name(noise, tmp_path):
    save_export(tmp_path, 2, tta=2)
    detector = load_detector(tmp_path)[0].with_cell_size(45)
    check_same(standalone.find_cells(noise, standalone.load(tmp_path), 45), detector.detect(noise), detector.labels.names)


def smear(seed):
    """A rendered image, 500 x 400."""
    rng = np.random.default_rng(seed)
    return render_smear(Slide.draw(rng), rng, (500, 400)).image


@pytest.mark.parametrize("how", ["none", "clear_field", "density"])
def test_it_brings_images_to_the_look_that_the_package_does(how, noise, repository):
    flat = np.full((90, 90, 3), 128, dtype=np.uint8)
    three = flat.copy()
    three[:30], three[30:60] = 90, 200
    large = read_image(repository / "docs/images/smear.jpg")
    for image in (noise, flat, three, large, *map(smear, range(6))):
        assert np.array_equal(standalone.in_common_look(image, how), stain.normalized(image, how))


def test_it_finds_what_the_package_finds_in_another_stain(tmp_path):
    save_export(tmp_path, 6, stain="density")
    image = smear(7)
    detector = load_detector(tmp_path)[0].with_cell_size(CELL_SIZE)
    found = detector.detect(image)
    assert len(found) > 20
    check_same(standalone.find_cells(image, standalone.load(tmp_path)), found, detector.labels.names)
    assert not np.array_equal(replace(detector, stain="none").detect(image).confidence, found.confidence)


def about(labels, settings):
    names = {"names": list(labels.names), "infected": list(labels.infected), "red_cells": list(labels.red_cells)}
    return {"labels": names, "settings": vars(settings)}


SHARE = st.floats(0, 1, width=16)


@given(
    st.sampled_from([*LABELS.values(), replace(LABELS[2], infected=LABELS[2].names)]),
    st.builds(
        DetectionSettings,
        nms=st.sampled_from(["agnostic", "class"]),
        nms_iou=st.floats(0.1, 0.9),
        score_threshold=st.floats(0, 0.5),
        infected_threshold=SHARE,
        cell_threshold=SHARE,
        candidate_threshold=SHARE,
        proposal_weight=st.sampled_from([0, 0.5, 1]),
    ),
    st.integers(0, 12),
    st.integers(0, 2**32 - 1),
)
def test_it_decides_as_the_package_does(labels, settings, count, seed):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 20, (count, 2)), rng.uniform(1, 40, (count, 2))
    found_xyxy = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    p = rng.dirichlet(np.full(len(labels) + 1, 0.5), count).astype(np.float32)
    sure = rng.uniform(size=count).astype(np.float32)
    cascade = classifier.Cascade(lambda pixels: pixels)
    patches = classifier.PatchClassifier(labels, True, (8, 8), 1.0, Calibration.none(len(labels) + 1), cascade)
    detector = TwoStageDetector(None, patches, settings=settings)
    check_same(
        standalone.decide(found_xyxy, p, sure, standalone.Model(about(labels, settings), None, [])),
        detector.decide(found_xyxy, p, sure),
        labels.names,
    )


@pytest.mark.parametrize("infection", [None, InfectionSigmoid((False, True, True, False), 0.7, -1.3)])
def test_it_calibrates_as_the_package_does(infection):
    calibration = Calibration(0.8, 0.6, (0.3, -2.0, -3.1, -0.2), infection)
    fit = vars(calibration) | {"infection": vars(infection) if infection else None}
    p = np.random.default_rng(0).dirichlet(np.full(4, 0.2), 100).astype(np.float32)
    assert np.allclose(standalone.calibrated(p, fit), calibration(p), atol=1e-6)


def test_it_takes_the_package_s_hill_of_a_histogram():
    """The example is one file that imports nothing of the package; what it repeats is held to be the same."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        counts = rng.random(40) + 3 * np.exp(-np.arange(40) / rng.uniform(1, 8))  # the highest place first in most, inside in some
        assert standalone.hill(counts) == stain._hill(counts)
    assert standalone.hill(np.arange(40.0)[::-1]) == stain._hill(np.arange(40.0)[::-1]) == 0  # no hill at all


def test_its_numbers_are_the_package_s():
    ours = standalone
    refinement, nested, proposals = tta.Refinement(), suppression.NestedBoxes(), ProposalSettings()
    assert (ours.CELL, ours.STRIDE, ours.MULTIPLE) == (prediction.WORKING_CELL_SIZE, prediction.STRIDE, prediction.MULTIPLE)
    assert (ours.PADDING, ours.RECEPTIVE_RADIUS, ours.TILE) == (prediction.PADDING, prediction.RECEPTIVE_RADIUS, tiles.SIDE)
    assert (proposals.min_score, prediction.MAX_LOG_SIZE) == (ours.MIN_SCORE, ours.MAX_LOG_SIZE)
    assert (ours.MAX_WORKING_PIXELS, ours.MAX_PIXELS) == (prediction.MAX_WORKING_PIXELS, refusal.MAX_PIXELS)
    assert (refinement.min_infected, refinement.certain, tta._ORDER, classifier.BATCH) == (ours.HINT, ours.CERTAIN, ours.VIEWS, ours.BATCH)
    assert (nested.containment, nested.decay, prediction._MIRRORS) == (ours.CONTAINMENT, ours.NESTED_DECAY, ours.MIRRORS)
    assert (proposals.conclusive, proposals.confident, proposals.size_tolerance) == (ours.CONCLUSIVE, ours.CONFIDENT, ours.SIZE_TOLERANCE)
    assert proposals.min_consistent == ours.MIN_CONSISTENT
    assert (ours.ENOUGH, ours.SMALLEST) == (boxes.ENOUGH, SMALLEST)


def test_it_imports_neither_keras_nor_the_package():
    tree = ast.parse(Path(standalone.__file__).read_text(encoding="utf-8"))
    found = {a.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    found |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    engines = {"onnxruntime", "openvino", "ai_edge_litert", "tensorflow"}
    assert found - set(sys.stdlib_module_names) == {"cv2", "numpy", "yaml", "PIL"} | engines


def test_which_models_run_alone(tmp_path):
    description = save_export(tmp_path, 2)
    assert runs_alone(description)
    whole = replace(description, has_background=False, proposals="watershed", cell_size=None)
    assert runs_alone(whole)
    for other in (
        replace(description, proposals="watershed"),
        replace(description, cell_size=None),
        replace(description, detector="yolo"),
        replace(whole, scan={"runs": 2, "scan": 4}),
    ):
        assert not runs_alone(other)
        write_example(tmp_path, other)
        assert "from malaria_cells" in (tmp_path / EXAMPLE).read_text(encoding="utf-8")
    write_example(tmp_path, description)
    assert (tmp_path / EXAMPLE).read_bytes() == Path(standalone.__file__).read_bytes()


def run_example(folder, *arguments, hidden=()):
    code = f"import sys, runpy; sys.modules.update(dict.fromkeys({list(hidden)})); sys.argv = sys.argv[1:];"
    code += "sys.path[0] = sys.argv[0].rpartition('/')[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, str(folder / EXAMPLE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


HIDDEN = ("keras", "tensorflow", "malaria_cells", "supervision", "scipy")


def test_as_a_command_it_goes_on_behind_a_broken_image(noise, tmp_path):
    description = save_export(tmp_path / "model", 6, True)
    write_example(tmp_path / "model", description)
    (tmp_path / "a").mkdir()
    Image.fromarray(noise).save(tmp_path / "a" / "x, 1.png")
    Image.fromarray(noise[::-1]).save(tmp_path / "x, 1.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    paths = [tmp_path / "a" / "x, 1.png", tmp_path / "broken.png", tmp_path / "x, 1.png"]
    done = run_example(tmp_path / "model", *paths, "--cell-size", CELL_SIZE, hidden=HIDDEN)
    assert done.returncode == 3
    assert f"error: {tmp_path / 'broken.png'}: cannot be read as JPEG, PNG" in done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    detector = load_detector(tmp_path / "model")[0].with_cell_size(CELL_SIZE)
    for path, image in ((paths[0], noise), (paths[2], noise[::-1])):
        found = detector.detect(np.ascontiguousarray(image))
        own = [row for row in rows if row["image"] == str(path)]
        assert [row["label"] for row in own] == found.data["class_name"].tolist()
        assert [float(row["score"]) for row in own] == pytest.approx(found.confidence, abs=1e-4)
    assert len(rows) == sum(len(detector.detect(np.ascontiguousarray(p))) for p in (noise, noise[::-1]))


@pytest.mark.parametrize("hidden", [HIDDEN, ()])
def test_a_model_of_whole_images_names_each_image(hidden, noise, tmp_path):
    """By itself, and by the package where the image is seen in several crops."""
    description = save_export(tmp_path, 2, True, has_background=False, tta=4)
    (tmp_path / "proposer.onnx").unlink()
    scan = None if hidden else {"runs": 2, "scan": 4}
    about_it = (tmp_path / "model.yaml").read_text().replace("proposals: learned", "proposals: watershed")
    (tmp_path / "model.yaml").write_text(about_it if hidden else about_it.replace("scan: null", "scan: {runs: 2, scan: 4}"))
    write_example(tmp_path, replace(description, proposals="watershed", scan=scan))
    Image.fromarray(noise).save(tmp_path / "x.png")
    done = run_example(tmp_path, tmp_path / "x.png", hidden=hidden)
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    own = load_detector(tmp_path)[0].classifier
    p = own(resize(noise, (12, 12))[None], 4, lambda _: resize(noise, (16, 16))[None])[0]
    if scan:
        p = tta.scanned(own, noise, (12, 12), **scan, seed=0)
    assert [float(row[name]) for name in own.labels.names] == pytest.approx(p, abs=1e-4)
    assert row["label"] == own.labels.names[p.argmax()]


@pytest.mark.parametrize("content", [None, "[]", "a: b: c", "refiner: null", "labels: {names: [a]}"])
def test_a_folder_without_a_model(content, tmp_path):
    if content is not None:
        (tmp_path / "model.yaml").write_text(content)
    with pytest.raises(standalone.UnreadableError, match=r"model\.yaml: missing or damaged"):
        standalone.load(tmp_path)


def test_a_folder_without_its_network(tmp_path):
    save_export(tmp_path, 2)
    (tmp_path / "classifier.onnx").unlink()
    with pytest.raises(standalone.UnreadableError, match="holds no network classifier"):
        standalone.load(tmp_path)
    (tmp_path / "classifier.onnx").write_bytes(b"no network")
    with pytest.raises(standalone.UnreadableError, match="a network cannot be opened"):
        standalone.load(tmp_path)


@pytest.mark.parametrize("size", ["0", "-3", "nan", "inf"])
def test_no_size(size, tmp_path, monkeypatch, capsys):
    save_export(tmp_path, 2)
    monkeypatch.setattr(standalone, "__file__", str(tmp_path / EXAMPLE))
    monkeypatch.setattr(sys, "argv", [EXAMPLE, "x.png", "--cell-size", size])
    assert standalone.main() == 2
    assert "--cell-size" in capsys.readouterr().err


def test_an_engine_that_is_not_there(tmp_path, monkeypatch):
    save_export(tmp_path, 2)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(standalone.UnreadableError, match="pip install onnxruntime"):
        standalone.load(tmp_path)


RGB = np.random.default_rng(2).integers(0, 256, (20, 30, 3), dtype=np.uint8)
OPAQUE = np.dstack([RGB, np.full((20, 30), 255, np.uint8)])


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(path, exif=exif, quality=95)


def deep(path):
    cv2.imwrite(str(path), RGB.astype(np.uint16) * 257)


READ = {
    "a.jpg": lambda path: Image.fromarray(RGB).save(path, quality=95),
    "turned.jpg": turned,
    "a.png": lambda path: Image.fromarray(RGB).save(path),
    "grey.png": lambda path: Image.fromarray(RGB[..., 0]).save(path),
    "palette.png": lambda path: Image.fromarray(RGB).quantize(16).save(path),
    "opaque.png": lambda path: Image.fromarray(OPAQUE).save(path),
    "a.tif": lambda path: Image.fromarray(RGB).save(path, compression="tiff_lzw"),
    "a.bmp": lambda path: Image.fromarray(RGB).save(path),
    "a.gif": lambda path: Image.fromarray(RGB[..., 0]).save(path),
}
REFUSED = {
    "deep.png": deep,
    "deep_grey.png": lambda path: Image.fromarray(RGB[..., 0].astype(np.uint16) * 257).save(path),
    "deep.tif": deep,
    "cmyk.jpg": lambda path: Image.fromarray(RGB).convert("CMYK").save(path),
    "transparent.png": lambda path: Image.fromarray(OPAQUE - np.uint8(9)).save(path),
    "key.png": lambda path: Image.fromarray(RGB).save(path, transparency=tuple(RGB[0, 0].tolist())),
    "stack.tif": lambda path: Image.fromarray(RGB).save(path, save_all=True, append_images=[Image.fromarray(RGB)]),
    "white_is_zero.tif": lambda path: Image.fromarray(RGB[..., 0]).save(path, tiffinfo={262: 0}),
    "bits.tif": lambda path: Image.fromarray(RGB[..., 0] > 99).save(path),
    "text.jpg": lambda path: path.write_text("no image"),
    "missing.jpg": lambda path: None,
}


@pytest.mark.parametrize("name", READ)
def test_it_reads_images_as_the_package_does(name, tmp_path):
    READ[name](tmp_path / name)
    assert (standalone.read_image(tmp_path / name) == read_image(tmp_path / name)).all()


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_what_it_would_read_wrongly(name, tmp_path):
    REFUSED[name](tmp_path / name)
    with pytest.raises(standalone.UnreadableError, match=name):
        standalone.read_image(tmp_path / name)


@pytest.mark.parametrize(
    ("size", "sure", "said"),
    [(80, 0.9, None), (150, 0.9, "150 pixels wide, expected 80"), (80, 0.2, "only 10 of 150"), (None, 0.9, "fewer than 10 cells")],
)
def test_it_says_where_cells_are_of_another_size(size, sure, said):
    """In the images that the package would look at again in their own size."""
    found = np.array([[0, 0, size, size]] * 150 if size else [], dtype=np.float32).reshape(-1, 4)
    proposal_scores = np.full(len(found), sure)
    proposal_scores[:10] = 0.9
    note = standalone.note_on_size(found, proposal_scores, 80)
    assert note is None if said is None else said in note


def test_the_example_by_the_package_brings_whole_images_to_the_look_of_the_training(noise, tmp_path):
    seen = []

    def classify(patches, *_):
        seen.append(patches[0])
        return np.array([[0.2, 0.8]])

    classify.labels, classify.image_size_hw, classify.refiner_size_hw = LabelSet(("a", "b")), (16, 16), None
    detector = TwoStageDetector(Proposer(), classify, settings=DetectionSettings(), stain="density")
    Image.fromarray(noise).save(tmp_path / "a.png")
    (row,) = by_package.rows_of(tmp_path / "a.png", detector, SimpleNamespace(has_background=False, scan=None))
    assert row[1:] == ["b", "0.2000", "0.8000"]
    assert np.array_equal(seen[0], resize(stain.normalized(noise, "density"), (16, 16)))
