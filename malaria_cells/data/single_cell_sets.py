"""Data sets of single-cell images, used in training beside data sets with boxes."""

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

LARGE = 5  # times the median cell size: an image of a single cell is hardly ever this large


def separate_single_cells(read: dict[str, SetAsRead], labels: LabelSet) -> tuple[dict[str, SetAsRead], AnnotationSet | None]:
    """Separate data sets with boxes from data sets of single-cell images, on which only classifiers are trained.

    Args:
        read: from `data_sets.read_members`.
        labels: the labels of the config.

    Returns:
        The data sets with boxes, and the images of the single-cell sets. Their test parts and their images without a label are left
        out, with a warning. If no set has boxes, or all have, all sets and None.

    Raises:
        InputError: a label stands for several classes but no set has boxes, or a single-cell set has no image with a label.
    """
    single_cell_sets = {name: data_set for name, data_set in read.items() if data_set.images.whole}
    if len(single_cell_sets) in (0, len(read)):
        ambiguous = [name for name, data_set in single_cell_sets.items() if any(p.one_of for p in data_set.images.images)]
        if ambiguous:
            raise InputError(
                f"data_sets: {ambiguous[0]}: label_map has a list, which needs another data set with boxes, and none "
                "has boxes here; map to one label"
            )
        return read, None
    sets_with_boxes = {name: data_set for name, data_set in read.items() if name not in single_cell_sets}
    reference_size = max(data_set.images.median_cell_size for data_set in sets_with_boxes.values())
    labelled = [_labelled_images(name, data_set, reference_size) for name, data_set in single_cell_sets.items()]
    return sets_with_boxes, joined(labelled, labels)


def _labelled_images(name: str, read: SetAsRead, reference_size: float) -> AnnotationSet:
    """The images of a single-cell set that have a label; `reference_size` is the median cell size of the sets with boxes, in pixels."""
    if read.test is not None and len(read.test):
        of_test = number_of(len(read.test), "image")
        log.warning(f"data_sets: {name}: {of_test} of its test part left out, since detection is not scored on single cells")
    labelled = tuple(p for p in read.rest.images if len(p.cell_class_ids))
    unlabelled = [p.key for p in read.rest.images if not len(p.cell_class_ids)]
    if not labelled:
        raise InputError(
            f"data_sets: {name}: none of its {number_of(len(unlabelled), 'image')} of single cells has a label to learn; check `labels`, "
            "`ignore_labels`, `min_box_size` and its `label_map` and `split`, or leave the set out"
        )
    if unlabelled:
        log.warning(
            f"data_sets: {name}: {number_of(len(unlabelled), 'image')} without a label to learn (`ignore_labels`, `min_box_size`), left "
            f"out; first: {unlabelled[0]}"
        )
    size = float(np.median([max(p.size_wh) for p in labelled]))
    if size > LARGE * reference_size > 0:
        log.warning(
            f"data_sets: {name}: its images are read as single cells, but are {size:.0f} pixels wide, "
            f"{size / reference_size:.0f} times a cell of the other sets; if they show fields of view, "
            "leave the set out, since their labels are not those of cells"
        )
    return replace(read.rest, images=labelled)


def describe_single_cells(single_cells: AnnotationSet | None) -> list[str]:
    """One line for each data set of single cells, with the number of images of each label."""
    if single_cells is None:
        return []
    lines, names = [], single_cells.labels.names
    for name, images in single_cells.by_data_set().items():
        label_counts = Counter(OR.join(names[c] for c in p.one_of or p.cell_class_ids) for p in images.images)
        counts = ", ".join(f"{label} {n:,}" for label, n in label_counts.most_common())
        lines.append(f"{name}: {number_of(len(images), 'image')} of single cells, which train the classifier alone: {counts}")
    return lines


def describe_labels_not_in_images(train: AnnotationSet, single_cells: AnnotationSet | None) -> list[str]:
    """One line for each label without a cell in the training images, saying whether single cells provide it."""
    images = () if single_cells is None else single_cells.images
    certain = {int(c) for p in images if not p.one_of for c in p.cell_class_ids}
    possible = {c for p in images for c in p.one_of}
    lines = []
    for i in np.flatnonzero(train.class_counts == 0).tolist():
        start = f"labels: '{train.labels.names[i]}' does not occur in the training part"
        if i in certain:
            lines.append(f"{start}; the model learns it from images of single cells alone")
        elif i in possible:
            lines.append(f"{start}; single cells labelled with several classes include it, but the model cannot distinguish it by them")
        else:
            lines.append(f"{start}; the model cannot learn it")
    return lines
