"""One Keras network in the format of another engine, with a free batch size and, for the proposer, a free image size."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from malaria_cells.base.errors import InputError
from malaria_cells.inference.engines import ENGINES, Batches

NO_TELEMETRY = "NNCF_TELEMETRY_DISABLED"  # variable that keeps NNCF from reporting its use


def quantized_formats() -> tuple[str, ...]:
    """Return the formats that can hold eight-bit weights and activations."""
    return tuple(name for name in ENGINES if ENGINES[name].quantizes)


def export_network(model: Any, path: Path, format_name: str, int8: bool = False, examples: Batches | None = None) -> None:
    """Write a network.

    Args:
        model: a Keras model from pixels (b, H, W, 3) in 0..255; H and W may be None.
        path: without the format's suffix.
        format_name: one of `ENGINES`.
        int8: whether weights and activations become eight-bit integers (post-training quantisation, Jacob et al. 2018,
            arXiv:1712.05877).
        examples: inputs of the network as it will meet them, float32 (b, H, W, 3) each, which the ranges of activations are
            fitted to where the format needs that (`Engine.needs_examples`).

    Raises:
        InputError: a format that cannot be quantised, or a library is not installed.
    """
    engine = ENGINES[format_name]
    if int8 and not engine.quantizes:
        others = ", ".join(quantized_formats())
        raise InputError(f"--int8: a {format_name} is not quantised here; choose --format {others}, or leave --int8 out")
    target = path.with_name(path.name + engine.suffix)
    try:
        with _quiet():
            engine.write(model, target, int8, examples)
    except ModuleNotFoundError as error:
        raise InputError(f"--format {format_name}: '{error.name}' is not installed; pip install 'malaria-cells[export]'") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence converters, which report every step; errors are raised as exceptions and come through."""
    is_set = NO_TELEMETRY in os.environ
    os.environ.setdefault(NO_TELEMETRY, "1")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        if not is_set:
            os.environ.pop(NO_TELEMETRY, None)
