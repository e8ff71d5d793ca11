"""Writes the most doubtful cells of a run as a sheet, a table, and a data set to correct in an annotation tool.

The data set is a COCO file and its images. It holds all counted cells of the images with a doubtful cell, so that a corrected copy is a
complete annotation of these images and can be trained on (`corrections`).
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import entr

from malaria_cells.base import files
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import image_size
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.patches import crops_of_file
from malaria_cells.data.writers import WRITERS
from malaria_cells.results.style import figure, short

FOLDER = "review"
COLUMNS = 6  # cells per row of the sheet
CONTEXT = 2.0  # side of the square crop, as a multiple of the longer side of the box; shows neighbouring cells too
SIDE = 128  # pixels; size of a patch in the sheet


@dataclass(frozen=True)
class DoubtfulCell:
    """A detection whose label is in doubt.

    Attributes:
        key: key of the image.
        index: index of the detection in the image.
        doubt: 0 to 1, see `doubts`.
    """

    key: str
    index: int
    doubt: float


def doubts(detections: Detections, labels: LabelSet) -> np.ndarray:
    """Return the uncertainty of the label of each detection: float (n,), 0 to 1.

    With infected labels it is the entropy of "infected or not" in bits; otherwise the entropy of the labels, divided by its maximum. The
    entropy is that of the calibrated probabilities given a cell, and is multiplied by the objectness.
    """
    p = np.asarray(detections.probabilities, dtype=np.float64)[:, : len(labels)]
    p = p / np.maximum(p.sum(axis=1, keepdims=True), 1e-9)
    if labels.is_infected.any() and not labels.is_infected.all():
        infected = p[:, labels.is_infected].sum(axis=1)
        p = np.stack([infected, 1 - infected], axis=1)
    if p.shape[1] < 2:
        return 1 - np.asarray(detections.objectness, dtype=np.float64)
    p = np.clip(p, 1e-12, 1)
    p = p / p.sum(axis=1, keepdims=True)
    return entr(p).sum(axis=1) / np.log(p.shape[1]) * detections.objectness


def most_doubtful(results: Mapping[str, Detections], labels: LabelSet, count: int) -> list[DoubtfulCell]:
    """Return the `count` counted cells of a run with the most doubtful labels, most doubtful first."""
    cells = (
        DoubtfulCell(key, int(i), float(doubt[i]))
        for key, detections in results.items()
        if len(detections)
        for doubt in [doubts(detections, labels)]
        for i in np.flatnonzero(detections.counted_as >= 0)
    )
    return heapq.nsmallest(count, cells, key=lambda c: (-c.doubt, c.key, c.index))


def write_review(folder: Path, results: Mapping[str, Detections], root: Path, labels: LabelSet, count: int) -> int:
    """Write ``sheet.png``, ``doubtful.csv``, ``annotations.json`` and ``images/`` into a new folder.

    Args:
        folder: folder to create.
        results: detections by image key.
        root: folder that the keys are relative to.
        labels: the classes.
        count: maximum number of doubtful cells.

    Returns:
        The number of doubtful cells; if it is 0, nothing is written.
    """
    cells = most_doubtful(results, labels, count)
    if not cells:
        return 0
    keys = sorted({cell.key for cell in cells})
    with files.replacing_folder(folder, "doubtful.csv") as temporary:
        WRITERS["coco"](AnnotationSet(labels, tuple(_as_image(key, root / key, results[key]) for key in keys)), temporary)
        _write_table(temporary / "doubtful.csv", cells, results, labels)
        draw_sheet(temporary / "sheet.png", cells, results, {key: root / key for key in keys}, labels)
    return len(cells)


def _as_image(key: str, path: Path, detections: Detections) -> AnnotatedImage:
    counted = detections.counted_as >= 0
    class_ids = detections.counted_as[counted]
    return AnnotatedImage(key, path, image_size(path), key, detections.xyxy[counted], class_ids, np.zeros(len(class_ids), dtype=bool))


def _write_table(path: Path, cells: list[DoubtfulCell], results: Mapping[str, Detections], labels: LabelSet) -> None:
    rows = []
    for number, cell in enumerate(cells, start=1):
        detections = results[cell.key]
        label = labels.names[detections.counted_as[cell.index]]
        box = (f"{v:.1f}" for v in detections.xyxy[cell.index])
        fractions = (f"{v:.4f}" for v in detections.probabilities[cell.index][: len(labels)])
        rows.append((number, cell.key, label, f"{cell.doubt:.4f}", *box, *fractions))
    columns = ("number", "image", "label", "doubt", "x_min", "y_min", "x_max", "y_max", *(f"p_{name}" for name in labels.names))
    files.write_csv(path, columns, rows)


def draw_sheet(path: Path, cells: list[DoubtfulCell], results: Mapping[str, Detections], images: dict[str, Path], labels: LabelSet) -> None:
    """Draw doubtful cells with their two likeliest labels; `images` holds image files by key."""
    patches: dict[DoubtfulCell, np.ndarray] = {}
    for key in {cell.key for cell in cells}:
        cells_of_image = [cell for cell in cells if cell.key == key]
        cells_xyxy = results[key].xyxy[[cell.index for cell in cells_of_image]]
        patches |= dict(zip(cells_of_image, crops_of_file(images[key], cells_xyxy, CONTEXT, (SIDE, SIDE)), strict=True))
    rows = -(-len(cells) // COLUMNS)
    with figure(path, COLUMNS * 1.6, rows * 1.95 + 0.5, rows=rows, columns=COLUMNS, squeeze=False) as axes:
        for ax in axes.flat:
            ax.axis("off")
        for number, (ax, cell) in enumerate(zip(axes.flat, cells, strict=False), start=1):
            ax.imshow(patches[cell])
            ax.set_title(f"{number}  {_likeliest_labels(results[cell.key], cell.index, labels)}", fontsize=7.5, fontweight="normal")
        noun = "cell" if len(cells) == 1 else "cells"
        axes[0, 0].figure.suptitle(
            f"{len(cells)} most doubtful {noun}: the two likeliest labels", x=0.01, ha="left", fontweight="bold", fontsize=11
        )


def _likeliest_labels(detections: Detections, index: int, labels: LabelSet) -> str:
    p: Any = detections.probabilities[index][: len(labels)]
    best = np.argsort(-p)[:2]
    return "\n".join(f"{short(labels.names[i])} {p[i] / max(p.sum(), 1e-9):.2f}" for i in best)
