"""``--engine auto``: the fastest engine that is there, measured once; the shipped model runs without TensorFlow."""

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from malaria_cells import CellDetector
from malaria_cells.app.cli import main
from malaria_cells.app.commands import run_model
from malaria_cells.app.commands.run_request import RunRequest
from malaria_cells.base.errors import InputError
from malaria_cells.inference import engine_choice, engine_times
from malaria_cells.inference.engine_choice import Ready, fastest_first, ready_engines
from malaria_cells.inference.engines import exported_network
from malaria_cells.inference.engines.onnx import Onnx
from malaria_cells.inference.model_folder import load_by_engine

IMAGE = "docs/images/smear.jpg"
NETWORKS = ("classifier", "refiner", "proposer")
open_with = Onnx.open_with
# Whatever imports TensorFlow or Keras ends with an error.
WITHOUT_TENSORFLOW = "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'keras_cv', 'tf_keras'])); "

# Libraries that take long to import, and that only trainings, scores, drawings and images with hundreds of cells need.
NOT_FOR_A_DETECTION = {"sklearn", "pandas", "matplotlib", "supervision", "imgaug", "faster_coco_eval", "tifffile", "requests"}
NOT_FOR_A_DETECTION |= {"scipy.stats", "scipy.optimize", "scipy.spatial", "scipy.interpolate"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The cache folder of a user who has measured nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(engine_choice, "GPU", tmp_path / "no GPU")
    engine_times._said.clear()
    return tmp_path / "cache" / "malaria_cells" / "engines.json"


@pytest.fixture(scope="module")
def beside(untrained_model, tmp_path_factory):
    """A model folder with Keras' files and ONNX files."""
    folder = shutil.copytree(untrained_model, tmp_path_factory.mktemp("beside") / "model")
    assert main(["export", "--model", str(folder), "--format", "onnx", "--beside"]) == 0
    return folder


@pytest.fixture
def model(beside, tmp_path):
    return shutil.copytree(beside, tmp_path / "model")


def without_tensorflow(repository, code, *arguments):
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW + code, *map(str, arguments)]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)


def test_run_with_the_shipped_model_starts_no_tensorflow(repository, tmp_path):
    code = "import runpy; sys.argv = ['run.py', *sys.argv[1:]]; runpy.run_path('run.py', run_name='__main__')"
    done = without_tensorflow(repository, code, "--image", IMAGE, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "onnx, the fastest that is there" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert len((tmp_path / "out" / "detections.csv").read_text().splitlines()) > 20


def test_the_programmers_detector_starts_none_either(repository):
    code = f"from malaria_cells import CellDetector; d = CellDetector.load(); print(d.engine, len(d.detect('{IMAGE}')))"
    done = without_tensorflow(repository, code)
    assert done.returncode == 0, done.stderr
    engine, count = done.stdout.split()
    assert engine == "onnx"
    assert int(count) > 20


@pytest.mark.skipif(importlib.util.find_spec("streamlit") is None, reason="needs the page's libraries")
def test_the_page_starts_none_either(repository):
    code = "from malaria_cells.app.page.app import _load; print(_load('pretrained/thin_smear', 0.0).labels.names[0])"
    done = without_tensorflow(repository, code)
    assert done.returncode == 0, done.stderr
    assert "red blood cell" in done.stdout


def test_detection_imports_no_library_that_only_trainings_and_scores_need(repository):
    code = f"from malaria_cells import CellDetector; CellDetector.load().detect('{IMAGE}'); print(*sys.modules)"
    done = without_tensorflow(repository, code)
    assert NOT_FOR_A_DETECTION.isdisjoint(done.stdout.split()), done.stderr


def test_a_run_writes_its_tables_before_it_imports_what_draws(repository, tmp_path):
    code = (
        "from malaria_cells.app.cli import main; from malaria_cells.results.run_outputs import DetectionOutput as Output; "
        "tables = Output.tables; Output.tables = lambda *given: (tables(*given), print('MODULES', *sys.modules))[0]; main(sys.argv[1:])"
    )
    done = without_tensorflow(repository, code, "run", "--image", IMAGE, "--output", tmp_path / "out")
    assert (tmp_path / "out" / "annotated" / "smear.jpg.png").is_file(), done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("MODULES")]
    needless = NOT_FOR_A_DETECTION | {"malaria_cells.config.keys", "malaria_cells.data.data_sets", "malaria_cells.training"}
    assert needless.isdisjoint(line.split())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_shipped_onnx_files_answer_as_keras_files(name, repository):
    """Of which they must have been made: weights of another training answer otherwise by a hundred times as much."""
    from malaria_cells.inference.assembly import proposal_inference_function
    from malaria_cells.inference.classifier import inference_function
    from malaria_cells.models.stored.keras_files import load_network

    folder = repository / "pretrained" / "thin_smear"
    network = load_network(folder / f"{name}.keras")
    ours = exported_network(folder, name, "onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (1 if name == "proposer" else 8, 112, 112, 3), dtype=np.uint8)
    pixels = pixels[:, :80, :80] if name == "classifier" else pixels
    theirs = (proposal_inference_function if name == "proposer" else inference_function)(network)
    assert np.abs(ours(pixels) - theirs(pixels)).max() < 1e-4
    kernel = network.trainable_variables[0]
    kernel.assign(np.asarray(kernel) * 1.01)
    other = (proposal_inference_function if name == "proposer" else inference_function)(network)
    assert np.abs(ours(pixels) - other(pixels)).max() > 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_one_thread_and_several_answer_the_same_to_the_bit(name, repository):
    folder = repository / "pretrained" / "thin_smear"
    side = 80 if name == "classifier" else 112
    pixels = np.random.default_rng(0).integers(0, 256, (1 if name == "proposer" else 21, side, side, 3), dtype=np.uint8)
    answers = [exported_network(folder, name, "onnx", threads)(pixels) for threads in (1, 2, 3, None)]
    assert all(np.array_equal(answers[0], other) for other in answers[1:])


@pytest.mark.parametrize(("n_images", "threads"), [(1, None), (3, None), (4, 1), (1000, 1)])
def test_many_images_take_a_thread_each(n_images, threads, model, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(run_model, "cores", lambda: 4)
    monkeypatch.setattr(Onnx, "open_with", lambda self, path, threads: asked.append(threads) or self.open(path))
    monkeypatch.setattr(Onnx, "open", lambda self, path: open_with(self, path, None))
    assert run_model.load(RunRequest("images", tmp_path), model, n_images).engine == "onnx"
    assert set(asked) == {threads}


def test_the_shipped_folder_lists_its_onnx_files(repository):
    listed = yaml.safe_load((repository / "pretrained" / "thin_smear" / "model.yaml").read_text(encoding="utf-8"))["files"]
    assert set(listed) == {f"{name}.{suffix}" for name in NETWORKS for suffix in ("keras", "onnx")}


def test_files_beside_keras_files_are_chosen(model, cache):
    assert load_by_engine(model, "auto")[2] == "onnx"
    assert load_by_engine(model, "keras")[2] == load_by_engine(model)[2] == "keras"
    assert not cache.exists()  # nothing is measured where there is no choice


def test_without_other_files_keras_runs(untrained_model):
    assert load_by_engine(untrained_model, "auto")[2] == "keras"


def test_a_damaged_file_is_named_and_keras_runs(model, caplog):
    (model / "classifier.onnx").write_bytes(b"nothing")
    assert load_by_engine(model, "auto")[2] == "keras"
    (said,) = caplog.messages
    assert said.startswith("--engine auto: onnx is left out: ")
    assert "classifier.onnx: its checksum differs" in said
    with pytest.raises(InputError, match=r"classifier\.onnx: its checksum differs"):
        load_by_engine(model, "onnx")
    assert load_by_engine(model, "keras")[2] == "keras"


def test_a_file_of_another_training_is_named_and_keras_runs(model, caplog):
    """A training writes a list of its own files, and leaves others where they are."""
    about = yaml.safe_load((model / "model.yaml").read_text())
    del about["files"]["classifier.onnx"]
    (model / "model.yaml").write_text(yaml.safe_dump(about, sort_keys=False))
    assert load_by_engine(model, "auto")[2] == "keras"
    assert "model.yaml does not list it, so it may be of another training; write it with: malaria-cells export" in caplog.text
    with pytest.raises(InputError, match="does not list it"):
        load_by_engine(model, "onnx")


def test_an_export_in_a_subfolder_is_chosen_while_it_is_of_the_model(untrained_model, tmp_path, caplog):
    model = shutil.copytree(untrained_model, tmp_path / "model")
    assert main(["export", "--model", str(model), "--format", "onnx"]) == 0
    assert [(ready.engine, ready.folder) for ready in ready_engines(model)] == [("onnx", model / "onnx")]
    assert load_by_engine(model, "auto")[2] == "onnx"
    text = (model / "model.yaml").read_text()
    (model / "model.yaml").write_text(text.replace("cell_size: 72.0", "cell_size: 60.0"))
    assert load_by_engine(model, "auto")[2] == "keras"
    assert f"{model / 'onnx'} is not of the present networks and model.yaml" in caplog.text


def choices(folder):
    return [Ready("slow", folder, "1"), Ready("fast", folder, "2")]


def opened(calls):
    def networks_of(engine, folder):
        calls.append(engine)
        return {"classifier": lambda pixels: time.sleep(0.02 if engine == "slow" else 0.001)}

    return networks_of


def test_the_fastest_is_measured_once(model, cache):
    calls = []
    for _ in range(2):
        found = fastest_first(model, choices(model), True, opened(calls))
        assert [choice.engine for choice in found] == ["fast", "slow"]
    assert calls == ["slow", "fast"]
    (seconds,) = json.loads(cache.read_text()).values()
    assert seconds["slow"] > 0.02 > seconds["fast"]
    newer = [Ready("slow", model, "1.1"), Ready("fast", model, "2")]
    fastest_first(model, newer, True, opened(calls))
    assert calls == ["slow", "fast"] * 2  # another version is another engine


def test_keras_is_measured_where_a_gpu_is(model, monkeypatch, tmp_path):
    monkeypatch.setattr(engine_choice, "GPU", tmp_path)
    calls = []
    found = fastest_first(model, [Ready("slow", model, "1")], True, opened(calls))
    assert [choice.engine for choice in found] == ["keras", "slow"]
    assert fastest_first(model, [], True, opened(calls)) == []


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', "not JSON"])
def test_a_damaged_cache_is_measured_again(content, model, cache):
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    calls = []
    fastest_first(model, choices(model), True, opened(calls))
    fastest_first(model, choices(model), True, opened(calls))
    assert calls == ["slow", "fast"]


def test_a_cache_that_cannot_be_written_is_said_once(model, cache, caplog):
    cache.parent.parent.write_text("a file where the folder should be")
    for _ in range(2):
        assert fastest_first(model, choices(model), True, opened([]))[0].engine == "fast"
    (said,) = caplog.messages
    assert "the engines' times cannot be remembered" in said


def test_an_engine_that_cannot_be_opened_is_named_and_not_remembered(model, cache, caplog):
    def networks_of(engine, folder):
        if engine == "fast":
            raise InputError("no network")
        return {"classifier": lambda pixels: pixels}

    assert [choice.engine for choice in fastest_first(model, choices(model), True, networks_of)] == ["slow"]
    assert "fast is left out: no network" in caplog.text
    assert not cache.exists()


def test_beside_writes_exact_networks_only(model, capsys):
    assert main(["export", "--model", str(model), "--format", "onnx", "--beside", "--int8"]) == 2
    assert "so --int8 has no meaning" in capsys.readouterr().err
    assert main(["export", "--model", str(model), "--format", "savedmodel", "--beside"]) == 2
    assert "loaded on request alone" in capsys.readouterr().err
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    assert main(["export", "--model", str(model), "--format", "onnx", "--beside"]) == 0
    assert set(before) == {path.name for path in model.iterdir()}
    assert before["classifier.keras"] == (model / "classifier.keras").read_bytes()


def test_the_graph_enlarges_at_once_and_takes_uint8(tmp_path):
    import keras
    import onnx

    from malaria_cells.export import export_network

    pixels = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels))
    network = keras.Model(pixels, keras.layers.Conv2D(2, 3, padding="same")(keras.layers.UpSampling2D((2, 2))(x)))
    export_network(network, tmp_path / "n", "onnx")
    graph = onnx.load(tmp_path / "n.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("Resize") == 1
    assert kinds[:2] == ["Transpose", "Cast"]
    assert {"Tile", "Shape", "Slice"}.isdisjoint(kinds)
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    ours = exported_network(tmp_path, "n", "onnx")
    seen = np.random.default_rng(0).integers(0, 256, (40, 32, 48, 3), dtype=np.uint8)  # more than one call's images
    assert np.abs(ours(seen) - network(seen.astype(np.float32)).numpy()).max() < 1e-5
    assert Path(tmp_path / "n.onnx").stat().st_size < 10_000


def test_the_detector_says_its_engine(model):
    assert CellDetector.load(model).engine == "onnx"
    assert CellDetector.load(model, "keras").engine == "keras"
