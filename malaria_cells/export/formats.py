"""One Keras network in the form of another engine, with a free batch size and, for the proposer, a free picture size."""

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

from malaria_cells.engines import SUFFIXES
from malaria_cells.errors import InputError

FORMATS = tuple(SUFFIXES)
QUANTIZED = ("onnx", "openvino", "litert")  # those that can hold eight-bit weights and activations

Batches = list[np.ndarray]


def export_network(model: Any, path: Path, form: str, examples: Batches | None = None) -> None:
    """Write a network.

    Args:
        model: a Keras model from pixels (b, H, W, 3) in 0..255; H and W may be None.
        path: without the form's suffix.
        form: one of `FORMATS`.
        examples: None: weights stay float32. Else inputs of the network as it will meet them, float32 (b, H, W, 3) each:
            weights and activations become eight-bit integers whose ranges these fit (post-training quantisation, Jacob et al.
            2018, arXiv:1712.05877).

    Raises:
        InputError: a form that cannot be quantised, or a library is not installed.
    """
    if examples is not None and form not in QUANTIZED:
        raise InputError(f"--int8: a {form} is not quantised here; choose --format {', '.join(QUANTIZED)}, or leave --int8 out")
    target = path.with_name(path.name + SUFFIXES[form])
    write: dict[str, Callable] = {"savedmodel": _savedmodel, "onnx": _onnx, "openvino": _openvino, "litert": _litert}
    try:
        with _quiet():
            write[form](model, target, examples)
    except ModuleNotFoundError as error:
        raise InputError(f"--format {form}: '{error.name}' is not installed; pip install 'malaria-cells[export]'") from error


def _signature(model: Any) -> list:
    import keras

    return [keras.InputSpec(shape=(None, *model.input_shape[1:]), dtype="float32", name="pixels")]


def _savedmodel(model: Any, target: Path, _: None) -> None:
    model.export(target, format="tf_saved_model", verbose=False, input_signature=_signature(model))


def _onnx(model: Any, target: Path, examples: Batches | None) -> None:
    model.export(target, format="onnx", verbose=False, input_signature=_signature(model))
    if examples is not None:
        import nncf
        import onnx

        plain = onnx.load(target)
        name = plain.graph.input[0].name
        onnx.save(nncf.quantize(plain, nncf.Dataset(examples, lambda batch: {name: batch}), subset_size=len(examples)), target)


def _openvino(model: Any, target: Path, examples: Batches | None) -> None:
    import openvino

    with tempfile.TemporaryDirectory() as folder:  # Keras writes OpenVINO's form from its OpenVINO backend alone
        by_onnx = Path(folder) / "network.onnx"
        _onnx(model, by_onnx, None)
        network = openvino.Core().read_model(by_onnx)
        if examples is not None:
            import nncf

            network = nncf.quantize(network, nncf.Dataset(examples), subset_size=len(examples))
        openvino.save_model(network, target, compress_to_fp16=False)


def _litert(model: Any, target: Path, examples: Batches | None) -> None:
    if examples is None:
        model.export(target, format="litert", verbose=False, input_signature=_signature(model))
        return
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        _savedmodel(model, Path(folder), None)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serve"])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([batch[:1]] for batch in examples)
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
