"""Data sets of pictures of single cells beside those of photographs: which of their pictures teach, and what is said of them."""

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

LARGE = 5  # times the median cell of the photographs: a picture of one cell is hardly ever so large


def parted(read: dict[str, SetAsRead], labels: LabelSet) -> tuple[dict[str, SetAsRead], AnnotationSet | None]:
    """Part data sets into those to detect in and pictures of single cells, which teach classifiers alone.

    Args:
        read: by `data_sets.read_members`.
        labels: of the config.

    Returns:
        The sets of photographs, and the pictures of the others, but for their test parts and for pictures without a label to learn, both
        of which are counted in warnings; all sets and None where none has boxes.

    Raises:
        InputError: a label stands for several, and there are no photographs; no picture of a set of single cells has a label to learn.
    """
    single = {name: own for name, own in read.items() if own.pictures.whole}
    if len(single) in (0, len(read)):
        vague = [name for name, own in single.items() if any(p.one_of for p in own.pictures.pictures)]
        if vague:
            raise InputError(
                f"data_sets: {vague[0]}: a list in label_map is for pictures of single cells beside data sets with boxes, and none "
                "has boxes here: map to one label"
            )
        return read, None
    photographs = {name: own for name, own in read.items() if name not in single}
    usual = max(own.pictures.median_cell_size for own in photographs.values())
    teaching = [_teaching(name, own, usual) for name, own in single.items()]
    return photographs, joined(teaching, labels)


def _teaching(name: str, read: SetAsRead, usual: float) -> AnnotationSet:
    """The pictures of one set that teach; `usual` is the size of the cells in the photographs, in pixels."""
    if read.test is not None and len(read.test):
        of_test = number_of(len(read.test), "picture")
        log.warning(f"data_sets: {name}: {of_test} of its test part left out, since detection is not scored on single cells")
    labelled = tuple(p for p in read.rest.pictures if len(p.cell_class_ids))
    without = [p.key for p in read.rest.pictures if not len(p.cell_class_ids)]
    if not labelled:
        raise InputError(
            f"data_sets: {name}: none of its {number_of(len(without), 'picture')} of single cells has a label to learn; check `labels`, "
            "`ignore_labels`, `min_box_size` and its `label_map` and `split`, or leave the set out"
        )
    if without:
        log.warning(
            f"data_sets: {name}: {number_of(len(without), 'picture')} without a label to learn (`ignore_labels`, `min_box_size`), left "
            f"out; first: {without[0]}"
        )
    size = float(np.median([max(p.size_wh) for p in labelled]))
    if size > LARGE * usual > 0:
        log.warning(
            f"data_sets: {name}: its pictures are taken for single cells, and are {size:.0f} pixels wide, {size / usual:.0f} times a cell "
            "of the photographs; if they are photographs, leave the set out: their labels say nothing of a cell"
        )
    return replace(read.rest, pictures=labelled)


def said_of_single_cells(single_cells: AnnotationSet | None) -> list[str]:
    """A line for each data set of single cells: how many there are of which label."""
    if single_cells is None:
        return []
    lines, names = [], single_cells.labels.names
    for name, own in single_cells.by_data_set().items():
        said = Counter(OR.join(names[c] for c in p.one_of or p.cell_class_ids) for p in own.pictures)
        counts = ", ".join(f"{label} {n:,}" for label, n in said.most_common())
        lines.append(f"{name}: {number_of(len(own), 'picture')} of single cells, which teach the classifier alone: {counts}")
    return lines


def said_of_labels_not_in_photographs(train: AnnotationSet, single_cells: AnnotationSet | None) -> list[str]:
    """A line for each label without a cell in the photographs to train on: whether single cells teach it."""
    pictures = () if single_cells is None else single_cells.pictures
    certain = {int(c) for p in pictures if not p.one_of for c in p.cell_class_ids}
    possible = {c for p in pictures for c in p.one_of}
    lines = []
    for i in np.flatnonzero(train.class_counts == 0).tolist():
        what = f"labels: '{train.labels.names[i]}' does not occur in the training part"
        if i in certain:
            lines.append(f"{what} but for pictures of single cells, by which alone the model learns it")
        elif i in possible:
            lines.append(f"{what} but for single cells that may be of other classes too; the model cannot learn to tell it from these")
        else:
            lines.append(f"{what}; the model cannot learn it")
    return lines
