"""A program that imports this package, or calls it, keeps its process as it was: streams, environment, loggers, filters, limits."""

import json
import os
import random
import subprocess
import sys

import keras
import numpy as np
import pytest

from malaria_cells.base.host_process import host_restored
from malaria_cells.base.tensorflow_setup import KEEPS_MEMORY, LOG_LEVEL, ONEDNN

OURS = (KEEPS_MEMORY, ONEDNN, LOG_LEVEL)
# Prints the names of what differs. Libraries are imported before the first look: they may do as they like.
LOOK = (
    f"OURS = {OURS}"
    + """
import json, logging, os, random, resource, signal, sys, warnings, pkgutil, locale
import cv2, numpy as np
from PIL import Image

def look():
    umask = os.umask(0)
    os.umask(umask)
    loggers = {"root": logging.root} | {n: x for n, x in logging.root.manager.loggerDict.items() if isinstance(x, logging.Logger)}
    keras = sys.modules.get("keras")
    return {
        "bomb guard": Image.MAX_IMAGE_PIXELS,
        "umask": umask,
        "streams": [os.readlink(f"/proc/self/fd/{n}") for n in (0, 1, 2)],
        "environment": dict(os.environ),
        "loggers": {n: (x.level, x.disabled, x.propagate, [type(h).__name__ for h in x.handlers]) for n, x in loggers.items()},
        "logging": logging.root.manager.disable,
        "warning filters": [str(f) for f in warnings.filters],
        "signals": {n: str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)},
        "limits": [resource.getrlimit(n) for n in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_CPU)],
        "directory": os.getcwd(),
        "path": sys.path[:],
        "hooks": [str(sys.excepthook), str(sys.displayhook)],
        "locale": locale.setlocale(locale.LC_ALL),
        "floating point": np.geterr(),
        "random states": [hash(random.getstate()), np.random.get_state()[1].tobytes()],
        "policy": keras and keras.config.dtype_policy().name,
        "recursion": sys.getrecursionlimit(),
    }

def differences(before, after):
    known = set(before["loggers"])
    after["loggers"] = {n: x for n, x in after["loggers"].items() if n in known or (x[0] and n.startswith("malaria_cells"))}
    if before["policy"] is None:  # TensorFlow is imported in between, and adds variables of its own
        added = set(after["environment"]) - set(before["environment"]) - set(OURS)
        after["environment"] = {n: x for n, x in after["environment"].items() if n not in added}
    return [name for name in before if before[name] != after[name]]
"""
)
IMPORTS = """
import importlib, malaria_cells
names = [m.name for m in pkgutil.walk_packages(malaria_cells.__path__, "malaria_cells.") if not m.name.endswith("__main__")]
NAMES_OF_LIBRARIES
before = look()
for name in names:
    importlib.import_module(name)
print(json.dumps([len(names), differences(before, look())]))
"""
LIBRARIES = (
    "import tensorflow, keras, keras_cv, sklearn.linear_model, skimage.measure, scipy.ndimage, cv2, imgaug.augmenters, matplotlib.figure, "
    "supervision, tifffile, imagecodecs, pydantic, h5py, faster_coco_eval, streamlit, plotly.graph_objects"
)
CALLS = """
from malaria_cells import CellDetector
before = look()
detector = CellDetector.load(sys.argv[1])
detector.detect(np.full((60, 80, 3), 200, np.uint8))
print("heard", file=sys.stderr)
print(json.dumps([sys.modules["tensorflow"].__name__, differences(before, look())]))
"""
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


def differences(script, *arguments):
    environment = {k: v for k, v in os.environ.items() if k not in OURS}
    done = subprocess.run([sys.executable, "-c", LOOK + script, *arguments], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@only_linux
def test_importing_every_module_changes_nothing():
    (n_modules, changed), _ = differences(IMPORTS.replace("NAMES_OF_LIBRARIES", LIBRARIES))
    assert n_modules > 200
    assert changed == []


@only_linux
def test_loading_and_detecting_change_only_what_libraries_do(untrained_model):
    """TensorFlow is started by the call here, with the fast kernels, which are chosen by the environment."""
    (_, changed), stderr = differences(CALLS, str(untrained_model))
    # Libraries add filters when they are imported, the policy was none without Keras, and Keras draws initial weights by Python's `random`.
    assert set(changed) <= {"warning filters", "policy", "random states"}
    assert "heard" in stderr


@only_linux
def test_a_command_hides_what_tensorflow_says_when_it_starts():
    start = "from malaria_cells.base.tensorflow_setup import silence_tensorflow, start_tensorflow\nsilence_tensorflow()\nbefore = look()\n"
    (_, changed), stderr = differences(f"{start}start_tensorflow()\nprint(json.dumps([0, differences(before, look())]))")
    assert stderr == ""
    assert set(changed) <= {"warning filters", "policy", "random states"}


def states():
    return random.getstate(), np.random.get_state()[1].tolist(), keras.config.dtype_policy().name  # noqa: NPY002  the state that Keras seeds


def fails_after_setting_them():
    with host_restored():
        keras.utils.set_random_seed(3)
        keras.config.set_dtype_policy("mixed_bfloat16")
        raise KeyError


def test_random_states_and_precision_are_restored_after_an_error_too():
    before = states()
    with pytest.raises(KeyError):
        fails_after_setting_them()
    assert states() == before
