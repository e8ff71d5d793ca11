"""Start of TensorFlow without its startup messages, and conversion of Keras models to inference functions."""

import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

KEEPS_MEMORY = "TF_CPU_ALLOCATOR_USE_BFC"  # tensorflow/core/common_runtime/process_state.cc
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"  # tensorflow/core/util/port.cc
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # xla/tsl/platform/default/logging.cc


def choose_kernels() -> None:
    """Enable TensorFlow's caching memory allocator and oneDNN kernels by environment variables that are not already set.

    Must be called before TensorFlow is imported. Without the caching allocator, the memory of large arrays (over 32 MB on Linux) is
    returned to the system after every operation and cleared again for the next, which takes up to a fourth of a training step. By default
    TensorFlow uses the oneDNN kernels only on processors with neural-network instructions; on others they also shorten a step by a third
    or more (`benchmarks/training_step.py`).
    """
    os.environ.setdefault(KEEPS_MEMORY, "true")
    if platform.machine().lower() in ("x86_64", "amd64"):  # on other processors the kernels differ and were not measured
        os.environ.setdefault(ONEDNN, "1")


def silence_tensorflow() -> None:
    """Let `start_tensorflow` redirect this process's stderr meanwhile, and TensorFlow log errors alone; for commands, whose process it is.

    Nothing is silenced if the environment variable TF_CPP_MIN_LOG_LEVEL is 0.
    """
    _Silence.wanted = True


class _Silence:
    wanted = False


def start_tensorflow() -> None:
    """Import TensorFlow and initialise its devices. Its log messages are shown only if TF_CPP_MIN_LOG_LEVEL is 0.

    The environment is as before afterwards: TensorFlow reads what is set here when it starts. Other than in commands
    (`silence_tensorflow`), stderr and loggers remain those of the program.
    """
    if "tensorflow" in sys.modules:
        return
    with _environment_restored():
        choose_kernels()
        # Real errors are also raised as exceptions; log lines marked 'error', such as oneDNN's lack of integer matmul, are harmless.
        is_silent = os.environ.setdefault(LOG_LEVEL, "3") != "0" and _Silence.wanted
        with _without_stderr() if is_silent else nullcontext():
            import tensorflow as tf

            devices = tf.config.list_logical_devices("GPU")
    if is_silent:
        tf.get_logger().setLevel(logging.ERROR)  # silences retracing warnings, which short trainings trigger
    if devices:
        print(f"using {len(devices)} GPU", file=sys.stderr)


def repeat_exactly() -> None:
    """Let TensorFlow use only operations that give the same result in every run, for the rest of the process (`deterministic: true`)."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


@contextmanager
def _environment_restored() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in (KEEPS_MEMORY, ONEDNN, LOG_LEVEL)}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Redirect file descriptor 2 to the null device. Python exceptions are raised, not printed, so none is lost."""
    sys.stderr.flush()
    stderr = os.dup(2)
    null_device = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null_device)


@dataclass(frozen=True)
class InputRange:
    """Scaling of pixels in 0..255 for a network without preprocessing of its own: (pixel - offset) / divisor.

    Examples:
        >>> INPUT_RANGES["-1,1"]
        InputRange(offset=127.5, divisor=127.5)
    """

    offset: float = 0.0
    divisor: float = 1.0


INPUT_RANGES = {"0,1": InputRange(0.0, 255.0), "-1,1": InputRange(127.5, 127.5), "0,255": InputRange()}
UNSCALED = INPUT_RANGES["0,255"]


def to_inference_function(
    model: Any, shape: tuple[int | None, ...], scaled: InputRange = UNSCALED, is_logits: bool = False
) -> Callable[[np.ndarray], np.ndarray]:
    """Convert a Keras model to a function from uint8 pixels to its output, with the current weights as constants.

    With constant weights TensorFlow folds batch normalisation into the convolutions. On two cores this takes a fifth less time for `lite`
    and the proposer, and the outputs agree to 2e-6. On a small batch a call is 4 times faster than `predict`.

    Args:
        model: a Keras model with one input and one output.
        shape: shape of its input; None for a variable size.
        scaled: scaling that is applied to the pixels.
        is_logits: whether the output is logits, to which a softmax is applied.

    Returns:
        A function from uint8 pixels of that shape to the output as an array.
    """
    import tensorflow as tf

    trainable, others = ([np.asarray(v) for v in variables] for variables in (model.trainable_variables, model.non_trainable_variables))

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)])
    def graph(pixels: Any) -> Any:
        values = tf.cast(pixels, tf.float32)
        if scaled.offset:
            values = values - scaled.offset
        weights = ([tf.constant(v) for v in part] for part in (trainable, others))
        answer, _ = model.stateless_call(*weights, values / scaled.divisor, training=False)
        return tf.nn.softmax(answer) if is_logits else answer

    constant = graph.get_concrete_function()
    return lambda pixels: np.asarray(constant(tf.constant(pixels)))
