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

# The published R tutorial's (a magick animation of resized patches): pixels a side, and seconds a frame.
SIDE = 300
SECONDS = 2
COLUMNS = 10


@dataclass(frozen=True)
class Cells:
    """Cells of one class.

    Attributes:
        name: of the class.
        total: how many there are in the data set; `patches` may be fewer.
        patches: uint8 RGB (n, H, W, 3).
        stains: of the images that the patches are from, n of them, or none where they were not measured.
    """

    name: str
    total: int
    patches: np.ndarray
    stains: list[Stain]


def cut_cells(annotations: AnnotationSet, count: int, context: float, side: int = SIDE, stained: bool = False) -> list[Cells]:
    """Up to `count` cells of each class, spread evenly over the images, each image decoded once.

    Args:
        annotations: the data set.
        count: cells of a class at most.
        context: side of the square shown, by the longer side of the box.
        side: of the patches in pixels.
        stained: whether the stain of the images is measured.

    Returns:
        An entry for each class that occurs.
    """
    class_ids = np.concatenate([p.cell_class_ids for p in annotations.images])
    image_ids = np.concatenate([np.full(len(p.cells_xyxy), i) for i, p in enumerate(annotations.images)])
    every = np.concatenate([p.cells_xyxy for p in annotations.images])
    chosen = {}
    for class_id in range(len(annotations.labels)):
        own = np.flatnonzero(class_ids == class_id)
        if len(own):
            chosen[class_id] = own[np.linspace(0, len(own) - 1, min(count, len(own))).round().astype(int)]
    wanted = np.concatenate([*chosen.values(), np.zeros(0, dtype=np.int64)])
    patches: dict[int, np.ndarray] = {}
    stains: dict[int, Stain] = {}
    shown = np.unique(image_ids[wanted])
    for i in progress(shown, len(shown), "cutting cells", "image"):
        rows = wanted[image_ids[wanted] == i]
        image = read_image(annotations.images[i].path)
        patches |= dict(zip(rows.tolist(), crop_boxes(image, every[rows], context, (side, side)), strict=True))
        if stained:
            stains |= dict.fromkeys(rows.tolist(), Stain.of(image))
    names = annotations.labels.names
    found = []
    for c, rows in chosen.items():
        own = rows.tolist()
        of_images = [stains[row] for row in own] if stained else []
        found.append(Cells(names[c], int((class_ids == c).sum()), np.stack([patches[row] for row in own]), of_images))
    return found


def contact_sheet(cells: Cells, path: Path, explained: np.ndarray | None = None) -> None:
    """Draw the patches of a class in a grid, and beneath each, if there is one, its explanation, uint8 (n, H, W, 3)."""
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
    """Write the patches of a class as a GIF that repeats, `SECONDS` a frame."""
    frames = [Image.fromarray(patch).quantize(128, Image.Quantize.FASTOCTREE) for patch in cells.patches]
    with files.replacing(path) as beside:
        frames[0].save(beside, format="GIF", save_all=True, append_images=frames[1:], duration=SECONDS * 1000, loop=0)
