"""Plots of a data set: annotated images, and the sizes and numbers of their boxes."""

from pathlib import Path

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import read_image
from malaria_cells.data.labels import LabelSet
from malaria_cells.results.overlay import draw_detections
from malaria_cells.results.style import QUIET, class_colours, figure, short


def annotated_images(annotations: AnnotationSet, count: int, path: Path) -> None:
    """Draw the images with the most classes and their annotated boxes, without ignore regions.

    Args:
        annotations: the data set.
        count: number of images.
        path: PNG to write.
    """
    counts = annotations.class_counts_by_image
    quiet = _common(annotations)
    order = np.lexsort((-counts.sum(axis=1), -(counts > 0).sum(axis=1)))[:count]
    columns = min(2, len(order))
    rows = -(-len(order) // columns)
    with figure(path, 7 * columns, 5.4 * rows, rows=rows, columns=columns, squeeze=False) as axes:
        for ax in axes.ravel():
            ax.axis("off")
        for ax, i in zip(axes.ravel(), order, strict=False):
            image = annotations.images[i]
            ax.imshow(_drawn(image, annotations.labels, quiet))
            ax.set_title(f"{short(image.key)}: {len(image.cells_xyxy)} boxes", fontsize=9)


def _common(annotations: AnnotationSet) -> np.ndarray:
    """Return which class has more than half of the boxes, bool (n_labels,); its boxes are drawn without names."""
    counts = annotations.class_counts
    return counts > 0.5 * counts.sum()


def _drawn(image: AnnotatedImage, labels: LabelSet, quiet: np.ndarray) -> np.ndarray:
    cells = Detections.from_boxes(image.cells_xyxy, image.cell_class_ids)
    return draw_detections(read_image(image.path), cells, labels, quiet, with_scores=False)


def box_figures(annotations: AnnotationSet, path: Path) -> None:
    """Plot the sizes of the boxes by class, and the number of boxes per image.

    Args:
        annotations: the data set.
        path: PNG to write.
    """
    sizes = np.concatenate([boxes.cell_sizes(p.cells_xyxy) for p in annotations.images])
    ids = np.concatenate([p.cell_class_ids for p in annotations.images])
    colours = class_colours(annotations.labels, _common(annotations))
    present = [(i, n) for i, n in enumerate(annotations.labels.names) if (ids == i).any()]
    with figure(path, 11, 3.8, columns=2, width_ratios=(3, 2)) as (left, right):
        plotted = left.boxplot(
            [sizes[ids == i] for i, _ in present], orientation="horizontal", patch_artist=True, whis=(5, 95), showfliers=False
        )
        for box, (_, name) in zip(plotted["boxes"], present, strict=True):
            box.set(facecolor=colours[name], alpha=0.6)
        left.set_yticks(range(1, len(present) + 1), [short(name) for _, name in present])
        left.set(title="Longer side of the boxes", xlabel="pixels (box: middle half; whiskers: 5 to 95 %)", xlim=(0, None))
        right.hist(annotations.class_counts_by_image.sum(axis=1), bins=20, color=QUIET)
        right.set(title="Boxes per image", xlabel="boxes", ylabel="images")
