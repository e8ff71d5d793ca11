"""Starts TensorFlow without the pages of notes that its start prints past Python's reach."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def start_tensorflow() -> None:
    """Import TensorFlow and let it look for devices; its notes are shown only where TF_CPP_MIN_LOG_LEVEL is 0."""
    if "tensorflow" in sys.modules:
        return
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0":
        import tensorflow as tf

        tf.config.list_logical_devices()
        return
    with _without_stderr():
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU")
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
