"""TensorFlow as a tool: started without the pages of notes that it prints past Python's reach; a network as one graph for use."""

import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

KEEPS_MEMORY = "TF_CPU_ALLOCATOR_USE_BFC"  # tensorflow/core/common_runtime/process_state.cc
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"  # tensorflow/core/util/port.cc


def choose_kernels() -> None:
    """Have TensorFlow use oneDNN's kernels and keep its memory, unless the environment says otherwise; it reads this as it is imported.

    Kept, since pages of large arrays (on Linux, over 32 MB) else go back to the system after every operation and have to be cleared for
    the next one: up to a fourth of a training step. And by itself TensorFlow takes oneDNN's kernels on processors with instructions for
    neural networks alone, but they are faster on others, too: by a third of a step and more (`benchmarks/training_step.py`).
    """
    os.environ.setdefault(KEEPS_MEMORY, "true")
    if platform.machine().lower() in ("x86_64", "amd64"):  # elsewhere they are other kernels, which we have not tried
        os.environ.setdefault(ONEDNN, "1")


def start_tensorflow() -> None:
    """Import TensorFlow and let it look for devices; its notes are shown only where TF_CPP_MIN_LOG_LEVEL is 0."""
    if "tensorflow" in sys.modules:
        return
    choose_kernels()
    # Real errors are also raised as exceptions; log lines marked 'error', such as oneDNN's lack of integer matmul, are harmless.
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        import tensorflow as tf

        tf.config.list_logical_devices()
        return
    with _without_stderr():
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU")
    tf.get_logger().setLevel(logging.ERROR)  # silences retracing warnings, which short trainings trigger
    if devices:
        print(f"using {len(devices)} GPU", file=sys.stderr)


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Send file descriptor 2 to nowhere; Python's exceptions still come through, they are raised, not printed."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@dataclass(frozen=True)
class InputRange:
    """How pixels of 0 to 255 are scaled for a network that leaves that to its user: (pixel - offset) / divisor.

    Examples:
        >>> INPUT_RANGES["-1,1"]
        InputRange(offset=127.5, divisor=127.5)
    """

    offset: float = 0.0
    divisor: float = 1.0


INPUT_RANGES = {"0,1": InputRange(0.0, 255.0), "-1,1": InputRange(127.5, 127.5), "0,255": InputRange()}
UNSCALED = INPUT_RANGES["0,255"]


def to_inference_function(  # type: ignore[no-untyped-def]
    model, shape: tuple[int | None, ...], scaled: InputRange = UNSCALED, is_logits: bool = False
) -> Callable[[np.ndarray], np.ndarray]:
    """A Keras model as one graph from uint8 pixels to its answer, with its weights as they are now.

    They become constants, so that TensorFlow folds normalisation into the convolutions: on two cores a fifth less time for `lite`
    and the proposer, with the same answers to 2e-6. A call is 4 times faster than `predict` on a small batch.

    Args:
        model: a Keras model of one input and one output.
        shape: of its input; None where a size is free.
        scaled: what is done to pixels before.
        is_logits: whether the answer is turned into probabilities by a softmax.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)])
    def graph(pixels):  # type: ignore[no-untyped-def]
        values = tf.cast(pixels, tf.float32)
        if scaled.offset:
            values = values - scaled.offset
        answer = model(values / scaled.divisor, training=False)
        return tf.nn.softmax(answer) if is_logits else answer

    constant = convert_variables_to_constants_v2(graph.get_concrete_function())
    return lambda pixels: np.asarray(constant(tf.constant(pixels))[0])
