"""The cells of an image, and the program that prints a table of images."""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .classification import probabilities_in, probabilities_of
from .decision import Cell, decide
from .images import MAX_PIXELS, UnreadableError, read_image
from .model import Model, load
from .proposals import note_on_size, propose
from .stain import in_common_look


def find_cells(image: np.ndarray, model: Model, cell_size: float | None = None) -> list[Cell]:
    """Detect the cells of an image.

    Args:
        image: uint8 RGB (H, W, 3).
        model: a model with a proposer.
        cell_size: median longer side of a cell in pixels; None: that of the training images.

    Raises:
        UnreadableError: the model has no proposer, or the image would be enlarged to too many pixels.
    """
    image = in_common_look(image, model.about.get("stain", "none"))
    boxes, proposal_scores = propose(image, model, cell_size)
    return decide(boxes, probabilities_in(image, boxes, model), proposal_scores, model)


def rows_of(path: Path, model: Model, cell_size: float | None) -> Iterator[list[Any]]:
    """Rows of the table for an image; a note on the cell size is printed to stderr."""
    image = in_common_look(read_image(path), model.about.get("stain", "none"))
    if not model.about["has_background"]:
        p = probabilities_of([image], model)[0]
        yield [path, model.about["labels"]["names"][p.argmax()], *(f"{v:.4f}" for v in p)]
        return
    boxes, proposal_scores = propose(image, model, cell_size)
    note = note_on_size(boxes, proposal_scores, cell_size or model.about["cell_size"], model)
    if note:
        print(
            f"{path}: {note}; this example does not estimate the cell size: set --cell-size PIXELS, or use malaria-cells run",
            file=sys.stderr,
        )
    for label, score, counted_as, box in decide(boxes, probabilities_in(image, boxes, model), proposal_scores, model):
        yield [path, label, f"{score:.4f}", *(f"{v:.1f}" for v in box), counted_as or ""]


def main(folder: Path) -> int:
    """Print a table of the images that the command line names.

    Args:
        folder: folder of the exported model.

    Returns:
        Exit code 0; 2 if an argument or the model is wrong; 3 if an image cannot be read.
    """
    parser = argparse.ArgumentParser(description="Detect the cells of images without Keras.")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--cell-size", type=float, help="median longer side of a cell in pixels (default: that of the training images)")
    options = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    write, code = csv.writer(sys.stdout, lineterminator="\n"), 0
    try:
        model = load(folder)
        if options.cell_size is not None and not (0 < options.cell_size < np.inf and model.about["has_background"]):
            raise UnreadableError(f"--cell-size {options.cell_size}: expected a positive number of pixels, for a model that detects cells")
        names = model.about["labels"]["names"]
        columns = ["score", "x_min", "y_min", "x_max", "y_max", "counted_as"] if model.about["has_background"] else names
        write.writerow(["image", "label", *columns])
    except UnreadableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in options.images:
        try:
            write.writerows(list(rows_of(path, model, options.cell_size)))
        except UnreadableError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 3
    return code
