"""Loss and optimizer of a config."""

import keras
import numpy as np

from malaria_cells.config import Config
from malaria_cells.data import augment
from malaria_cells.fitting.partial_loss import PartialLabelCrossentropy


def needs_soft_labels(config: Config, partial: bool = False) -> bool:
    """Whether the loss needs soft labels instead of class ids, as with partial labels (`partial`)."""
    return partial or config.loss == "focal" or config.label_smoothing > 0 or augment.needs_soft_labels(config.augmentation)


def make_loss(config: Config, n_classes: int, allowed: np.ndarray | None = None) -> keras.losses.Loss:
    """Return the loss for soft labels or class ids, as told by `needs_soft_labels`.

    Args:
        config: the configuration.
        n_classes: number of classes; two classes are predicted by one sigmoid unit.
        allowed: bool (n_labels, n_classes) from `partial_labels.allowed_classes` if there are partial labels, otherwise None.
    """
    smoothing = config.label_smoothing
    if allowed is not None and len(allowed) > n_classes:
        focal = (config.focal_alpha, config.focal_gamma) if config.loss == "focal" else None
        return PartialLabelCrossentropy(allowed[n_classes:].tolist(), smoothing, focal)
    if config.loss == "focal" and n_classes == 2:
        return keras.losses.BinaryFocalCrossentropy(
            apply_class_balancing=True, alpha=config.focal_alpha, gamma=config.focal_gamma, label_smoothing=smoothing
        )
    if config.loss == "focal":
        return keras.losses.CategoricalFocalCrossentropy(alpha=config.focal_alpha, gamma=config.focal_gamma, label_smoothing=smoothing)
    if n_classes == 2:
        return keras.losses.BinaryCrossentropy(label_smoothing=smoothing)
    if needs_soft_labels(config):
        return keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
    return keras.losses.SparseCategoricalCrossentropy()


def make_optimizer(config: Config, steps: int) -> keras.optimizers.Optimizer:
    """Return the optimizer with its learning rate schedule.

    Args:
        config: the configuration.
        steps: batches per epoch.
    """
    rate: float | keras.optimizers.schedules.LearningRateSchedule = config.learning_rate
    if config.schedule == "cosine":
        total = steps * config.epochs
        warm_up = min(total // 20, 200)
        rate = keras.optimizers.schedules.CosineDecay(
            config.learning_rate / 10, total - warm_up, config.cosine_alpha, warmup_target=config.learning_rate, warmup_steps=warm_up
        )
    makers = {
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "sgd": lambda learning_rate: keras.optimizers.SGD(learning_rate, momentum=0.9, nesterov=True),
        "rmsprop": keras.optimizers.RMSprop,
    }
    return makers[config.optimizer](learning_rate=rate)
