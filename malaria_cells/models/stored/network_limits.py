"""Bounds on what a network from anybody's file may take, and numbers that it must hold."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np

from malaria_cells.base.errors import InputError

MAX_TENSOR = 2**28  # values of one layer's output for one image
SPARE = 2**20  # values that a network may have beside those in its file
_one_at_a_time = Lock()  # layers of every thread are counted


@contextmanager
def limited_weights(n_values: int) -> Iterator[None]:
    """Have Keras refuse to make more weights than a file holds: an architecture of one line may ask for any number.

    Args:
        n_values: number of weights in the file.

    Raises:
        InputError: the network in the making needs more than twice as many. The message does not name the file.
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

    with _one_at_a_time:
        keras.Layer.add_weight = counting
        try:
            yield
        except Exception as error:  # Keras wraps whatever stops a layer
            if made > limit:
                raise InputError(_too_many(n_values)) from error
            raise
        finally:
            keras.Layer.add_weight = original


def _too_many(n_values: int) -> str:
    return f"its architecture needs more weights than the {n_values:,} that the file holds; architecture and weights are not of one network"


def check_network(model: Any) -> None:
    """Refuse a network whose weights are no numbers, or whose layers give more for one image than fits in memory.

    Raises:
        InputError: such a network. The message does not name the file.
    """
    for variable in model.variables:
        values = np.asarray(variable)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            n_wrong = int((~np.isfinite(values)).sum())
            raise InputError(
                f"{n_wrong:,} of the {values.size:,} weights '{variable.path}' are no numbers (NaN or infinite): "
                "its training diverged; train it again"
            )
    _check_tensors(model)


def _check_tensors(model: Any) -> None:
    import keras

    for operation in getattr(model, "operations", model.layers):
        for tensor in keras.tree.flatten(operation.output):
            size = int(np.prod([int(n) for n in tensor.shape[1:] if n is not None], dtype=object))
            if size > MAX_TENSOR:
                raise InputError(f"its layer '{operation.name}' gives {size:,} values for one image, which does not fit in memory")
        if isinstance(operation, keras.Model):
            _check_tensors(operation)
