"""Splits by image or group (slide), never by cell."""

import logging

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet

log = logging.getLogger(__name__)

CANDIDATES = 300  # random splits of which the best is taken


def split_images(annotations: AnnotationSet, fraction: float, seed: int, advice: str = "") -> tuple[AnnotationSet, AnnotationSet]:
    """Split a set in two by group, with every class in both parts if the data allow it.

    `CANDIDATES` random splits are drawn. The one with the fewest classes missing from either part is taken; ties go to the one
    whose class fractions are closest to those of the whole set.

    Args:
        annotations: images of at least two groups.
        fraction: fraction of the groups in the held-out part, in (0, 1).
        seed: seed of the random splits.
        advice: further advice for the error about too few groups.

    Returns:
        The first part and the held-out part.

    Raises:
        InputError: fewer than two groups.
    """
    from sklearn.model_selection import GroupShuffleSplit  # slow to import: a second of a detection's start

    group_ids, counts = _groups(annotations)
    n = len(counts)
    if n < 2:
        contents = f"{number_of(len(annotations), 'image')} of {number_of(n, 'group')}"
        helps = ["add images", *(["change `group`"] if len(annotations) > n else []), *([advice] if advice else [])]
        raise InputError(f"{contents} cannot be split, which needs two: {', or '.join(helps)}")
    held_out = min(max(round(fraction * n), 1), n - 1)
    shuffles = GroupShuffleSplit(n_splits=CANDIDATES, test_size=held_out, random_state=seed)
    chosen = np.zeros((CANDIDATES, n), dtype=bool)
    for row, (_, second) in zip(chosen, shuffles.split(counts, groups=np.arange(n)), strict=True):
        row[second] = True
    best = chosen[_best_candidate(chosen, counts)]
    in_second = best[group_ids]
    parts = [[p.key for p, second in zip(annotations.images, in_second, strict=True) if second == part] for part in (False, True)]
    return annotations.subset(parts[0]), annotations.subset(parts[1])


def fold_images(annotations: AnnotationSet, folds: int, seed: int, split_again: bool = True) -> list[AnnotationSet]:
    """Split a set into folds by group, with equal numbers of groups to within one.

    `CANDIDATES` random partitions are drawn. The one with the fewest classes missing from folds is taken; ties go to the one whose
    class counts differ least between folds.

    Args:
        annotations: images of enough groups that at least two remain outside the largest fold.
        folds: number of folds, two or more.
        seed: seed of the random partitions.
        split_again: whether the images outside a fold are split once more. If not, one remaining group is enough, and classes
            that are missing from a fold cause no warning.

    Returns:
        The images of each fold.

    Raises:
        InputError: too few groups.
    """
    group_ids, counts = _groups(annotations)
    n = len(counts)
    if n < folds or n - -(-n // folds) < 1 + split_again:
        possible = {1: "", 2: "", 3: "ask for 3, "}.get(n, f"ask for 2 to {n}, ")
        raise InputError(
            f"{folds} folds: {number_of(n, 'group')} of images are too few, since the images outside a fold are split again; "
            f"{possible}add images, or change `group`"
        )
    rng = np.random.default_rng(seed)
    fold_of = rng.permuted(np.tile(np.arange(n) % folds, (CANDIDATES, 1)), axis=1)
    by_fold = (fold_of[:, None, :] == np.arange(folds)[:, None]) @ counts  # (candidates, folds, classes)
    total = counts.sum(axis=0)
    missing = ((by_fold == 0) & (total > 0)).sum(axis=(1, 2))
    deviation = _deviation(by_fold, total / folds, total).sum(axis=(1, 2))
    best = int(np.lexsort((deviation, missing))[0])
    for name, in_folds in zip(annotations.labels.names, by_fold[best].T, strict=True):
        if split_again and in_folds.any() and not in_folds.all():
            log.warning(
                f"'{name}' is in {np.count_nonzero(in_folds)} of {folds} folds only: {int(in_folds.sum())} cells, which lie in few groups"
            )
    held_out = fold_of[best][group_ids]
    return [annotations.subset(p.key for p, k in zip(annotations.images, held_out, strict=True) if k == fold) for fold in range(folds)]


def draw_images(annotations: AnnotationSet, per_class: int, seed: int) -> AnnotationSet:
    """Draw at most `per_class` images of each class from a set whose labels are of whole images.

    All images of a smaller class are taken, with a warning.
    """
    rng = np.random.default_rng(seed)
    class_ids = np.array([p.class_ids[0] for p in annotations.images])
    keys = []
    for class_id, name in enumerate(annotations.labels.names):
        class_keys = [p.key for p, c in zip(annotations.images, class_ids, strict=True) if c == class_id]
        if len(class_keys) < per_class:
            log.warning(f"train_size: '{name}' has {len(class_keys)} images, {per_class} were asked for; all are taken")
        keys += rng.permutation(class_keys)[:per_class].tolist()
    return annotations.subset(keys)


def _best_candidate(chosen: np.ndarray, counts: np.ndarray) -> int:
    total = counts.sum(axis=0)
    second = chosen @ counts  # (candidates, classes)
    present = total > 0
    missing = ((second == 0) & present).sum(axis=1) + ((second == total) & present).sum(axis=1)
    wanted = chosen.mean(axis=1, keepdims=True)
    deviation = _deviation(second, wanted * total, total).sum(axis=1)
    return int(np.lexsort((deviation, missing))[0])


def _groups(annotations: AnnotationSet) -> tuple[np.ndarray, np.ndarray]:
    """Group index of each image, int (n_images,), and cells per group and class, float (n_groups, n_labels)."""
    groups, group_ids = np.unique([p.group for p in annotations.images], return_inverse=True)
    counts = np.zeros((len(groups), len(annotations.labels)))
    np.add.at(counts, group_ids, annotations.class_counts_by_image)
    return group_ids, counts


def _deviation(counts: np.ndarray, wanted: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Absolute difference of cell counts (last axis: classes) from the wanted counts, over the square root of the total count.

    The root is proportional to the spread of a random draw, so that frequent classes do not outweigh rare ones.
    """
    return np.abs(counts - wanted) / np.sqrt(np.maximum(total, 1))
