"""Trains the patch classifier: store and parts in, fitted network and its history out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from malaria_cells.augment import make_augmenter, make_batch_policy
from malaria_cells.classifier import BATCH, Network, raw_probabilities
from malaria_cells.config import Config
from malaria_cells.errors import InputError
from malaria_cells.models import build_classifier
from malaria_cells.patches import PatchStore
from malaria_cells.pipeline import Sampler, Targets, class_shares, class_weights, plain_batches, training_batches
from malaria_cells.training.callbacks import MONITOR, LearningRate, Lines, Record, SeededPasses
from malaria_cells.training.fit import fit
from malaria_cells.training.metrics import MacroF1
from malaria_cells.training.normalization import adapt_normalization
from malaria_cells.training.recipe import make_loss, make_optimizer, needs_soft_labels
from malaria_cells.training.unfinished import UnfinishedRun


@dataclass(frozen=True)
class Trained:
    """A fitted network.

    Attributes:
        model: with the weights of its best pass.
        history: one row of figures a pass.
        best_epoch: index of the best pass.
        shown_shares: float (n_classes,), share of each class in what training showed, by count times weight.
    """

    model: keras.Model
    history: list[dict[str, float]]
    best_epoch: int
    shown_shares: np.ndarray


@dataclass(frozen=True)
class TrainingData:
    """Patches, and what they are for.

    Attributes:
        store: the patches.
        train_rows: int64 (n,), rows to fit to.
        validation_rows: int64 (m,), rows to compare passes on; None: with `kept_weights` as last there is nothing to compare.
        n_classes: number of classes, the reject class counted.
        drawn_as: int64 (n,), what counts as a class where rows to fit to are drawn by class; None: their classes.
        closer: the same rows in the size of a second look; None: in that of the first.
    """

    store: PatchStore
    train_rows: np.ndarray
    validation_rows: np.ndarray | None
    n_classes: int
    drawn_as: np.ndarray | None = None
    closer: PatchStore | None = None


def train_classifier(data: TrainingData, config: Config, run: UnfinishedRun, start: keras.Model | None = None) -> Trained:
    """Fit the network that the config names.

    Args:
        data: to fit to and to compare on.
        config: the recipe.
        run: record of the run; passes that it already holds are not run again.
        start: network of the same kind whose weights are where to begin; None: those that the config names.

    Raises:
        InputError: the training did not end in numbers.
    """
    keras.utils.set_random_seed(config.random_state)
    keras.mixed_precision.set_global_policy(config.precision)
    store, train_rows, n_classes = data.store, data.train_rows, data.n_classes
    train_ids = store.class_ids[train_rows]
    balanced = class_weights(train_ids, n_classes)
    ones = np.ones(n_classes, dtype=np.float32)
    # What the network is shown of each class, by number times weight: class weights make it equal, as a power of 0 does.
    power = {"sampling": config.sampling_power, "class_weight": 0.0, "none": 1.0}[config.balance]
    drawn_by = power if config.balance == "sampling" else None
    drawn_as = train_ids if data.drawn_as is None or drawn_by is None else data.drawn_as
    counts = np.bincount(drawn_as, minlength=n_classes)
    of_each = class_shares(counts, power) / np.maximum(counts, 1)
    shown = np.bincount(train_ids, weights=of_each[drawn_as], minlength=n_classes)
    sampler = Sampler(train_rows, drawn_as, config.batch_size, config.steps_per_epoch, drawn_by, config.random_state)
    model = _compiled_model(config, n_classes, sampler.steps_per_epoch, _prior_ratio(train_ids, shown))
    first_epoch = len(run.history)
    if first_epoch:
        model.optimizer.build(model.trainable_variables)
        model.load_weights(run.weights)
    elif start is not None:
        model.set_weights(start.get_weights())
    elif _adapts_normalization(config):
        adapt_normalization(model, store, train_rows, Path(config.patch_cache))
    if first_epoch < config.epochs and not run.stopped:
        shown_weights = balanced if config.balance == "class_weight" else ones
        policy = make_batch_policy(config.augmentation, config.image_size, config.random_state)
        soft = needs_soft_labels(config)
        augment = make_augmenter(config.augmentation)
        # Weighted so, each class has the share in `val_loss` that it has in `loss`.
        compared = Targets((shown / np.maximum(_shares(train_ids, n_classes), 1e-9)).astype(np.float32), soft)
        batches = training_batches(store, sampler, Targets(shown_weights, soft), augment, first_epoch, policy)
        fit(
            model,
            batches,
            **_validation(data, compared, config),
            epochs=config.epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=sampler.steps_per_epoch,
            callbacks=_callbacks(config, run, sampler.steps_per_epoch),
        )
    if run.best_epoch is None or not np.isfinite(run.history[-1]["loss"]):
        raise InputError(
            f"the loss became {run.history[-1]['loss'] if run.history else 'no number'}; lower `learning_rate` ({config.learning_rate})"
        )
    model.load_weights(run.best_weights)
    return Trained(model, run.history, run.best_epoch, shown)


def predict_rows(
    networks: Sequence[Network], store: PatchStore, rows: np.ndarray, views: int, is_finding: np.ndarray, closer: PatchStore | None = None
) -> np.ndarray:
    """Class probabilities of rows of a store as networks give them, not calibrated: float32 (n, n_classes), in their order.

    Args:
        networks: for the first look and, if there is one, the second (see `classifier.compiled`).
        store: the patches.
        rows: int64 (n,).
        views: averaged for each patch that is suspect.
        is_finding: bool (n_classes,), see `tta.suspect`.
        closer: see `TrainingData`.
    """
    first, second = networks[0], networks[1] if len(networks) > 1 else None
    parts = []
    for batch in (rows[i : i + BATCH] for i in range(0, len(rows), BATCH)):
        again = None if closer is None else partial(_patches, closer, batch)
        parts.append(raw_probabilities(first, second, np.asarray(store.patches[batch]), views, is_finding, again))
    return np.concatenate(parts) if parts else np.zeros((0, len(is_finding)), dtype=np.float32)


def _patches(store: PatchStore, batch: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.asarray(store.patches[batch[rows]])


def _compiled_model(config: Config, n_classes: int, steps: int, prior_ratio: list[float]) -> keras.Model:
    model = build_classifier(config.model, config.image_size, n_classes, config.dropout, config.weights or "none", config.freeze)
    model.compile(
        optimizer=make_optimizer(config, steps),
        loss=make_loss(config, n_classes),
        metrics=["accuracy", MacroF1(n_classes, prior_ratio)],
        weighted_metrics=[],
    )
    return model


def _callbacks(config: Config, run: UnfinishedRun, steps: int) -> list[keras.callbacks.Callback]:
    followers: list[keras.callbacks.Callback] = []
    if config.schedule == "plateau":
        followers.append(
            keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=config.plateau_factor, patience=config.plateau_patience)
        )
    if config.early_stopping:
        followers.append(keras.callbacks.EarlyStopping(monitor=MONITOR, mode="max", patience=config.early_stopping))
    record = Record(run, followers, config.keep_checkpoints, keep_last=config.kept_weights == "last")
    watchers: list[keras.callbacks.Callback] = [LearningRate(), record]
    if config.tensorboard:
        watchers.append(keras.callbacks.TensorBoard(run.tensorboard, histogram_freq=1, write_graph=False))
    return [SeededPasses(config.random_state), keras.callbacks.TerminateOnNaN(), *followers, *watchers, Lines(config.epochs, steps)]


def _validation(data: TrainingData, targets: Targets, config: Config) -> dict[str, Any]:
    """What `fit` is told of the validation patches; nothing where there are none to compare passes on."""
    if data.validation_rows is None:
        return {}
    size, rows = config.batch_size * 4, data.validation_rows
    if config.validation_steps and config.validation_steps * size < len(rows):
        rows = _spread(rows, data.store.class_ids[rows], config.validation_steps * size, config.random_state)
    return {"validation_data": plain_batches(data.store, rows, size, targets)}


def _spread(rows: np.ndarray, class_ids: np.ndarray, wanted: int, seed: int) -> np.ndarray:
    """Draw some of the rows, of each class its share to within one; in their old order."""
    rng = np.random.default_rng(seed)
    by_class = np.lexsort((rng.random(len(rows)), class_ids))
    places = (np.arange(wanted) + rng.random()) * len(rows) / wanted
    return rows[np.sort(by_class[places.astype(np.int64)])]


def _adapts_normalization(config: Config) -> bool:
    """Whether mean and variance are the data's; pretrained weights come with those that they were trained under."""
    if config.adapt_normalization is None:
        return config.weights in (None, "none")
    return config.adapt_normalization


def _shares(class_ids: np.ndarray, n_classes: int) -> np.ndarray:
    return np.bincount(class_ids, minlength=n_classes) / len(class_ids)


def _prior_ratio(class_ids: np.ndarray, shown: np.ndarray) -> list[float]:
    return [float(life / seen) if seen else 1.0 for life, seen in zip(_shares(class_ids, len(shown)), shown, strict=True)]
