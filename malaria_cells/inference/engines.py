"""Runs a network that was exported from Keras: ONNX Runtime, OpenVINO, LiteRT, or TensorFlow alone.

Every engine is a function from uint8 pixels (n, H, W, 3) to float32, as the Keras networks are in use, so that what lies
around them does not know which one runs.
"""

import re
from pathlib import Path
from threading import Lock

import numpy as np

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.tensorflow_setup import start_tensorflow
from malaria_cells.inference.classifier import Network
from malaria_cells.models.stored.keras_files import check_is_there
from malaria_cells.models.stored.saved_model import GRAPH, check_saved_model

KERAS = "keras"
SAVED_MODEL = "savedmodel"
# What an exported network's file is called, after its name; a SavedModel is a folder.
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "litert": ".tflite", SAVED_MODEL: ""}
ENGINES = (KERAS, *SUFFIXES)
# The key of the name of another file in an ONNX tensor's `external_data` (onnx.proto, StringStringEntryProto), its length before it,
# which may be written in more bytes than it needs.
EXTERNAL = re.compile(rb"(?:\x08|\x88\x80*\x00)location")
DISTRIBUTIONS = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert", SAVED_MODEL: "tensorflow"}


def exported_network(folder: Path, name: str, engine: str) -> Network:
    """Open an exported network.

    Args:
        folder: that `export` wrote.
        name: of the network: ``classifier``, ``proposer`` or ``detector``.
        engine: a key of `SUFFIXES`.

    Returns:
        A function from uint8 pixels (n, H, W, 3) to float32.

    Raises:
        InputError: no such file, one that the engine cannot open or that names other files, or the engine is not installed.
    """
    path = folder / f"{name}{SUFFIXES[engine]}"
    if not path.exists():
        raise InputError(f"{path}: no such file; write it with: malaria-cells export --model {folder} --format {engine}")
    if engine != SAVED_MODEL:
        check_is_there(path)
    opened = {"onnx": _onnx, "openvino": _openvino, "litert": _litert, SAVED_MODEL: _savedmodel}[engine]
    try:
        run = opened(path)
    except ModuleNotFoundError as error:
        raise InputError(
            f"--engine {engine}: {DISTRIBUTIONS[engine]} is not installed; pip install 'malaria-cells[export]', or use --engine keras"
        ) from error
    except InputError:
        raise
    except Exception as error:  # each engine raises its own
        raise InputError(
            f"{path}: not a network that {DISTRIBUTIONS[engine]} can open ({reason(error)}); copy the folder or export the model again"
        ) from error
    return lambda pixels: np.asarray(run(pixels.astype(np.float32)), dtype=np.float32)


def find_exported(folder: Path, name: str) -> str | None:
    """The engine whose file of a network is in a folder, or None."""
    for engine, suffix in SUFFIXES.items():
        path = folder / f"{name}{suffix}"
        if (path / GRAPH).is_file() if engine == SAVED_MODEL else path.exists():
            return engine
    return None


def _one_call_at_a_time(run: Network) -> Network:
    """For what holds one input at a time: OpenVINO's default request, LiteRT's interpreter."""
    lock = Lock()

    def in_turn(pixels: np.ndarray) -> np.ndarray:
        with lock:
            return run(pixels)

    return in_turn


def _onnx(path: Path) -> Network:
    import onnxruntime

    if EXTERNAL.search(path.read_bytes()):
        raise InputError(f"{path}: its weights are in another file, which it names; it is not opened: our own exports are one file each")
    onnxruntime.set_default_logger_severity(4)  # what is wrong is raised, too
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"], enable_fallback=0)  # which prints and tries again
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})[0]


def _openvino(path: Path) -> Network:
    import openvino

    # On processors that have it OpenVINO would take bfloat16, which moves probabilities by a hundredth.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    network = openvino.Core().compile_model(path, "CPU", settings)
    return _one_call_at_a_time(lambda pixels: network(pixels)[0])


def _litert(path: Path) -> Network:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    place = interpreter.get_input_details()[0]["index"]
    answer = interpreter.get_output_details()[0]["index"]
    allocated: tuple[int, ...] = ()

    def run(pixels: np.ndarray) -> np.ndarray:
        nonlocal allocated
        if allocated != pixels.shape:
            interpreter.resize_tensor_input(place, pixels.shape)
            interpreter.allocate_tensors()
            allocated = pixels.shape
        interpreter.set_tensor(place, pixels)
        interpreter.invoke()
        return interpreter.get_tensor(answer)

    return _one_call_at_a_time(run)


def _savedmodel(path: Path) -> Network:
    start_tensorflow()
    check_saved_model(path)
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return lambda pixels: loaded.serve(tf.constant(pixels)).numpy()
