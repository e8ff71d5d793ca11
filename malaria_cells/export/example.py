"""The example in the folder of an exported model: a program of few lines over copied modules, or a copy of `by_package`."""

import shutil
from pathlib import Path

from malaria_cells.inference.model_description import ModelDescription

EXAMPLE = "example.py"
MODULES = "standalone"  # folder of the modules, here and beside the networks
_PROGRAM = '''\
"""Detect the cells of images without Keras.

    python example.py IMAGE .. > cells.csv

This file and the folder `standalone` belong to exported networks and ``model.yaml``. They need the inference engine, NumPy, OpenCV, Pillow
and PyYAML only. Their results equal those of `malaria-cells run --model THIS_FOLDER`, with the exceptions in ``standalone/__init__.py``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # where `standalone` is, also if this file is imported from elsewhere

from standalone import Cell, Model, UnreadableError, find_cells, load, main, read_image  # for programs that import this file

if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent))
'''


def runs_alone(description: ModelDescription) -> bool:
    """Whether the example of a model needs only the engine and small libraries, and not this package (see `standalone`)."""
    if description.detector != "two_stage":
        return False
    if not description.has_background:
        return description.scan is None
    return description.proposals == "learned" and description.cell_size is not None


def write_example(folder: Path, description: ModelDescription) -> None:
    """Write ``example.py``, and the modules that it needs, into a folder with exported networks and ``model.yaml``."""
    if not runs_alone(description):
        shutil.copyfile(Path(__file__).with_name("by_package.py"), folder / EXAMPLE)
        return
    (folder / EXAMPLE).write_text(_PROGRAM, encoding="utf-8")
    (folder / MODULES).mkdir(exist_ok=True)
    for module in Path(__file__).with_name(MODULES).glob("*.py"):
        shutil.copyfile(module, folder / MODULES / module.name)
