"""One Keras network in the format of another engine, with a free batch size and, for the proposer, a free image size."""

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base.errors import InputError, nearest
from malaria_cells.inference.engines import SUFFIXES

FORMATS = tuple(SUFFIXES)
QUANTIZED = ("onnx", "openvino", "litert")  # those that can hold eight-bit weights and activations
FITTED = ("onnx", "openvino")  # those of them whose ranges are fitted to examples

Batches = list[np.ndarray]


def export_network(model: Any, path: Path, format_name: str, int8: bool = False, examples: Batches | None = None) -> None:
    """Write a network.

    Args:
        model: a Keras model from pixels (b, H, W, 3) in 0..255; H and W may be None.
        path: without the format's suffix.
        format_name: one of `FORMATS`.
        int8: whether weights and activations become eight-bit integers (post-training quantisation, Jacob et al. 2018,
            arXiv:1712.05877).
        examples: inputs of the network as it will meet them, float32 (b, H, W, 3) each, which the ranges of activations are
            fitted to; needed for the formats of `FITTED`. LiteRT finds the ranges anew for each image.

    Raises:
        InputError: a format that cannot be quantised, or a library is not installed.
    """
    if format_name not in FORMATS:
        raise InputError(f"format: {format_name} is unknown{nearest(format_name, FORMATS)}; expected one of {', '.join(FORMATS)}")
    if int8 and format_name not in QUANTIZED:
        raise InputError(f"--int8: a {format_name} is not quantised here; choose --format {', '.join(QUANTIZED)}, or leave --int8 out")
    target = path.with_name(path.name + SUFFIXES[format_name])
    try:
        with _quiet():
            if format_name == "savedmodel":
                _savedmodel(model, target)
            elif format_name == "litert":
                _litert(model, target, int8)
            else:
                write: Callable = _onnx if format_name == "onnx" else _openvino
                write(model, target, examples if int8 else None)
    except ModuleNotFoundError as error:
        raise InputError(f"--format {format_name}: '{error.name}' is not installed; pip install 'malaria-cells[export]'") from error


def _signature(model: Any) -> list:
    import keras

    return [keras.InputSpec(shape=(None, *model.input_shape[1:]), dtype="float32", name="pixels")]


def _savedmodel(model: Any, target: Path) -> None:
    model.export(target, format="tf_saved_model", verbose=False, input_signature=_signature(model))


def _onnx(model: Any, target: Path, examples: Batches | None) -> None:
    model.export(target, format="onnx", verbose=False, input_signature=_signature(model))
    if examples is not None:
        import nncf
        import onnx

        plain = onnx.load(target)
        name = plain.graph.input[0].name
        exact = _ends([node.name for node in plain.graph.node if node.op_type in {"Conv", "Gemm", "MatMul"}])
        data = nncf.Dataset(examples, lambda batch: {name: batch})
        onnx.save(nncf.quantize(plain, data, subset_size=len(examples), ignored_scope=exact), target)


def _openvino(model: Any, target: Path, examples: Batches | None) -> None:
    import openvino

    with tempfile.TemporaryDirectory() as folder:  # Keras writes OpenVINO's format from its OpenVINO backend alone
        by_onnx = Path(folder) / "network.onnx"
        _onnx(model, by_onnx, None)
        network = openvino.Core().read_model(by_onnx)
        if examples is not None:
            import nncf

            named = [op.get_friendly_name() for op in network.get_ordered_ops() if op.get_type_name() in {"Convolution", "MatMul"}]
            network = nncf.quantize(network, nncf.Dataset(examples), subset_size=len(examples), ignored_scope=_ends(named))
        openvino.save_model(network, target, compress_to_fp16=False)


def _ends(layers: list[str]):  # type: ignore[no-untyped-def]
    """The first and the last layer stay exact: with them in eight bits the shipped classifier missed a cell of 68, and cried wolf twice."""
    import nncf

    return nncf.IgnoredScope(names=[layers[0], layers[-1]])


def _litert(model: Any, target: Path, int8: bool) -> None:
    if not int8:
        model.export(target, format="litert", verbose=False, input_signature=_signature(model))
        return
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        _savedmodel(model, Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serve"])
        # Without examples the ranges of activations are found as it runs: three milliseconds an image slower than fitted
        # ones, and as exact as float, where those cost two points of infected F1.
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        target.write_bytes(converter.convert())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Converters tell every step; errors still come through, they are raised."""
    os.environ.setdefault("NNCF_TELEMETRY_DISABLED", "1")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
