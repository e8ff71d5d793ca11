"""What a classifier is trained and validated on: patches, how classes are balanced, and batches."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import tensorflow as tf

from malaria_cells.config import Config
from malaria_cells.data.augment import make_augmenter, make_batch_policy
from malaria_cells.data.partial_labels import Sets, allowed_classes, split_counts, stand_ins
from malaria_cells.data.patch_store import PatchStore
from malaria_cells.data.pipeline import Sampler, Targets, class_weights, plain_batches, row_fractions, training_batches
from malaria_cells.fitting.recipe import needs_soft_labels
from malaria_cells.inference.tta import Refinement


@dataclass(frozen=True)
class TrainingData:
    """Patches and their division into training and validation rows.

    Attributes:
        store: the patches.
        train_rows: int64 (n,), rows to train on.
        validation_rows: int64 (m,), rows to compare epochs on; None: epochs are not compared (`kept_weights` is last).
        n_classes: number of classes, including the background class.
        sampling_groups: int64 (n,), group of each training row for balanced sampling; None: `drawn_by_label`.
        refiner_store: the same rows with patches of the refiner's input size; None: its size is the classifier's.
        refinement: which patches the refiner is given.
    """

    store: PatchStore
    train_rows: np.ndarray
    validation_rows: np.ndarray | None
    n_classes: int
    sampling_groups: np.ndarray | None = None
    refiner_store: PatchStore | None = None
    refinement: Refinement = field(default=Refinement())

    @property
    def sets(self) -> Sets:
        """Sets of classes that a label may stand for; empty without a background class, and for two classes or fewer."""
        return self.store.sets if self.n_classes > max(self.store.n_labels, 2) else ()

    @property
    def allowed(self) -> np.ndarray:
        """The classes that each label may mean: bool (n_classes + n_sets, n_classes)."""
        return allowed_classes(self.sets, self.n_classes)

    @property
    def stand_ins(self) -> np.ndarray:
        """The class by which each label is sampled and weighted: int64 (n_classes + n_sets,)."""
        return stand_ins(self.store.class_ids[self.train_rows], self.allowed, self.store.n_labels)

    @property
    def counted_as(self) -> np.ndarray:
        """The class by which each training row is sampled and weighted: int64 (n,)."""
        return self.stand_ins[self.store.class_ids[self.train_rows]]

    @property
    def drawn_by_label(self) -> np.ndarray:
        """The group of each training row for balanced sampling: int64 (n,).

        The group is `counted_as`, except for a label that stands for several classes without background: it is a group of its own
        (``n_classes + 1 + k``), since it would otherwise displace cells that are known to be of the most common of these classes.
        """
        ids = self.store.class_ids[self.train_rows]
        group_ids = np.arange(len(self.allowed)) + 1
        is_separate = (group_ids > self.n_classes) & ~self.allowed[:, -1]
        return np.where(is_separate[ids], group_ids[ids], self.counted_as)


@dataclass(frozen=True)
class Balance:
    """How a training balances the classes.

    Attributes:
        sampler: draws the training rows.
        class_weights: weight of each label in the loss with `balance: class_weight`, float32 (n_classes + n_sets,).
        validation_weights: weight of each label in ``val_loss``, by which each class has the same influence on it as on ``loss``.
        training_prior: see `Trained`.
        prior_ratio: fraction of each class in the images divided by its fraction in training.
    """

    sampler: Sampler
    class_weights: np.ndarray
    validation_weights: np.ndarray
    training_prior: np.ndarray
    prior_ratio: list[float]

    @classmethod
    def of(cls, data: TrainingData, config: Config) -> Self:
        """The balance that a config asks for."""
        allowed, counted_as = data.allowed, data.counted_as
        ids = data.store.class_ids[data.train_rows]
        sampler, fractions = _sampler(data, config)
        prior = split_counts(np.bincount(ids, fractions, len(allowed)), allowed)
        by_class = np.bincount(counted_as, fractions, data.n_classes) / np.maximum(_class_fractions(counted_as, data.n_classes), 1e-9)
        return cls(
            sampler,
            class_weights(counted_as, data.n_classes, sampler.weights)[data.stand_ins],
            by_class.astype(np.float32)[data.stand_ins],
            prior,
            _prior_ratio(ids, allowed, prior),
        )


def batches(data: TrainingData, balance: Balance, config: Config, first_epoch: int, n_devices: int = 1) -> tf.data.Dataset:
    """Training batches from an epoch on, whose sizes are multiples of `n_devices`."""
    weights = balance.class_weights if config.balance == "class_weight" else np.ones_like(balance.class_weights)
    targets = Targets(weights, needs_soft_labels(config, partial=bool(data.sets)))
    policy = make_batch_policy(config.augmentation, config.image_size, config.random_state)
    sampler = replace(balance.sampler, multiple=n_devices)
    return training_batches(data.store, sampler, targets, make_augmenter(config.augmentation), first_epoch, policy)


def validation(data: TrainingData, balance: Balance, config: Config) -> dict[str, Any]:
    """Return `fit`'s arguments for validation; empty if epochs are not compared."""
    if data.validation_rows is None:
        return {}
    targets = Targets(balance.validation_weights, needs_soft_labels(config, partial=bool(data.sets)))
    size, rows = config.batch_size * 4, data.validation_rows
    if config.validation_steps and config.validation_steps * size < len(rows):
        rows = _spread(rows, data.store.class_ids[rows], config.validation_steps * size, config.random_state)
    return {"validation_data": plain_batches(data.store, rows, size, targets)}


def _spread(rows: np.ndarray, class_ids: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw a stratified sample of `count` rows; the number per class is proportional to within one row, and the order is kept."""
    rng = np.random.default_rng(seed)
    by_class = np.lexsort((rng.random(len(rows)), class_ids))
    positions = (np.arange(count) + rng.random()) * len(rows) / count
    return rows[np.sort(by_class[positions.astype(np.int64)])]


def _sampler(data: TrainingData, config: Config) -> tuple[Sampler, np.ndarray]:
    """Return the sampler of training rows, and the expected fraction of each row, by count times weight, float (n,)."""
    store, rows = data.store, data.train_rows
    # Class weights give all classes the same fraction, as a sampling power of 0 does.
    power = {"sampling": config.sampling_power, "class_weight": 0.0, "none": 1.0}[config.balance]
    by_class = config.balance == "sampling"
    sampling_groups = data.counted_as
    if by_class:
        sampling_groups = data.drawn_by_label if data.sampling_groups is None else data.sampling_groups
    weights = _row_weights(store, rows)
    strata = store.image_sets[store.image_ids[rows]] if by_class and store.image_sets is not None else None
    sampler = Sampler(
        rows, sampling_groups, config.batch_size, config.steps_per_epoch, power if by_class else None, config.random_state, weights, strata
    )
    return sampler, row_fractions(sampling_groups, power, weights, strata)


def _class_fractions(class_ids: np.ndarray, n_classes: int) -> np.ndarray:
    return np.bincount(class_ids, minlength=n_classes) / len(class_ids)


def _prior_ratio(class_ids: np.ndarray, allowed: np.ndarray, training_prior: np.ndarray) -> list[float]:
    deployment_prior = split_counts(_class_fractions(class_ids, len(allowed)), allowed)
    return [
        float(deployment / training) if training else 1.0 for deployment, training in zip(deployment_prior, training_prior, strict=True)
    ]


def _row_weights(store: PatchStore, rows: np.ndarray) -> np.ndarray | None:
    """Return relative sampling weights of rows: float64 (n,); None: all are equal."""
    weights = store.image_weights
    return None if weights is None or (weights == weights[0]).all() else weights[store.image_ids[rows]]
