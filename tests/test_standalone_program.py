"""The example beside an exported model is a program by itself; images that it would read wrongly, and other folders, it refuses."""

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
import yaml
from PIL import Image

from malaria_cells.data import stain
from malaria_cells.data.images import read_image
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.patches import resize
from malaria_cells.export import EXAMPLE, by_package, runs_alone, standalone, write_example
from malaria_cells.inference import tta
from malaria_cells.inference.decision import DetectionSettings
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.two_stage_detector import TwoStageDetector
from malaria_cells.proposals import Proposer
from tests.tiny_exports import CELL_SIZE, save_export

MODULES = sorted(Path(standalone.__file__).parent.glob("*.py"))


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (150, 210, 3), dtype=np.uint8)


def test_it_imports_neither_keras_nor_the_package():
    """Its modules import each other from their own folder, whatever that is called."""
    nodes = [node for module in MODULES for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))]
    found = {a.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for a in node.names}
    found |= {node.module.split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    assert {node.level for node in nodes if isinstance(node, ast.ImportFrom)} == {0, 1}
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
    assert "malaria_cells" not in (tmp_path / EXAMPLE).read_text(encoding="utf-8")
    assert {p.name: p.read_bytes() for p in (tmp_path / "standalone").iterdir()} == {p.name: p.read_bytes() for p in MODULES}


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
        assert [row["label"] for row in own] == found.class_name.tolist()
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


def test_it_runs_from_anywhere_by_its_own_modules(noise, tmp_path):
    """Beside the package, where modules of the same name lie in the current folder, through a link, or imported by a program."""
    write_example(tmp_path / "model", save_export(tmp_path / "model", 2))
    (tmp_path / "standalone.py").write_text("raise SystemExit('another module')")
    (tmp_path / "x.png").write_bytes(cv2.imencode(".png", noise)[1].tobytes())
    (tmp_path / "linked").symlink_to(tmp_path / "model")
    loaded = "import sys; sys.path.insert(0, 'model'); import example; assert not [m for m in sys.modules if m.startswith('malaria')];"
    imported = f"{loaded} cells = example.find_cells(example.read_image('x.png'), example.load(example.Path('model'))); print(len(cells))"

    def said(*arguments):
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    table = said("model/example.py", "x.png")
    assert len(table.splitlines()) > 50
    assert said("-I", "linked/example.py", "x.png") == said("-P", str(tmp_path / "model/example.py"), "x.png") == table
    assert int(said("-c", imported)) == len(table.splitlines()) - 1


@pytest.mark.parametrize("inference", [5, [1], {"refinement": 0.5}, {"proposals": [0.5]}])
def test_a_folder_whose_values_are_damaged(inference, tmp_path):
    save_export(tmp_path, 2)
    about_it = yaml.safe_load((tmp_path / "model.yaml").read_text())
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(about_it | {"inference": inference}))
    with pytest.raises(standalone.UnreadableError, match=r"model\.yaml: missing or damaged"):
        standalone.load(tmp_path)


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
    monkeypatch.setattr(sys, "argv", [EXAMPLE, "x.png", "--cell-size", size])
    assert standalone.main(tmp_path) == 2
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
