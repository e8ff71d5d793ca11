"""Exported detectors: each engine answers as Keras does, at any batch and image size; the examples run without Keras."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import yaml

from malaria_cells.app.cli import main
from malaria_cells.app.commands.export import _check_output
from malaria_cells.base.errors import InputError
from malaria_cells.export import export_network, write_example
from malaria_cells.inference.engines import engine_names
from tests.tiny_exports import save_export

FORMATS = ("savedmodel", "onnx", "openvino", "litert")
IMAGE = "docs/images/smear.jpg"


@pytest.fixture(scope="session")
def model(repository, tmp_path_factory):
    """The shipped model, in a folder that may be written to."""
    return shutil.copytree(repository / "pretrained" / "vivax", tmp_path_factory.mktemp("export") / "vivax")


@pytest.fixture(scope="session")
def exported(model):
    """The folder of the shipped model for an engine, exported once."""

    def folder(format_name):
        if not (model / format_name).exists():
            assert main(["export", "--model", str(model), "--format", format_name]) == 0
        return model / format_name

    return folder


@pytest.fixture(scope="session")
def keras_detector(model):
    from malaria_cells.inference.model_folder import load_detector

    return load_detector(model)[0]


@pytest.fixture(scope="session")
def smears():
    """Three rendered images of three sizes."""
    from malaria_cells.data.sample import Slide, render_smear

    sizes = ((640, 480), (1024, 768), (500, 701))
    return [render_smear(Slide.draw(np.random.default_rng(i)), np.random.default_rng(i), size).image for i, size in enumerate(sizes)]


def check_parity(keras_detector, detector, images, patches):
    theirs, ours = keras_detector.classifier.cascade.network, detector.classifier.cascade.network
    for n in (1, 7, len(patches)):
        assert np.abs(ours(patches[:n]) - theirs(patches[:n])).max() < 1e-4
    for image in images:
        wanted, found = keras_detector.detect(image), detector.detect(image)
        assert len(wanted) > 10
        assert found.xyxy == pytest.approx(wanted.xyxy, abs=0.01)
        assert found.probabilities == pytest.approx(wanted.probabilities, abs=1e-4)
        assert (found.counted_as == wanted.counted_as).all()


def patches_of(detector, images, count):
    from malaria_cells.data.patches import crop_boxes

    cut = [crop_boxes(p, detector.proposer(p), detector.classifier.context, detector.classifier.image_size_hw) for p in images]
    return np.concatenate(cut)[:count]


@pytest.mark.slow
@pytest.mark.parametrize("format_name", FORMATS)
def test_an_engine_answers_as_keras(format_name, exported, keras_detector, smears):
    from malaria_cells.inference.model_folder import load_detector

    detector, _ = load_detector(exported(format_name), format_name)
    check_parity(keras_detector, detector, smears, patches_of(keras_detector, smears, 50))


@pytest.mark.slow
@pytest.mark.parametrize("format_name", engine_names())
def test_images_worked_on_at_once_are_answered_as_one_after_the_other(format_name, exported, model, smears):
    from malaria_cells.base.parallel import imap_ordered
    from malaria_cells.inference.model_folder import load_detector

    detector, _ = load_detector(model if format_name == "keras" else exported(format_name), format_name)
    alone = [detector.detect(image) for image in smears]
    for (wanted, _), found in imap_ordered(lambda pair: detector.detect(pair[1]), zip(alone * 4, smears * 4, strict=True)):
        assert (found.result().xyxy == wanted.xyxy).all()
        assert found.result().confidence == pytest.approx(wanted.confidence, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("format_name", FORMATS)
def test_an_engine_answers_as_keras_on_real_images(format_name, exported, keras_detector, iml):
    from malaria_cells.data.images import read_image
    from malaria_cells.inference.model_folder import load_detector

    names = json.loads((iml / "split.json").read_text())["test"][:3]
    images = [read_image(iml / "images" / name.split("/")[-1]) for name in names]
    detector, _ = load_detector(exported(format_name), format_name)
    check_parity(keras_detector, detector, images, patches_of(keras_detector, images, 50))


@pytest.mark.slow
@pytest.mark.parametrize("format_name", FORMATS)
def test_the_example_runs_without_keras_and_finds_the_same(format_name, exported, keras_detector, repository):
    """Beside TensorFlow itself, for its own format, no heavy package is there: neither Keras nor ours."""
    hidden = ["keras", "malaria_cells", "supervision", "scipy", *([] if format_name == "savedmodel" else ["tensorflow"])]
    code = f"import sys, runpy; sys.modules.update(dict.fromkeys({hidden})); sys.argv = sys.argv[1:];"
    code += "sys.path[0] = sys.argv[0].rpartition('/')[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, str(exported(format_name) / "example.py"), IMAGE]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--cell-size" not in done.stderr  # no note: the smear's cells are of the usual size
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    wanted = keras_detector.detect(repository / IMAGE)
    found = {(r["label"], *(float(r[k]) for k in ("x_min", "y_min", "x_max", "y_max"))): float(r["score"]) for r in rows}
    counted = Counter(r["counted_as"] for r in rows if r["counted_as"])
    names = [*keras_detector.labels.names, ""]
    assert abs(counted.total() - (wanted.counted_as >= 0).sum()) <= 1
    assert counted.keys() == {names[i] for i in wanted.counted_as} - {""}
    missing = 0
    for box, label, score in zip(wanted.xyxy, wanted.class_name, wanted.confidence, strict=True):
        near = [s for (name, *xyxy), s in found.items() if name == label and np.abs(np.array(xyxy) - box).max() < 0.2]
        missing += not any(abs(s - score) < 1e-3 for s in near)
    assert missing <= len(wanted) * 0.02  # a coordinate that rounds the other way moves a patch by a pixel
    assert abs(len(rows) - len(wanted)) <= len(wanted) * 0.02


@pytest.mark.slow
def test_int8_keeps_what_is_found(model, keras_detector, repository, sample, tmp_path):
    """Ranges fitted to rendered smears, compared on another."""
    from malaria_cells.data import boxes
    from malaria_cells.data.images import read_image
    from malaria_cells.inference.model_folder import load_detector

    for format_name in ("onnx", "litert"):  # OpenVINO is quantized as ONNX is; on real images all three are compared
        folder = tmp_path / format_name
        arguments = ["--format", format_name, "--int8", "--image", str(sample / "images" / "slide01*.jpg"), "--output", str(folder)]
        assert main(["export", "--model", str(model), *arguments]) == 0
        sizes = {f.stem: f.stat().st_size for f in folder.rglob("*") if f.suffix in {".onnx", ".bin", ".tflite"}}
        refiner = sizes.pop("refiner")
        assert sum(sizes.values()) < 1.2e6
        assert refiner < (1e6 if format_name == "litert" else 3e6)  # elsewhere it is left exact
        image = read_image(repository / IMAGE)
        wanted, found = keras_detector.detect(image), load_detector(folder)[0].detect(image)
        sure = wanted[wanted.confidence > 0.5]
        same = boxes.match(found.xyxy, sure.xyxy)
        assert (same >= 0).sum() >= 0.95 * len(sure)
        assert (found.class_id[same >= 0] == sure.class_id[same[same >= 0]]).mean() > 0.93


@pytest.fixture(scope="module")
def infected_f1(model, keras_detector, iml):
    """The infected F1 of a model folder on the real images that thresholds were chosen or figures taken on: 133 infected cells."""
    from malaria_cells import CellDetector
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.evaluation import infected_figures

    split = json.loads((model / "split.json").read_text())
    names = {name.split("/")[-1] for part in ("validation", "test") for name in split[part]}
    truth = load_annotations(iml / "annotations.json", keras_detector.labels, root=iml)
    images = [p for p in truth.images if p.key.split("/")[-1] in names]
    assert len(images) == 95

    def of(folder, engine="auto"):
        found = list(CellDetector.load(folder, engine).detect_each(p.path for p in images))
        return infected_figures(images, found, truth.labels).f1

    return of


@pytest.fixture(scope="module")
def infected_f1_of_keras(infected_f1, model):
    return infected_f1(model, "keras")


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["onnx", "openvino", "litert"])
def test_int8_costs_less_than_a_point_of_infected_f1(format_name, model, infected_f1, infected_f1_of_keras, iml, tmp_path):
    split = json.loads((model / "split.json").read_text())
    (tmp_path / "images").mkdir()
    for name in split["train"][::8]:
        shutil.copy(iml / "images" / name.split("/")[-1], tmp_path / "images")
    arguments = ["--format", format_name, "--int8", "--image", str(tmp_path / "images"), "--output", str(tmp_path / format_name)]
    assert main(["export", "--model", str(model), *arguments]) == 0
    assert infected_f1(tmp_path / format_name) > infected_f1_of_keras - 0.01


@pytest.mark.slow
def test_run_by_engine(model, exported, repository, tmp_path):
    def table(name, *options):
        output = tmp_path / name
        assert main(["run", "--image", str(repository / IMAGE), "--output", str(output), *options]) == 0
        with (output / "detections.csv").open() as file:
            return [(r["label"], *(float(v) for k, v in r.items() if k not in {"image", "label"})) for r in csv.DictReader(file)]

    exported("onnx")
    by_keras = table("keras", "--model", str(model), "--engine", "keras")
    for options in (["--model", str(model), "--engine", "onnx"], ["--model", str(model / "onnx")]):
        by_onnx = table("onnx", *options)
        assert [r[0] for r in by_onnx] == [r[0] for r in by_keras]
        assert np.array([r[1:] for r in by_onnx]) == pytest.approx(np.array([r[1:] for r in by_keras]), abs=0.11)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--engine", "openvino"], "has not been exported for it; export it once: malaria-cells export --model"),
        (["export", "--format", "savedmodel", "--int8"], "not available for --format savedmodel; choose one of onnx, openvino, litert"),
        (["export", "--format", "onnx", "--int8"], "name images with --image IMAGES"),
    ],
)
def test_wrong_requests(arguments, said, untrained_model, repository, tmp_path, capsys):
    model = shutil.copytree(untrained_model, tmp_path / "model")
    extra = ["--image", str(repository / IMAGE), "--output", str(tmp_path / "o")] if arguments[0] == "run" else []
    assert main([*arguments, "--model", str(model), *extra]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def refused(capsys, *arguments):
    """The message of an export that ends with exit code 2."""
    assert main(["export", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_an_export_replaces_nothing_of_somebody_s_own(untrained_model, tmp_path, capsys):
    """Neither a folder that happens to have an example.py, nor a table that the example was made to write there."""
    own = tmp_path / "own"
    own.mkdir()
    for name in ("example.py", "model.yaml", "thesis.tex"):
        (own / name).write_text(name)
    (tmp_path / "file").write_text("")
    for output, said in (
        (own, f"--output {own}: holds thesis.tex, which no export wrote"),
        (tmp_path / "file", "file: already exists and holds no example.py"),
        (tmp_path / "file" / "below" / "it", f"{tmp_path / 'file'} is a file; name a folder"),
    ):
        assert said in refused(capsys, "--model", untrained_model, "--format", "onnx", "--output", output)
    assert sorted(p.name for p in own.iterdir()) == ["example.py", "model.yaml", "thesis.tex"]


@pytest.mark.parametrize("modules", [True, False])
def test_an_export_replaces_an_earlier_one(modules, tmp_path):
    """Also one whose example was one file, and one that was run or whose refiner has its former name; nothing else in its folders."""
    description = save_export(tmp_path, 2, True)
    if modules:
        write_example(tmp_path, description)
        (tmp_path / "standalone" / "__pycache__").mkdir()
    else:
        (tmp_path / "example.py").write_text("")
    (tmp_path / "refiner.onnx").rename(tmp_path / "second_look.onnx")
    _check_output(tmp_path)
    (tmp_path / "standalone").mkdir(exist_ok=True)
    (tmp_path / "standalone" / "mine.py").write_text("")
    with pytest.raises(InputError, match=r"holds standalone/mine\.py, which no export wrote"):
        _check_output(tmp_path)


def test_a_model_without_its_network_is_not_called_an_export(untrained_model, tmp_path, capsys):
    shutil.copy(untrained_model / "model.yaml", tmp_path)
    assert f"--model {tmp_path}: holds no classifier.keras" in refused(capsys, "--model", tmp_path, "--format", "onnx")
    (tmp_path / "classifier.onnx").write_bytes(b"")
    assert f"--model {tmp_path}: is an export" in refused(capsys, "--model", tmp_path, "--format", "litert")
    assert f"{tmp_path / 'none'}: not a model folder" in refused(capsys, "--model", tmp_path / "none", "--format", "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--format", "onnx"), ("--format", "litert", "--int8")])
def test_networks_of_another_model_are_not_exported(options, untrained_model, tmp_path, capsys):
    """The exported model.yaml would say that all is well."""
    model = shutil.copytree(untrained_model, tmp_path / "model")
    about = yaml.safe_load((model / "model.yaml").read_text())
    about["golden_output"] = np.roll(about["golden_output"], 1, axis=1).tolist()
    (model / "model.yaml").write_text(yaml.safe_dump(about))
    assert re.search("do not answer as when they were saved|differs from when it was saved", refused(capsys, "--model", model, *options))
    assert sorted(p.name for p in model.iterdir()) == sorted(p.name for p in untrained_model.iterdir())


def test_an_unknown_format(tmp_path):
    with pytest.raises(InputError, match=r"engine: 'onx' is unknown \(did you mean 'onnx'\?\); expected one of"):
        export_network(None, tmp_path / "classifier", "onx")


def test_an_engine_that_is_not_installed(tmp_path, monkeypatch):
    from malaria_cells.inference.engines import exported_network

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "classifier.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"onnxruntime is not installed; pip install 'malaria-cells\[export\]'"):
        exported_network(tmp_path, "classifier", "onnx")


@pytest.mark.slow
def test_other_engines_start_without_tensorflow(exported, repository):
    code = (
        "import sys; from malaria_cells import CellDetector;"
        f"found = CellDetector.load({str(exported('onnx'))!r}).detect({IMAGE!r});"
        "print(len(found) > 20, 'tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]
