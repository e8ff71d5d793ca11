"""Cells of one class as a contact sheet and as an animated GIF."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from malaria_cells.base import files
from malaria_cells.base.progress import progress
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.images import read_image
from malaria_cells.data.patches import crop_boxes
from malaria_cells.data.stain import Stain
from malaria_cells.results.style import figure, short

# Size of a patch and duration of a frame are those of the published R tutorial (a magick animation of resized patches).
SIDE = 300  # pixels
SECONDS = 2  # per frame of the GIF
COLUMNS = 10  # patches per row of a contact sheet


@dataclass(frozen=True)
class Cells:
    """Cells of one class.

    Attributes:
        name: name of the class.
        total: number of cells of the class in the data set; `patches` may hold fewer.
        patches: uint8 RGB (n, H, W, 3).
        stains: stain of the image of each patch, n of them; empty if the stain was not measured.
    """

    name: str
    total: int
    patches: np.ndarray
    stains: list[Stain]


def cut_cells(annotations: AnnotationSet, count: int, context: float, side: int = SIDE, stained: bool = False) -> list[Cells]:
    """Cut up to `count` cells of each class, spread evenly over the images.

    Args:
        annotations: the data set.
        count: maximum number of cells per class.
        context: side of the square crop, as a multiple of the longer side of the box.
        side: size of the patches in pixels.
        stained: whether the stain of the images is measured.

    Returns:
        One entry for each class that occurs.
    """
    class_ids = np.concatenate([p.cell_class_ids for p in annotations.images])
    image_ids = np.concatenate([np.full(len(p.cells_xyxy), i) for i, p in enumerate(annotations.images)])
    all_boxes = np.concatenate([p.cells_xyxy for p in annotations.images])
    chosen = {}
    for class_id in range(len(annotations.labels)):
        class_rows = np.flatnonzero(class_ids == class_id)
        if len(class_rows):
            chosen[class_id] = class_rows[np.linspace(0, len(class_rows) - 1, min(count, len(class_rows))).round().astype(int)]
    chosen_rows = np.concatenate([*chosen.values(), np.zeros(0, dtype=np.int64)])
    patches: dict[int, np.ndarray] = {}
    stains: dict[int, Stain] = {}
    image_indices = np.unique(image_ids[chosen_rows])
    for i in progress(image_indices, len(image_indices), "cutting cells", "image"):
        rows = chosen_rows[image_ids[chosen_rows] == i]
        image = read_image(annotations.images[i].path)
        patches |= dict(zip(rows.tolist(), crop_boxes(image, all_boxes[rows], context, (side, side)), strict=True))
        if stained:
            stains |= dict.fromkeys(rows.tolist(), Stain.of(image))
    names = annotations.labels.names
    galleries = []
    for c, rows in chosen.items():
        class_rows = rows.tolist()
        cell_stains = [stains[row] for row in class_rows] if stained else []
        galleries.append(Cells(names[c], int((class_ids == c).sum()), np.stack([patches[row] for row in class_rows]), cell_stains))
    return galleries


def contact_sheet(cells: Cells, path: Path, explained: np.ndarray | None = None) -> None:
    """Draw the patches of a class in a grid, each with its explanation below it, if given, as uint8 (n, H, W, 3)."""
    columns = min(COLUMNS, len(cells.patches))
    rows = -(-len(cells.patches) // columns)
    sources = [cells.patches] if explained is None else [cells.patches, explained]
    lines = [source[i * columns : (i + 1) * columns] for i in range(rows) for source in sources]
    title = f"{short(cells.name)}: {len(cells.patches)} of {cells.total:,} cells"
    with figure(path, max(columns * 1.1, 3), len(lines) * 1.1 + 0.4, rows=len(lines), columns=columns, squeeze=False) as axes:
        for ax in axes.flat:
            ax.axis("off")
        for line, patches in zip(axes, lines, strict=True):
            for ax, patch in zip(line, patches, strict=False):
                ax.imshow(patch)
        axes[0, 0].figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)


def animation(cells: Cells, path: Path) -> None:
    """Write the patches of a class as a looping GIF with `SECONDS` per frame."""
    frames = [Image.fromarray(patch).quantize(128, Image.Quantize.FASTOCTREE) for patch in cells.patches]
    with files.replacing(path) as temporary:
        frames[0].save(temporary, format="GIF", save_all=True, append_images=frames[1:], duration=SECONDS * 1000, loop=0)
