"""Training batches from a `PatchStore`: tf.data of (patches, class ids, weights).

The patches of a batch and their augmentation depend only on the seed, the epoch and the batch's number. So a resumed run sees the same
batches as an uninterrupted one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from malaria_cells.data.augment import Augmenter, SeededPolicy
from malaria_cells.data.patch_store import PatchStore


@dataclass(frozen=True)
class Sampler:
    """Samples the rows of each batch of each epoch.

    Attributes:
        rows: int64 (n,), rows of the store to train on.
        class_ids: int64 (n,), class ids, or other strata, by which the rows are sampled.
        batch_size: rows per batch.
        steps: batches per epoch; None: as many as cover every row once.
        power: sample classes in proportion to their count to this power (see `class_fractions`); None: every row once an epoch, shuffled.
        seed: seed of the sampling.
        weights: float (n,), sampling frequency of a row relative to others of its class; None: all equal.
        strata: int (n,), data set of each row. With a `power`, the data sets within a class are sampled in proportion to their counts
            to this power, as the classes are. None: there is one data set.
        multiple: number that the size of every batch is a multiple of; a shorter last batch is filled up with its own first rows.
    """

    rows: np.ndarray
    class_ids: np.ndarray
    batch_size: int
    steps: int | None
    power: float | None
    seed: int
    weights: np.ndarray | None = None
    strata: np.ndarray | None = None
    multiple: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return self.steps or -(-len(self.rows) // self.batch_size)

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        """Rows of each batch of one epoch: int64 (batch_size,) each; the last may be shorter."""
        rng = np.random.default_rng([self.seed, epoch])
        order = self._shuffled_order(rng) if self.power is None else self._drawn_order(rng, self.power)
        for step in range(self.steps_per_epoch):
            batch = self.rows[order[step * self.batch_size : (step + 1) * self.batch_size]]
            yield np.resize(batch, -(-len(batch) // self.multiple) * self.multiple)

    def _shuffled_order(self, rng: np.random.Generator) -> np.ndarray:
        members = np.arange(len(self.rows))
        total = len(members) if self.steps is None else self.steps * self.batch_size
        return _draw(members, self.weights, total, rng)

    def _drawn_order(self, rng: np.random.Generator, power: float) -> np.ndarray:
        total = self.steps_per_epoch * self.batch_size
        groups, fractions = _groups(self.class_ids, power, self.weights, self.strata)
        ends = np.rint(np.cumsum(fractions) * total).astype(np.int64)  # each group's count is its fraction of the total, to within one
        drawn = rng.permutation(np.repeat(np.arange(len(fractions)), np.diff(ends, prepend=0)))
        order = np.empty(total, dtype=np.int64)
        for c in np.flatnonzero(fractions):
            positions = np.flatnonzero(drawn == c)
            order[positions] = _draw(np.flatnonzero(groups == c), self.weights, len(positions), rng)
        return order


def _draw(members: np.ndarray, weights: np.ndarray | None, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` of `members` in random order, each in proportion to its weight, to within one."""
    member_weights = None if weights is None else weights[members]
    if member_weights is None or (member_weights == member_weights[0]).all():
        rounds = range(0, count, len(members))
        return np.concatenate([members[:0], *(rng.permutation(members) for _ in rounds)])[:count]
    shuffled = rng.permutation(len(members))
    # systematic sampling
    ends = np.floor(np.cumsum(member_weights[shuffled] / member_weights.sum()) * count + rng.random()).astype(np.int64)
    ends[-1] = count
    return rng.permutation(np.repeat(members[shuffled], np.diff(np.minimum(ends, count), prepend=0)))


def _groups(class_ids: np.ndarray, power: float, weights: np.ndarray | None, strata: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The group of each row, by its class and data set, int (n,), and the sampled fraction of each group, float (n_groups,)."""
    fractions_of_classes = class_fractions(np.bincount(class_ids, weights), power)
    if strata is None:
        return class_ids, fractions_of_classes
    n_strata = int(strata.max()) + 1
    groups = class_ids * n_strata + strata
    counts = np.bincount(groups, weights, minlength=len(fractions_of_classes) * n_strata).reshape(-1, n_strata)
    within = [class_fractions(row, power) if row.any() else np.zeros(n_strata) for row in counts]
    return groups, (fractions_of_classes[:, None] * np.array(within)).ravel()


def row_fractions(class_ids: np.ndarray, power: float, weights: np.ndarray | None = None, strata: np.ndarray | None = None) -> np.ndarray:
    """Fraction of each row among those that a `Sampler` draws: float (n,), sums to 1."""
    groups, fractions = _groups(class_ids, power, weights, strata)
    per_row = fractions / np.maximum(np.bincount(groups, weights, minlength=len(fractions)), np.finfo(np.float64).tiny)
    return per_row[groups] if weights is None else per_row[groups] * weights


def class_fractions(counts: np.ndarray, power: float) -> np.ndarray:
    """Sampled fraction of each class, proportional to its count to a power (Kang et al. 2020, arXiv:1910.09217, equation 1).

    Args:
        counts: (n_classes,), counts or sums of weights.
        power: 0: all classes that occur equally often; 1: natural frequencies.

    Returns:
        float (n_classes,), sums to 1; 0 for absent classes.
    """
    powers = np.where(counts > 0, counts.astype(np.float64) ** power, 0)
    return powers / powers.sum()


def class_weights(class_ids: np.ndarray, n_classes: int, drawn: np.ndarray | None = None) -> np.ndarray:
    """Balanced class weights (scikit-learn's n / (k * n_c)): float32 (n_classes,); 1 for absent classes.

    Args:
        class_ids: int (n,).
        n_classes: number of classes.
        drawn: float (n,), relative sampling frequency of each row; None: all equal.
    """
    counts = np.bincount(class_ids, drawn, minlength=n_classes).astype(np.float64)
    balanced = counts.sum() / (np.count_nonzero(counts) * np.where(counts > 0, counts, 1))
    return np.where(counts > 0, balanced, 1).astype(np.float32)


@dataclass(frozen=True)
class Targets:
    """Format of the labels and weights of a batch.

    Attributes:
        weights: float32 (n_classes,), weight of each class; with partial labels, followed by the weight of each set of classes.
        soft: whether labels are fractions of classes (and sets), float32 (b, n_classes), or (b, 1) for two classes; otherwise they are
            class ids, int32 (b,). Label smoothing, focal losses, mixing augmentations and partial labels need soft labels.
    """

    weights: np.ndarray
    soft: bool = False


def training_batches(
    store: PatchStore, sampler: Sampler, targets: Targets, augment: Augmenter, first_epoch: int, policy: SeededPolicy | None = None
) -> tf.data.Dataset:
    """Infinite data set of augmented batches, starting with epoch `first_epoch`.

    Args:
        store: the patches.
        sampler: sampler of the rows of each batch.
        targets: format of labels and weights; a `policy` needs soft labels.
        augment: augmentation of uint8 batches.
        first_epoch: first epoch.
        policy: augmentation of batches of tensors, applied after `augment`.

    Returns:
        Dataset of (float32 (b, H, W, 3) in 0..255, labels, float32 (b,) weights).
    """

    def batches() -> Iterator[tuple[np.ndarray, int]]:
        epoch = first_epoch
        while True:
            for step, rows in enumerate(sampler.batches(epoch)):
                yield rows, _batch_seed(sampler.seed, epoch, step)
            epoch += 1

    def load(rows: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        patches = augment(_fetch(store, rows), int(seed))
        ids = store.class_ids[rows]
        return patches.astype(np.float32), ids.astype(np.int32), targets.weights[ids]

    signature = (tf.TensorSpec((None,), tf.int64), tf.TensorSpec((), tf.int64))
    data_set = _batched(tf.data.Dataset.from_generator(batches, output_signature=signature), load, store, targets)
    if policy is not None:
        steps = sampler.steps_per_epoch
        seeds = tf.data.Dataset.counter().map(lambda n: _batch_seed(sampler.seed, first_epoch + n // steps, n % steps))
        # Not in parallel: the policies share one random state, and the order of its draws must not change.
        data_set = tf.data.Dataset.zip(data_set, seeds).map(
            lambda batch, seed: _mixed(policy, batch[0], batch[1], seed, targets), num_parallel_calls=1
        )
    return data_set.prefetch(4)


def _batch_seed(seed: int, epoch: Any, step: Any) -> Any:
    return (seed * 1_000_003 + epoch * 10_007 + step) % 2**31


def _mixed(
    policy: SeededPolicy, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, targets: Targets
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    images, labels = policy(images, labels, seed)
    fractions = labels if len(targets.weights) > 2 else tf.concat([1 - labels, labels], axis=1)
    return tf.clip_by_value(images, 0, 255), labels, tf.linalg.matvec(fractions, tf.constant(targets.weights))


def plain_batches(store: PatchStore, rows: np.ndarray, batch_size: int, targets: Targets) -> tf.data.Dataset:
    """The given rows once, in order, without augmentation; the batches have the format of `training_batches`."""

    def load(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ids = store.class_ids[batch]
        return _fetch(store, batch).astype(np.float32), ids.astype(np.int32), targets.weights[ids]

    batches = tf.data.Dataset.from_tensor_slices(np.asarray(rows, dtype=np.int64)).batch(batch_size)
    return _batched(batches, load, store, targets).prefetch(4)


def _fetch(store: PatchStore, rows: np.ndarray) -> np.ndarray:
    # Read in the file's order, so that a store that is not cached is read sequentially.
    order = np.argsort(rows, kind="stable")
    patches = np.empty((len(rows), *store.patches.shape[1:]), dtype=np.uint8)
    patches[order] = store.patches[rows[order]]
    return patches


def _batched(source: tf.data.Dataset, load: Callable[..., tuple[np.ndarray, ...]], store: PatchStore, targets: Targets) -> tf.data.Dataset:
    height, width = store.patches.shape[1:3]
    n_classes = len(targets.weights)

    def to_tensors(*arguments: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        images, ids, weights = tf.numpy_function(load, arguments, (tf.float32, tf.int32, tf.float32))
        images.set_shape((None, height, width, 3))
        ids.set_shape((None,))
        weights.set_shape((None,))
        if not targets.soft:
            return images, ids, weights
        labels = tf.cast(ids[:, None], tf.float32) if n_classes == 2 else tf.one_hot(ids, n_classes)
        return images, labels, weights

    return source.map(to_tensors, num_parallel_calls=2, deterministic=True)
