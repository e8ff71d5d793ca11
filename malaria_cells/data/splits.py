"""Splits by image or group (slide), never by cell."""

import logging

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet

log = logging.getLogger(__name__)

CANDIDATES = 300


def split_images(annotations: AnnotationSet, fraction: float, seed: int, advice: str = "") -> tuple[AnnotationSet, AnnotationSet]:
    """Part a set in two, groups whole, with every class in both parts where the data allow it.

    Of `CANDIDATES` seeded random splits of the groups, the one is taken that misses the fewest classes in either part,
    and of those the one whose class fractions differ least from the whole.

    Args:
        annotations: at least two groups.
        fraction: fraction of the groups that go to the second part, in (0, 1).
        seed: same seed and same set, same split.
        advice: what else helps where there are too few groups, for the error.

    Returns:
        The larger part and the held-out part.

    Raises:
        InputError: fewer than two groups.
    """
    group_ids, counts = _groups(annotations)
    n = len(counts)
    if n < 2:
        what = f"{number_of(len(annotations), 'image')} of {number_of(n, 'group')}"
        helps = ["add images", *(["change `group`"] if len(annotations) > n else []), *([advice] if advice else [])]
        raise InputError(f"{what} cannot be split, which needs two: {', or '.join(helps)}")
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
    """Part a set in folds of as many groups each, to within one, groups whole.

    Of `CANDIDATES` seeded random ways, the one is taken that leaves the fewest classes out of a fold, and of those the one
    whose class counts differ least from fold to fold.

    Args:
        annotations: so many groups that two at least remain without the largest fold, to be split once more.
        folds: two or more.
        seed: same seed and same set, same folds.
        split_again: whether what is not held out is to be split once more; if not, one group that remains is enough, and a class that
            a fold lacks is not warned of.

    Raises:
        InputError: too few groups.
    """
    group_ids, counts = _groups(annotations)
    n = len(counts)
    if n < folds or n - -(-n // folds) < 1 + split_again:
        possible = {1: "", 2: "", 3: "ask for 3, "}.get(n, f"ask for 2 to {n}, ")
        raise InputError(
            f"{folds} folds: {number_of(n, 'group')} of images are too few, since what is not held out is split again; "
            f"{possible}add images, or change `group`"
        )
    rng = np.random.default_rng(seed)
    fold_of = rng.permuted(np.tile(np.arange(n) % folds, (CANDIDATES, 1)), axis=1)
    by_fold = (fold_of[:, None, :] == np.arange(folds)[:, None]) @ counts  # (candidates, folds, classes)
    total = counts.sum(axis=0)
    missing = ((by_fold == 0) & (total > 0)).sum(axis=(1, 2))
    deviation = _deviation(by_fold, total / folds, total).sum(axis=(1, 2))
    best = int(np.lexsort((deviation, missing))[0])
    for name, found in zip(annotations.labels.names, by_fold[best].T, strict=True):
        if split_again and found.any() and not found.all():
            log.warning(
                f"'{name}' is in {np.count_nonzero(found)} of {folds} folds only: {int(found.sum())} cells, which lie in few groups"
            )
    held_out = fold_of[best][group_ids]
    return [annotations.subset(p.key for p, k in zip(annotations.images, held_out, strict=True) if k == fold) for fold in range(folds)]


def draw_images(annotations: AnnotationSet, per_class: int, seed: int) -> AnnotationSet:
    """Draw at most `per_class` images of each class of a set whose labels are of whole images.

    A class that has fewer is taken whole, with a warning.
    """
    rng = np.random.default_rng(seed)
    class_ids = np.array([p.class_ids[0] for p in annotations.images])
    keys = []
    for class_id, name in enumerate(annotations.labels.names):
        own = [p.key for p, c in zip(annotations.images, class_ids, strict=True) if c == class_id]
        if len(own) < per_class:
            log.warning(f"train_size: '{name}' has {len(own)} images, {per_class} were asked for; all are taken")
        keys += rng.permutation(own)[:per_class].tolist()
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
    """The group of each image, int (n_images,), and the cells of each class in each group, float (n_groups, n_labels)."""
    groups, group_ids = np.unique([p.group for p in annotations.images], return_inverse=True)
    counts = np.zeros((len(groups), len(annotations.labels)))
    np.add.at(counts, group_ids, annotations.class_counts_by_image)
    return group_ids, counts


def _deviation(found: np.ndarray, wanted: np.ndarray, total: np.ndarray) -> np.ndarray:
    """How far the number of cells of each class (last axis) is from the one wanted.

    Relative to the root of the count, the spread of a random draw, so that a frequent class does not drown a rare one.
    """
    return np.abs(found - wanted) / np.sqrt(np.maximum(total, 1))
