"""An exported model without Keras and without this package's other modules.

`malaria-cells export` copies these modules into a folder beside the networks, ``model.yaml``, which holds labels, thresholds and
calibration, and an ``example.py`` that runs them. They need the inference engine, NumPy, OpenCV, Pillow and PyYAML only, and import each
other by relative names, so that they are the same modules in the package and beside an exported model. Their results equal those of
`malaria-cells run --model FOLDER` with two exceptions. They do not estimate the cell size: they assume that of the training images, and
print a note if an image seems to differ. And they treat all images alike, also those that are unlike all training images with infected
cells. A model of whole images classifies each image instead.
"""

from .decision import Cell
from .images import UnreadableError, read_image
from .model import Model, load
from .program import find_cells, main

__all__ = ["Cell", "Model", "UnreadableError", "find_cells", "load", "main", "read_image"]
