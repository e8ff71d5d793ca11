"""How TensorFlow is started: with kernels and memory that make its steps fast, unless the environment says otherwise."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from malaria_cells.base.tensorflow_setup import INPUT_RANGES, KEEPS_MEMORY, ONEDNN, choose_kernels, to_inference_function

# Pages that the system has to clear in ten additions of 64 MiB each, after a first one.
PAGES = """
import resource
from malaria_cells.base.tensorflow_setup import start_tensorflow
start_tensorflow()
import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port
numbers = tf.zeros([4096, 4096])
added = numbers + 1
del added
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    added = numbers + 1
    del added
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, _pywrap_util_port.IsMklEnabled())
"""


def test_the_environment_has_the_last_word(monkeypatch):
    monkeypatch.setattr("os.environ", {KEEPS_MEMORY: "false"})
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    choose_kernels()
    assert (os.environ[KEEPS_MEMORY], os.environ[ONEDNN]) == ("false", "1")


def test_other_processors_keep_their_own_kernels(monkeypatch):
    monkeypatch.setattr("os.environ", {})
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    choose_kernels()
    assert ONEDNN not in os.environ


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults as Linux does")
def test_tensorflow_keeps_its_memory_and_takes_the_kernels():
    def pages(**settings: str) -> tuple[int, bool]:
        environment = {k: v for k, v in os.environ.items() if k not in (KEEPS_MEMORY, ONEDNN)} | settings
        said = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True, env=environment).stdout.split()
        return int(said[0]), said[1] == "True"

    kept, onednn = pages()
    given_back, other = pages(**{KEEPS_MEMORY: "false", ONEDNN: "0"})
    assert 2 * kept < given_back  # by far, but for systems whose pages are large
    assert onednn == (platform.machine().lower() in ("x86_64", "amd64"))
    assert not other


def test_the_inference_function_holds_the_weights_that_the_model_had():
    import keras

    from malaria_cells.models import build_classifier

    model = build_classifier("compact", (32, 32), 4, 0.3)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    expected = np.asarray(model((pixels - 127.5) / 127.5, training=False))
    function = to_inference_function(model, (None, 32, 32, 3), INPUT_RANGES["-1,1"])
    assert np.abs(function(pixels) - expected).max() < 2e-6
    model.set_weights([weights + 1 for weights in model.get_weights()])
    assert np.abs(function(pixels) - expected).max() < 2e-6
    logits = to_inference_function(model, (None, 32, 32, 3), is_logits=True)(pixels)
    assert np.abs(logits - keras.ops.softmax(model(pixels.astype("float32"), training=False))).max() < 2e-6
