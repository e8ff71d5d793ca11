"""Trains one patch classifier: patches in, fitted network and its history out."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.config import Config
from malaria_cells.data.patch_store import PatchStore
from malaria_cells.fitting.callbacks import MONITOR, LearningRate, ProgressLines, ReseedDropout, StateCheckpoint
from malaria_cells.fitting.devices import strategy_of
from malaria_cells.fitting.first_step import build_optimizer
from malaria_cells.fitting.fit import fit
from malaria_cells.fitting.metrics import MacroF1
from malaria_cells.fitting.normalization import adapt_normalization
from malaria_cells.fitting.partial_loss import PartialLabelAccuracy
from malaria_cells.fitting.recipe import make_loss, make_optimizer
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.classifier import BATCH, Cascade
from malaria_cells.models import build_classifier
from malaria_cells.training.classifier_data import Balance, TrainingData, batches, validation


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
        InputError: the loss became NaN or infinite, or the batches cannot be divided among the devices (`strategy_of`).
    """
    keras.utils.set_random_seed(config.random_state)
    keras.mixed_precision.set_global_policy(config.precision)
    balance = Balance.of(data, config)
    steps = balance.sampler.steps_per_epoch
    compiled = partial(_compiled_model, config, data.allowed, steps, balance.prior_ratio)
    strategy, first_epoch = strategy_of(config), len(run.history)
    with strategy.scope():
        model = compiled()
    if first_epoch:
        _load(model, run.weights)
    elif start is not None:
        model.set_weights(start.get_weights())
    elif _adapts_normalization(config):
        adapt_normalization(model, data.store, data.train_rows, Path(config.patch_cache))
    if first_epoch < config.epochs and not run.stopped:
        fit(
            model,
            batches(data, balance, config, first_epoch, strategy.num_replicas_in_sync),
            **validation(data, balance, config),
            epochs=config.epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=steps,
            callbacks=_callbacks(config, run, steps),
        )
    if run.best_epoch is None or not np.isfinite(run.history[-1]["loss"]):
        raise InputError(
            f"the loss became {run.history[-1]['loss'] if run.history else 'NaN'}; lower `learning_rate` ({config.learning_rate})"
        )
    if strategy.num_replicas_in_sync > 1:
        model = compiled()  # on one device, as what uses it expects
    _load(model, run.best_weights)
    return Trained(model, run.history, run.best_epoch, balance.training_prior)


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


def _load(model: keras.Model, weights: Path) -> None:
    """Load weights and the state of the optimizer, which has to be built first."""
    build_optimizer(model)
    model.load_weights(weights)


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


def _adapts_normalization(config: Config) -> bool:
    """Whether normalization layers take mean and variance from the data; pretrained weights bring their own."""
    if config.adapt_normalization is None:
        return config.weights in (None, "none")
    return config.adapt_normalization
