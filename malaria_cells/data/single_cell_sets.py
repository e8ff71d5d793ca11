"""Data sets of images of single cells beside those of images: which of their images teach, and what is said of them."""

import logging
from collections import Counter
from dataclasses import replace

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.config import OR
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.data_sets import joined
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.set_reading import SetAsRead

log = logging.getLogger(__name__)

LARGE = 5  # times the median cell of the images: an image of one cell is hardly ever so large


def parted(read: dict[str, SetAsRead], labels: LabelSet) -> tuple[dict[str, SetAsRead], AnnotationSet | None]:
    """Part data sets into those to detect in and images of single cells, which teach classifiers alone.

    Args:
        read: by `data_sets.read_members`.
        labels: of the config.

    Returns:
        The sets of images, and the images of the others, but for their test parts and for images without a label to learn, both
        of which are counted in warnings; all sets and None where none has boxes.

    Raises:
        InputError: a label stands for several, and there are no images; no image of a set of single cells has a label to learn.
    """
    single = {name: own for name, own in read.items() if own.images.whole}
    if len(single) in (0, len(read)):
        vague = [name for name, own in single.items() if any(p.one_of for p in own.images.images)]
        if vague:
            raise InputError(
                f"data_sets: {vague[0]}: a list in label_map is for images of single cells beside data sets with boxes, and none "
                "has boxes here: map to one label"
            )
        return read, None
    images = {name: own for name, own in read.items() if name not in single}
    usual = max(own.images.median_cell_size for own in images.values())
    teaching = [_teaching(name, own, usual) for name, own in single.items()]
    return images, joined(teaching, labels)


def _teaching(name: str, read: SetAsRead, usual: float) -> AnnotationSet:
    """The images of one set that teach; `usual` is the size of the cells in the images, in pixels."""
    if read.test is not None and len(read.test):
        of_test = number_of(len(read.test), "image")
        log.warning(f"data_sets: {name}: {of_test} of its test part left out, since detection is not scored on single cells")
    labelled = tuple(p for p in read.rest.images if len(p.cell_class_ids))
    without = [p.key for p in read.rest.images if not len(p.cell_class_ids)]
    if not labelled:
        raise InputError(
            f"data_sets: {name}: none of its {number_of(len(without), 'image')} of single cells has a label to learn; check `labels`, "
            "`ignore_labels`, `min_box_size` and its `label_map` and `split`, or leave the set out"
        )
    if without:
        log.warning(
            f"data_sets: {name}: {number_of(len(without), 'image')} without a label to learn (`ignore_labels`, `min_box_size`), left "
            f"out; first: {without[0]}"
        )
    size = float(np.median([max(p.size_wh) for p in labelled]))
    if size > LARGE * usual > 0:
        log.warning(
            f"data_sets: {name}: its images are taken for single cells, and are {size:.0f} pixels wide, {size / usual:.0f} times a cell "
            "of the images; if they are images, leave the set out: their labels say nothing of a cell"
        )
    return replace(read.rest, images=labelled)


def said_of_single_cells(single_cells: AnnotationSet | None) -> list[str]:
    """A line for each data set of single cells: how many there are of which label."""
    if single_cells is None:
        return []
    lines, names = [], single_cells.labels.names
    for name, own in single_cells.by_data_set().items():
        said = Counter(OR.join(names[c] for c in p.one_of or p.cell_class_ids) for p in own.images)
        counts = ", ".join(f"{label} {n:,}" for label, n in said.most_common())
        lines.append(f"{name}: {number_of(len(own), 'image')} of single cells, which teach the classifier alone: {counts}")
    return lines


def said_of_labels_not_in_images(train: AnnotationSet, single_cells: AnnotationSet | None) -> list[str]:
    """A line for each label without a cell in the images to train on: whether single cells teach it."""
    images = () if single_cells is None else single_cells.images
    certain = {int(c) for p in images if not p.one_of for c in p.cell_class_ids}
    possible = {c for p in images for c in p.one_of}
    lines = []
    for i in np.flatnonzero(train.class_counts == 0).tolist():
        what = f"labels: '{train.labels.names[i]}' does not occur in the training part"
        if i in certain:
            lines.append(f"{what} but for images of single cells, by which alone the model learns it")
        elif i in possible:
            lines.append(f"{what} but for single cells that may be of other classes too; the model cannot learn to tell it from these")
        else:
            lines.append(f"{what}; the model cannot learn it")
    return lines
