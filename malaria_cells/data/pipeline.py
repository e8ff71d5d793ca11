"""`PatchStore` to batches: tf.data of (patches, class ids, weights).

Which patches make a batch, and how they are augmented, depends on the seed, the epoch and the batch's number alone, so
that a run that was cut off and resumed sees what an uninterrupted one would have seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from malaria_cells.data.augment import Augmenter, BatchPolicy
from malaria_cells.data.patches import PatchStore


@dataclass(frozen=True)
class Sampler:
    """Draws the rows of each batch of each epoch.

    Attributes:
        rows: int64 (n,), rows of the store to train on.
        class_ids: int64 (n,), their classes, or what else they are drawn by.
        batch_size: rows a batch.
        steps: batches per epoch; None: as many as show every row once.
        power: draw classes in proportion to their counts to this power (see `class_fractions`); None: every row once an epoch, shuffled.
        seed: of the drawing.
        weights: float (n,), how often a row is drawn, relative to others of its class; None: all alike.
        strata: int (n,), data set of each row: with a `power`, a class's rows are drawn from them in proportion to their counts to
            this power, as the classes are; None: all of one.
    """

    rows: np.ndarray
    class_ids: np.ndarray
    batch_size: int
    steps: int | None
    power: float | None
    seed: int
    weights: np.ndarray | None = None
    strata: np.ndarray | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return self.steps or -(-len(self.rows) // self.batch_size)

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        """Rows of each batch of one pass: int64 (batch_size,) each; the last may be shorter."""
        rng = np.random.default_rng([self.seed, epoch])
        order = self._shuffled_order(rng) if self.power is None else self._drawn_order(rng, self.power)
        for step in range(self.steps_per_epoch):
            yield self.rows[order[step * self.batch_size : (step + 1) * self.batch_size]]

    def _shuffled_order(self, rng: np.random.Generator) -> np.ndarray:
        everything = np.arange(len(self.rows))
        total = len(everything) if self.steps is None else self.steps * self.batch_size
        return _in_turn(everything, self.weights, total, rng)

    def _drawn_order(self, rng: np.random.Generator, power: float) -> np.ndarray:
        total = self.steps_per_epoch * self.batch_size
        groups, fractions = _groups(self.class_ids, power, self.weights, self.strata)
        ends = np.rint(np.cumsum(fractions) * total).astype(np.int64)  # each group in proportion to its fraction, to within one
        drawn = rng.permutation(np.repeat(np.arange(len(fractions)), np.diff(ends, prepend=0)))
        order = np.empty(total, dtype=np.int64)
        for c in np.flatnonzero(fractions):
            places = np.flatnonzero(drawn == c)
            order[places] = _in_turn(np.flatnonzero(groups == c), self.weights, len(places), rng)
        return order


def _in_turn(members: np.ndarray, weights: np.ndarray | None, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw from `members` so often as to make `count`: each as often as its weight has it, to within one, in random order."""
    own = None if weights is None else weights[members]
    if own is None or (own == own[0]).all():
        rounds = range(0, count, len(members))
        return np.concatenate([members[:0], *(rng.permutation(members) for _ in rounds)])[:count]
    shuffled = rng.permutation(len(members))
    ends = np.floor(np.cumsum(own[shuffled] / own.sum()) * count + rng.random()).astype(np.int64)  # systematic sampling
    ends[-1] = count
    return rng.permutation(np.repeat(members[shuffled], np.diff(np.minimum(ends, count), prepend=0)))


def _groups(class_ids: np.ndarray, power: float, weights: np.ndarray | None, strata: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Of each row the group of those of its class and data set, int (n,), and the fraction of each group in what is drawn."""
    of_classes = class_fractions(np.bincount(class_ids, weights), power)
    if strata is None:
        return class_ids, of_classes
    n_strata = int(strata.max()) + 1
    groups = class_ids * n_strata + strata
    counts = np.bincount(groups, weights, minlength=len(of_classes) * n_strata).reshape(-1, n_strata)
    within = [class_fractions(row, power) if row.any() else np.zeros(n_strata) for row in counts]
    return groups, (of_classes[:, None] * np.array(within)).ravel()


def row_fractions(class_ids: np.ndarray, power: float, weights: np.ndarray | None = None, strata: np.ndarray | None = None) -> np.ndarray:
    """Fraction of each row in what a `Sampler` draws: float (n,), sums to 1."""
    groups, fractions = _groups(class_ids, power, weights, strata)
    of_each = fractions / np.maximum(np.bincount(groups, weights, minlength=len(fractions)), np.finfo(np.float64).tiny)
    return of_each[groups] if weights is None else of_each[groups] * weights


def class_fractions(counts: np.ndarray, power: float) -> np.ndarray:
    """Fraction of each class in what is drawn: its count to a power (Kang et al. 2020, arXiv:1910.09217, equation 1).

    Args:
        counts: (n_classes,), numbers, or sums of weights.
        power: 0: every class that is present equally often; 1: as often as it occurs.

    Returns:
        float (n_classes,), sums to 1; 0 for absent classes.
    """
    shown = np.where(counts > 0, counts.astype(np.float64) ** power, 0)
    return shown / shown.sum()


def class_weights(class_ids: np.ndarray, n_classes: int, drawn: np.ndarray | None = None) -> np.ndarray:
    """Balanced class weights (scikit-learn's n / (k * n_c)): float32 (n_classes,); 1 for absent classes.

    Args:
        class_ids: int (n,).
        n_classes: number of classes.
        drawn: float (n,), how often each row is drawn, relative to others; None: all alike.
    """
    counts = np.bincount(class_ids, drawn, minlength=n_classes).astype(np.float64)
    balanced = counts.sum() / (np.count_nonzero(counts) * np.where(counts > 0, counts, 1))
    return np.where(counts > 0, balanced, 1).astype(np.float32)


@dataclass(frozen=True)
class Targets:
    """What a batch carries beside its patches.

    Attributes:
        weights: float32 (n_classes,), weight of each class; of each set of classes after them, where there are partial labels.
        soft: labels as fractions of classes (and sets), float32 (b, n_classes), or (b, 1) for two; else class ids, int32 (b,). Losses
            that smooth or focus, policies that mix, and partial labels need them.
    """

    weights: np.ndarray
    soft: bool = False


def training_batches(
    store: PatchStore, sampler: Sampler, targets: Targets, augment: Augmenter, first_epoch: int, policy: BatchPolicy | None = None
) -> tf.data.Dataset:
    """Endless augmented batches from epoch `first_epoch` on.

    Args:
        store: the patches.
        sampler: which make a batch.
        targets: form of labels and weights; a `policy` needs soft labels.
        augment: applied to uint8 batches.
        first_epoch: epoch to begin with.
        policy: applied to tensors after it.

    Returns:
        Dataset of (float32 (b, H, W, 3) in 0..255, labels, float32 (b,) weights).
    """

    def batches() -> Iterator[tuple[np.ndarray, int]]:
        epoch = first_epoch
        while True:
            for step, rows in enumerate(sampler.batches(epoch)):
                yield rows, (sampler.seed * 1_000_003 + epoch * 10_007 + step) % 2**31
            epoch += 1

    def load(rows: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        patches = augment(_fetch(store, rows), int(seed))
        ids = store.class_ids[rows]
        return patches.astype(np.float32), ids.astype(np.int32), targets.weights[ids]

    signature = (tf.TensorSpec((None,), tf.int64), tf.TensorSpec((), tf.int64))
    found = _batched(tf.data.Dataset.from_generator(batches, output_signature=signature), load, store, targets)
    if policy is not None:
        # One at a time: the policies draw from one random state, and the order of the draws must not change.
        found = found.map(lambda images, labels, _: _mixed(policy, images, labels, targets), num_parallel_calls=1)
    return found.prefetch(4)


def _mixed(policy: BatchPolicy, images, labels, targets: Targets):  # type: ignore[no-untyped-def]
    images, labels = policy(images, labels)
    fractions = labels if len(targets.weights) > 2 else tf.concat([1 - labels, labels], axis=1)
    return tf.clip_by_value(images, 0, 255), labels, tf.linalg.matvec(fractions, tf.constant(targets.weights))


def plain_batches(store: PatchStore, rows: np.ndarray, batch_size: int, targets: Targets) -> tf.data.Dataset:
    """The given rows once, in their order, not augmented; the same form as `training_batches`."""

    def load(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ids = store.class_ids[batch]
        return _fetch(store, batch).astype(np.float32), ids.astype(np.int32), targets.weights[ids]

    batches = tf.data.Dataset.from_tensor_slices(np.asarray(rows, dtype=np.int64)).batch(batch_size)
    return _batched(batches, load, store, targets).prefetch(4)


def _fetch(store: PatchStore, rows: np.ndarray) -> np.ndarray:
    # In the file's order, so that a cold store is read forwards.
    order = np.argsort(rows, kind="stable")
    patches = np.empty((len(rows), *store.patches.shape[1:]), dtype=np.uint8)
    patches[order] = store.patches[rows[order]]
    return patches


def _batched(source: tf.data.Dataset, load, store: PatchStore, targets: Targets) -> tf.data.Dataset:  # type: ignore[no-untyped-def]
    height, width = store.patches.shape[1:3]
    n_classes = len(targets.weights)

    def to_tensors(*arguments):  # type: ignore[no-untyped-def]
        images, ids, weights = tf.numpy_function(load, arguments, (tf.float32, tf.int32, tf.float32))
        images.set_shape((None, height, width, 3))
        ids.set_shape((None,))
        weights.set_shape((None,))
        if not targets.soft:
            return images, ids, weights
        labels = tf.cast(ids[:, None], tf.float32) if n_classes == 2 else tf.one_hot(ids, n_classes)
        return images, labels, weights

    return source.map(to_tensors, num_parallel_calls=2, deterministic=True)
