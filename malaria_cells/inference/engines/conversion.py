"""What engines share as they write networks and run them."""

from threading import Lock
from typing import TYPE_CHECKING, Any

from malaria_cells.inference.engines import Run

if TYPE_CHECKING:
    import numpy as np


def signature(model: Any) -> list[Any]:
    """Return the input of an exported network: float32 pixels with a free batch size."""
    import keras

    return [keras.InputSpec(shape=(None, *model.input_shape[1:]), dtype="float32", name="pixels")]


def exact_ends(layers: list[str]) -> Any:
    """Return the first and the last layer as what NNCF leaves exact.

    With them in eight bits the shipped classifier missed one infected cell of 68, and had two more false alarms.
    """
    import nncf

    return nncf.IgnoredScope(names=[layers[0], layers[-1]])


def one_call_at_a_time(run: Run) -> Run:
    """Return a function that waits for its turn, for engines that hold one input at a time."""
    lock = Lock()

    def in_turn(pixels: "np.ndarray") -> "np.ndarray":
        with lock:
            return run(pixels)

    return in_turn
