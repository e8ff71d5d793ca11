"""The most doubtful cells of a run: a sheet to look at, a table, and a data set to correct in an annotation tool.

The data set is COCO with the images beside it. It holds every counted cell of the images that have a doubtful one, not
the doubtful alone, so that a corrected copy is a complete annotation of them and can be trained on (`corrections`).
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv
from scipy.stats import entropy

from malaria_cells.base import files
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.images import read_image
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.patches import crop_boxes
from malaria_cells.data.writers import WRITERS
from malaria_cells.results.style import figure, short

FOLDER = "review"
COLUMNS = 6
CONTEXT = 2.0  # side of the square shown, by the longer side of the box: a person wants to see the neighbours
SHOWN = 128  # pixels of it


@dataclass(frozen=True)
class DoubtfulCell:
    """A detection whose label is in doubt.

    Attributes:
        key: of its image.
        index: of the detection in it.
        doubt: 0 to 1.
    """

    key: str
    index: int
    doubt: float


def doubts(found: sv.Detections, labels: LabelSet) -> np.ndarray:
    """How doubtful the label of each detection is: float (n,), 0 to 1.

    Where cells can be infected it is the entropy of "infected or not" in bits; else that of the labels, by its largest
    possible value. Either is of the calibrated probabilities given that there is a cell, times the probability that
    there is one.
    """
    p = np.asarray(found.data["probabilities"], dtype=np.float64)[:, : len(labels)]
    p = p / np.maximum(p.sum(axis=1, keepdims=True), 1e-9)
    if labels.is_infected.any() and not labels.is_infected.all():
        infected = p[:, labels.is_infected].sum(axis=1)
        p = np.stack([infected, 1 - infected], axis=1)
    if p.shape[1] < 2:
        return 1 - np.asarray(found.data["objectness"], dtype=np.float64)
    return entropy(np.clip(p, 1e-12, 1), axis=1, base=p.shape[1]) * np.asarray(found.data["objectness"])


def most_doubtful(results: dict[str, sv.Detections], labels: LabelSet, count: int) -> list[DoubtfulCell]:
    """The `count` most doubtful of the counted cells of a run, most doubtful first."""
    cells = [
        DoubtfulCell(key, int(i), float(doubt[i]))
        for key, found in results.items()
        if len(found)
        for doubt in [doubts(found, labels)]
        for i in np.flatnonzero(found.data["counted_as"] >= 0)
    ]
    return sorted(cells, key=lambda c: (-c.doubt, c.key, c.index))[:count]


def write_review(folder: Path, results: dict[str, sv.Detections], root: Path, labels: LabelSet, count: int) -> int:
    """Write ``sheet.png``, ``doubtful.csv``, ``annotations.json`` and ``images/`` into a folder that is not there yet.

    Args:
        folder: where to.
        results: detections by the key of their image.
        root: folder that the keys are relative to.
        labels: the classes.
        count: of doubtful cells.

    Returns:
        How many there were, `count` at most; with none nothing is written.
    """
    cells = most_doubtful(results, labels, count)
    if not cells:
        return 0
    keys = sorted({cell.key for cell in cells})
    with files.replacing_folder(folder, "doubtful.csv") as beside:
        WRITERS["coco"](AnnotationSet(labels, tuple(_as_image(key, root / key, results[key]) for key in keys)), beside)
        _write_table(beside / "doubtful.csv", cells, results, labels)
        draw_sheet(beside / "sheet.png", cells, results, {key: root / key for key in keys}, labels)
    return len(cells)


def _as_image(key: str, path: Path, found: sv.Detections) -> AnnotatedImage:
    counted = found.data["counted_as"] >= 0
    class_ids = found.data["counted_as"][counted]
    pixels = read_image(path)
    return AnnotatedImage(
        key, path, (pixels.shape[1], pixels.shape[0]), key, found.xyxy[counted], class_ids, np.zeros(len(class_ids), dtype=bool)
    )


def _write_table(path: Path, cells: list[DoubtfulCell], results: dict[str, sv.Detections], labels: LabelSet) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(("number", "image", "label", "doubt", "x_min", "y_min", "x_max", "y_max", *(f"p_{name}" for name in labels.names)))
        for number, cell in enumerate(cells, start=1):
            found = results[cell.key]
            label = labels.names[found.data["counted_as"][cell.index]]
            box = (f"{v:.1f}" for v in found.xyxy[cell.index])
            fractions = (f"{v:.4f}" for v in found.data["probabilities"][cell.index][: len(labels)])
            writer.writerow((number, cell.key, label, f"{cell.doubt:.4f}", *box, *fractions))


def draw_sheet(path: Path, cells: list[DoubtfulCell], results: dict[str, sv.Detections], images: dict[str, Path], labels: LabelSet) -> None:
    """Draw doubtful cells with their two likeliest labels; `images` are the images' files by key."""
    patches: dict[DoubtfulCell, np.ndarray] = {}
    for key in {cell.key for cell in cells}:
        own = [cell for cell in cells if cell.key == key]
        cells_xyxy = results[key].xyxy[[cell.index for cell in own]]
        patches |= dict(zip(own, crop_boxes(read_image(images[key]), cells_xyxy, CONTEXT, (SHOWN, SHOWN)), strict=True))
    rows = -(-len(cells) // COLUMNS)
    with figure(path, COLUMNS * 1.6, rows * 1.95 + 0.5, rows=rows, columns=COLUMNS, squeeze=False) as axes:
        for ax in axes.flat:
            ax.axis("off")
        for number, (ax, cell) in enumerate(zip(axes.flat, cells, strict=False), start=1):
            ax.imshow(patches[cell])
            ax.set_title(f"{number}  {_second_thoughts(results[cell.key], cell.index, labels)}", fontsize=7.5, fontweight="normal")
        noun = "cell" if len(cells) == 1 else "cells"
        axes[0, 0].figure.suptitle(
            f"{len(cells)} most doubtful {noun}: the two likeliest labels", x=0.01, ha="left", fontweight="bold", fontsize=11
        )


def _second_thoughts(found: sv.Detections, index: int, labels: LabelSet) -> str:
    p: Any = found.data["probabilities"][index][: len(labels)]
    best = np.argsort(-p)[:2]
    return "\n".join(f"{short(labels.names[i])} {p[i] / max(p.sum(), 1e-9):.2f}" for i in best)
