"""Partial labels: a patch may be labelled with a set of classes, one of which is the right one.

A patch without an annotated cell is background only in data sets that annotate every class. Elsewhere it may also show one of the
unannotated classes, so its label is the set of these and background. An image of a single cell has a set as its label if its annotation
is coarser than the classes, as ``infected`` is without the stage. The loss is the negative logarithm of the summed probability of the
set's classes (Jin and Ghahramani 2002, "Learning with multiple labels", NIPS 15; Cour, Sapp and Taskar 2011, "Learning from partial
labels", JMLR 12, 1501-1536). The ids of sets follow those of all classes and the background class.
"""

import numpy as np

from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet

Sets = tuple[tuple[int, ...], ...]  # class ids of each set, ascending
EM_STEPS = 200  # iterations of expectation maximisation; a few suffice if other data sets have certain background


def class_sets(annotations: AnnotationSet) -> Sets:
    """The distinct sets of classes that partial labels consist of.

    The set of a region without a box is background (``n_labels``) and the unannotated classes; that of a single cell is
    `AnnotatedImage.one_of`. There are no sets if every image is annotated with all classes and every label stands for one class.
    """
    background_class_id = len(annotations.labels)
    of_background = {_background_set(p, background_class_id) for p in annotations.images if p.unannotated}
    return tuple(sorted(of_background | {_single_cell_set(p) for p in annotations.images if p.one_of}))


def background_id(image: AnnotatedImage, background_class_id: int, sets: Sets) -> int:
    """Class id of an image's regions without a box: background, or the id of a set if some classes are unannotated.

    The id of set k is ``background_class_id + 1 + k``.

    Args:
        image: the annotated image; its `unannotated` lists the unannotated classes.
        background_class_id: class id of background, after those of the labels.
        sets: from `class_sets`; must include the image's set.
    """
    return background_class_id + 1 + sets.index(_background_set(image, background_class_id)) if image.unannotated else background_class_id


def cell_ids(image: AnnotatedImage, background_class_id: int, sets: Sets) -> np.ndarray:
    """Class ids of an image's cells, int64 (n,); a single cell with several possible classes has the id of their set.

    Args:
        image: the annotated image; its `one_of` lists the possible classes.
        background_class_id: class id of background, after those of the labels.
        sets: from `class_sets`.
    """
    ids = image.cell_class_ids
    return np.full_like(ids, background_class_id + 1 + sets.index(_single_cell_set(image))) if image.one_of else ids


def _background_set(image: AnnotatedImage, background_class_id: int) -> tuple[int, ...]:
    return (*sorted(set(image.unannotated)), background_class_id)


def _single_cell_set(image: AnnotatedImage) -> tuple[int, ...]:
    return tuple(sorted(set(image.one_of)))


def allowed_classes(sets: Sets, n_classes: int) -> np.ndarray:
    """Mask of the classes that each id allows, bool (n_classes + n_sets, n_classes): a class allows itself, a set its members."""
    allowed = np.eye(n_classes + len(sets), n_classes, dtype=bool)
    for row, members in enumerate(sets, start=n_classes):
        allowed[row, list(members)] = True
    return allowed


def stand_ins(class_ids: np.ndarray, allowed: np.ndarray, background_class_id: int) -> np.ndarray:
    """The class by which each id is sampled and weighted: int64 (n_classes + n_sets,).

    A set is not a class of its own in balanced sampling; otherwise background, which occurs both as a class and in sets, would be
    sampled twice as often. A set that contains background counts as background, any other as the most frequent of its classes.

    Args:
        class_ids: int (n,), ids of the training rows.
        allowed: from `allowed_classes`.
        background_class_id: class id of background.
    """
    n_classes = allowed.shape[1]
    counts = np.bincount(class_ids, minlength=len(allowed))[:n_classes]
    sets = [np.flatnonzero(members) for members in allowed[n_classes:]]
    by_set = [background_class_id if background_class_id in members else int(members[counts[members].argmax()]) for members in sets]
    return np.array([*range(n_classes), *by_set], dtype=np.int64)


def split_counts(counts: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Maximum-likelihood counts of the classes, with the counts of sets divided among their members.

    Expectation maximisation (Dempster, Laird and Rubin 1977, JRSS B 39(1), section 4.1): a set's count is divided in proportion to
    the estimated counts of its members. Without sets, counts are returned unchanged.

    Args:
        counts: (n_classes + n_sets,), counts or fractions.
        allowed: from `allowed_classes`.

    Returns:
        Float (n_classes,), with the sum of `counts`.
    """
    n_classes = allowed.shape[1]
    certain, uncertain, members = counts[:n_classes], counts[n_classes:], allowed[n_classes:].astype(np.float64)
    if not uncertain.any():
        return certain
    estimate = certain + counts.sum() / 1000  # a small uniform start: rare classes stay rare where the counts do not decide
    for _ in range(EM_STEPS):
        estimate = certain + estimate * ((uncertain / np.maximum(members @ estimate, 1e-300)) @ members)
    return estimate


__all__ = ["Sets", "allowed_classes", "background_id", "cell_ids", "class_sets", "split_counts", "stand_ins"]
