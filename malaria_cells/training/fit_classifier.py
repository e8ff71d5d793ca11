"""Trains one patch classifier: patches in, fitted network and its history out."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.config import Config
from malaria_cells.data.augment import make_augmenter, make_batch_policy
from malaria_cells.data.partial_labels import Sets, allowed_classes, split_counts, stand_ins
from malaria_cells.data.patches import PatchStore
from malaria_cells.data.pipeline import Sampler, Targets, class_weights, plain_batches, row_fractions, training_batches
from malaria_cells.fitting.callbacks import MONITOR, LearningRate, ProgressLines, ReseedDropout, StateCheckpoint
from malaria_cells.fitting.fit import fit
from malaria_cells.fitting.metrics import MacroF1
from malaria_cells.fitting.normalization import adapt_normalization
from malaria_cells.fitting.partial_loss import PartialLabelAccuracy
from malaria_cells.fitting.recipe import make_loss, make_optimizer, needs_soft_labels
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.classifier import BATCH, Cascade
from malaria_cells.inference.tta import Refinement
from malaria_cells.models import build_classifier


@dataclass(frozen=True)
class Trained:
    """A fitted network.

    Attributes:
        model: the network with the weights of its best epoch.
        history: one row of metrics per epoch.
        best_epoch: index of the best epoch.
        training_prior: float (n_classes,), effective fraction of each class in training, by count times weight; patches whose label
            stands for several classes are divided among these in proportion.
    """

    model: keras.Model
    history: list[dict[str, float]]
    best_epoch: int
    training_prior: np.ndarray


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


def train_classifier(data: TrainingData, config: Config, run: RunState, start: keras.Model | None = None) -> Trained:
    """Train the network that the config names.

    Args:
        data: patches to train and to validate on.
        config: the recipe.
        run: state of the run; epochs that it already holds are not run again.
        start: network of the same architecture whose weights the training starts from; None: the weights that the config names.

    Returns:
        The network with the weights of its best epoch.

    Raises:
        InputError: the loss became NaN or infinite.
    """
    keras.utils.set_random_seed(config.random_state)
    keras.mixed_precision.set_global_policy(config.precision)
    store, train_rows, allowed = data.store, data.train_rows, data.allowed
    train_ids, counted_as = store.class_ids[train_rows], data.counted_as
    sampler, fractions = _sampler(data, config)
    balanced = class_weights(counted_as, data.n_classes, sampler.weights)[data.stand_ins]
    training_prior = split_counts(np.bincount(train_ids, fractions, len(allowed)), allowed)
    model = _compiled_model(config, allowed, sampler.steps_per_epoch, _prior_ratio(train_ids, allowed, training_prior))
    first_epoch = len(run.history)
    if first_epoch:
        model.optimizer.build(model.trainable_variables)
        model.load_weights(run.weights)
    elif start is not None:
        model.set_weights(start.get_weights())
    elif _adapts_normalization(config):
        adapt_normalization(model, store, train_rows, Path(config.patch_cache))
    if first_epoch < config.epochs and not run.stopped:
        loss_weights = balanced if config.balance == "class_weight" else np.ones_like(balanced)
        policy = make_batch_policy(config.augmentation, config.image_size, config.random_state)
        soft = needs_soft_labels(config, partial=bool(data.sets))
        augment = make_augmenter(config.augmentation)
        # With these weights each class has the same influence on `val_loss` as on `loss`.
        by_class = np.bincount(counted_as, fractions, data.n_classes) / np.maximum(_class_fractions(counted_as, data.n_classes), 1e-9)
        validation_targets = Targets(by_class.astype(np.float32)[data.stand_ins], soft)
        batches = training_batches(store, sampler, Targets(loss_weights, soft), augment, first_epoch, policy)
        fit(
            model,
            batches,
            **_validation(data, validation_targets, config),
            epochs=config.epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=sampler.steps_per_epoch,
            callbacks=_callbacks(config, run, sampler.steps_per_epoch),
        )
    if run.best_epoch is None or not np.isfinite(run.history[-1]["loss"]):
        raise InputError(
            f"the loss became {run.history[-1]['loss'] if run.history else 'NaN'}; lower `learning_rate` ({config.learning_rate})"
        )
    model.load_weights(run.best_weights)
    return Trained(model, run.history, run.best_epoch, training_prior)


def predict_rows(
    cascade: Cascade,
    store: PatchStore,
    rows: np.ndarray,
    views: int,
    is_infected: np.ndarray,
    refiner_store: PatchStore | None = None,
) -> np.ndarray:
    """Predict uncalibrated class probabilities of rows of a store.

    Args:
        cascade: the classifier and, if there is one, the refiner.
        store: the patches.
        rows: int64 (n,).
        views: number of views averaged for each uncertain patch (test-time augmentation).
        is_infected: bool (n_classes,), see `tta.Refinement.needed`.
        refiner_store: see `TrainingData`.

    Returns:
        float32 (n, n_classes), in the order of `rows`.
    """
    parts = []
    for batch in (rows[i : i + BATCH] for i in range(0, len(rows), BATCH)):
        crop_for_refiner = None if refiner_store is None else partial(_patches, refiner_store, batch)
        parts.append(cascade.raw_probabilities(np.asarray(store.patches[batch]), views, is_infected, crop_for_refiner))
    return np.concatenate(parts) if parts else np.zeros((0, len(is_infected)), dtype=np.float32)


def _patches(store: PatchStore, batch: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.asarray(store.patches[batch[rows]])


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


def _compiled_model(config: Config, allowed: np.ndarray, steps: int, prior_ratio: list[float]) -> keras.Model:
    n_classes = allowed.shape[1]
    n_sets = len(allowed) - n_classes
    model = build_classifier(config.model, config.image_size, n_classes, config.dropout, config.weights or "none", config.freeze)
    model.compile(
        optimizer=make_optimizer(config, steps),
        loss=make_loss(config, n_classes, allowed),
        metrics=[PartialLabelAccuracy(allowed.tolist()) if n_sets else "accuracy", MacroF1(n_classes, prior_ratio, n_sets=n_sets)],
        weighted_metrics=[],
    )
    return model


def _callbacks(config: Config, run: RunState, steps: int) -> list[keras.callbacks.Callback]:
    stateful: list[keras.callbacks.Callback] = []
    if config.schedule == "plateau":
        stateful.append(
            keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=config.plateau_factor, patience=config.plateau_patience)
        )
    if config.early_stopping:
        stateful.append(keras.callbacks.EarlyStopping(monitor=MONITOR, mode="max", patience=config.early_stopping))
    record = StateCheckpoint(run, stateful, config.keep_checkpoints, keep_last=config.kept_weights == "last")
    loggers: list[keras.callbacks.Callback] = [LearningRate(), record]
    if config.tensorboard:
        loggers.append(keras.callbacks.TensorBoard(run.tensorboard, histogram_freq=1, write_graph=False))
    return [ReseedDropout(config.random_state), keras.callbacks.TerminateOnNaN(), *stateful, *loggers, ProgressLines(config.epochs, steps)]


def _validation(data: TrainingData, targets: Targets, config: Config) -> dict[str, Any]:
    """Return `fit`'s arguments for validation; empty if epochs are not compared."""
    if data.validation_rows is None:
        return {}
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


def _adapts_normalization(config: Config) -> bool:
    """Whether normalization layers take mean and variance from the data; pretrained weights bring their own."""
    if config.adapt_normalization is None:
        return config.weights in (None, "none")
    return config.adapt_normalization


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
