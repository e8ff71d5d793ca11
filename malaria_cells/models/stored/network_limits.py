"""Limits on the memory that a network from an untrusted file may need, and a check that its weights are finite."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np

from malaria_cells.base.errors import InputError

MAX_TENSOR = 2**28  # values in the output of one layer for one image
SPARE = 2**20  # weights that a network may have in addition to twice those in its file
_lock = Lock()  # one network at a time, since the weights made by all threads are counted


@contextmanager
def limited_weights(n_values: int) -> Iterator[None]:
    """Limit the number of weights that Keras creates inside the block, since a short architecture can declare any number.

    Args:
        n_values: number of weights in the file.

    Raises:
        InputError: a network is built that needs more than twice as many weights (and `SPARE`). The message does not name the file.
    """
    import keras

    made, limit = 0, 2 * n_values + SPARE
    original = keras.Layer.add_weight

    def counting(layer: Any, shape: Any = None, *arguments: Any, **named: Any) -> Any:
        nonlocal made
        made += int(np.prod([int(size) for size in (shape or ())], dtype=object))
        if made > limit:
            raise InputError(_too_many(n_values))
        return original(layer, shape, *arguments, **named)

    with _lock:
        keras.Layer.add_weight = counting
        try:
            yield
        except Exception as error:  # Keras wraps exceptions that are raised in a layer
            if made > limit:
                raise InputError(_too_many(n_values)) from error
            raise
        finally:
            keras.Layer.add_weight = original


def _too_many(n_values: int) -> str:
    return f"its architecture needs more weights than the {n_values:,} in the file; architecture and weights belong to different networks"


def check_network(model: Any) -> None:
    """Check that all weights of a network are finite, and that the output of each layer for one image fits in memory.

    Raises:
        InputError: one of them does not. The message does not name the file.
    """
    for variable in model.variables:
        values = np.asarray(variable)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            n_wrong = int((~np.isfinite(values)).sum())
            raise InputError(
                f"{n_wrong:,} of the {values.size:,} weights '{variable.path}' are not finite (NaN or infinite): "
                "its training diverged; train it again"
            )
    _check_tensors(model)


def _check_tensors(model: Any) -> None:
    import keras

    for operation in getattr(model, "operations", model.layers):
        for tensor in keras.tree.flatten(operation.output):
            size = int(np.prod([int(n) for n in tensor.shape[1:] if n is not None], dtype=object))
            if size > MAX_TENSOR:
                raise InputError(f"its layer '{operation.name}' outputs {size:,} values for one image, which does not fit in memory")
        if isinstance(operation, keras.Model):
            _check_tensors(operation)
