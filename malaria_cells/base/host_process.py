"""What a call of the library leaves as it was in the process of the program that called it."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def host_restored() -> Iterator[None]:
    """Restore the random states of Python and NumPy and Keras' precision policy after the block, which a training sets.

    The seeds of TensorFlow and of Keras itself stay those of the training, since neither can be read.
    """
    before, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  the state that Keras seeds
    policy = sys.modules["keras"].config.dtype_policy() if "keras" in sys.modules else None
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(of_numpy)  # noqa: NPY002
        if "keras" in sys.modules:
            keras = sys.modules["keras"]
            keras.config.set_dtype_policy(policy or keras.config.floatx())
