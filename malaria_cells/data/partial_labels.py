"""Partial labels: what a data set does not annotate is unknown there, not background, and a label may stand for several classes.

A patch without an annotated cell is background only where every class is annotated. Elsewhere it is background or one of the
classes that its data set leaves out, and a classifier is told no more than that: one of a set of classes. So is it of an image of a
single cell whose label says less than the classes do, as ``infected`` does of the stage. The loss is the negative
logarithm of the set's probability, the sum of its classes' (Jin and Ghahramani 2002, "Learning with multiple labels", NIPS 15;
Cour, Sapp and Taskar 2011, "Learning from partial labels", JMLR 12, 1501-1536). A set has an id after those of all classes.
"""

import numpy as np

from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet

Sets = tuple[tuple[int, ...], ...]  # class ids of each set, ascending
EM_STEPS = 200  # steps of `split_counts`; a few are enough where background is known from other data sets


def class_sets(annotations: AnnotationSet) -> Sets:
    """The distinct sets of classes of which no more is known than that a patch shows one of them.

    Of a place without a box they are background (``n_labels``) and what was not annotated; of a single cell `AnnotatedImage.one_of`.
    Empty where every image has all classes annotated and every label stands for one.
    """
    background_class_id = len(annotations.labels)
    of_background = {_set_of(p, background_class_id) for p in annotations.images if p.unannotated}
    return tuple(sorted(of_background | {_cells_set(p) for p in annotations.images if p.one_of}))


def background_id(image: AnnotatedImage, background_class_id: int, sets: Sets) -> int:
    """Class id of a region without a box: `background_class_id`, or the id of a set of classes where some are not annotated.

    The id of set k is ``background_class_id + 1 + k``.

    Args:
        image: its `unannotated` says which.
        background_class_id: class id of background, after those of the labels.
        sets: by `class_sets`, of which one is the image's.
    """
    return background_class_id + 1 + sets.index(_set_of(image, background_class_id)) if image.unannotated else background_class_id


def cell_ids(image: AnnotatedImage, background_class_id: int, sets: Sets) -> np.ndarray:
    """Class ids of an image's cells, int64 (n,); a single cell that may be of several classes has the id of their set.

    Args:
        image: its `one_of` says which.
        background_class_id: class id of background, after those of the labels.
        sets: by `class_sets`.
    """
    ids = image.cell_class_ids
    return np.full_like(ids, background_class_id + 1 + sets.index(_cells_set(image))) if image.one_of else ids


def _set_of(image: AnnotatedImage, background_class_id: int) -> tuple[int, ...]:
    return (*sorted(set(image.unannotated)), background_class_id)


def _cells_set(image: AnnotatedImage) -> tuple[int, ...]:
    return tuple(sorted(set(image.one_of)))


def allowed_classes(sets: Sets, n_classes: int) -> np.ndarray:
    """Classes that each id allows: bool (n_classes + n_sets, n_classes); a class allows itself, a set its members."""
    allowed = np.eye(n_classes + len(sets), n_classes, dtype=bool)
    for row, members in enumerate(sets, start=n_classes):
        allowed[row, list(members)] = True
    return allowed


def stand_ins(class_ids: np.ndarray, allowed: np.ndarray, background_class_id: int) -> np.ndarray:
    """The class as which each id is drawn and weighed: int64 (n_classes + n_sets,).

    A set is no class of its own in balanced sampling, or background would be shown twice as often for being described in two ways:
    it counts as background if that is one of its classes, else as the commonest of them.

    Args:
        class_ids: int (n,), of the training rows.
        allowed: from `allowed_classes`.
        background_class_id: class id of background.
    """
    n_classes = allowed.shape[1]
    counts = np.bincount(class_ids, minlength=len(allowed))[:n_classes]
    sets = [np.flatnonzero(members) for members in allowed[n_classes:]]
    by_set = [background_class_id if background_class_id in members else int(members[counts[members].argmax()]) for members in sets]
    return np.array([*range(n_classes), *by_set], dtype=np.int64)


def split_counts(counts: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The most likely numbers of the classes, where those of sets are divided among their members: float (n_classes,), of the same sum.

    By expectation maximisation (Dempster, Laird and Rubin 1977, JRSS B 39(1), section 4.1): a set's number is divided in proportion
    to what its members have altogether. Without sets nothing changes.

    Args:
        counts: (n_classes + n_sets,), numbers or fractions.
        allowed: from `allowed_classes`.
    """
    n_classes = allowed.shape[1]
    certain, uncertain, members = counts[:n_classes], counts[n_classes:], allowed[n_classes:].astype(np.float64)
    if not uncertain.any():
        return certain
    found = certain + counts.sum() / 1000  # where the numbers leave it open, rare classes stay rare
    for _ in range(EM_STEPS):
        found = certain + found * ((uncertain / np.maximum(members @ found, 1e-300)) @ members)
    return found


__all__ = ["Sets", "allowed_classes", "background_id", "cell_ids", "class_sets", "split_counts", "stand_ins"]
