"""Training on several devices of one machine at once, for the config key `distribute`.

With TensorFlow's mirrored strategy each device holds a copy of the network and computes an equal part of every batch; the gradients are
summed, so that all copies stay equal. What is learned is the same as on one device up to rounding and the masks of dropout.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import keras
import tensorflow as tf

from malaria_cells.base.errors import InputError
from malaria_cells.config import Config
from malaria_cells.fitting.fused_normalization import layers_within

log = logging.getLogger(__name__)


def strategy_of(config: Config) -> tf.distribute.Strategy:
    """Return the strategy in whose scope the network of a training is built and compiled.

    Args:
        config: the recipe.

    Returns:
        A mirrored strategy over all GPUs, or over all logical CPU devices if there is no GPU. With ``distribute: none``, or one device
        only, TensorFlow's default strategy, which changes nothing.

    Raises:
        InputError: the batches cannot be divided equally among the devices.
    """
    names = _device_names()
    if config.distribute == "none" or len(names) == 1:
        return tf.distribute.get_strategy()
    rest = config.batch_size % len(names)
    if rest:
        fitting = max(config.batch_size - rest, len(names))
        raise InputError(
            f"batch_size: {config.batch_size} patches cannot be divided equally among {len(names)} devices ({', '.join(names)}), as "
            f"`distribute: mirrored` does; set batch_size to a multiple of {len(names)}, such as {fitting}, or distribute to none"
        )
    return _mirrored(tuple(names))


@cache
def _mirrored(names: tuple[str, ...]) -> tf.distribute.Strategy:
    """Return the process's only strategy over some devices.

    A second one would number its collective operations from the start again, and TensorFlow 2.21 then aborts with a "shape mismatch in the
    collective instance".
    """
    return tf.distribute.MirroredStrategy(names)


def check_devices(config: Config) -> None:
    """Report the devices that a config with ``distribute: mirrored`` is trained on.

    A single device is not an error: the config may be meant for a larger machine, and what is learned is the same.

    Raises:
        InputError: as `strategy_of`.
    """
    if config.distribute == "none":
        return
    names, count = _device_names(), strategy_of(config).num_replicas_in_sync
    if count == 1:
        log.warning(f"distribute: mirrored found one device ({names[0]}); the classifiers are trained on it alone, with the same results")
    else:
        print(f"the classifiers are trained on {count} devices ({', '.join(names)}), each with 1/{count} of every batch", file=sys.stderr)


def _device_names() -> list[str]:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name.removeprefix("/device:") for device in devices]


@contextmanager
def distributed(model: keras.Model) -> Iterator[None]:
    """Let a model that was built in the scope of a mirrored strategy learn inside the block what it would learn on one device.

    Batch normalisation is synchronised between the devices, and is Keras' default again afterwards, so that files do not differ. A model
    of one device is not changed.

    Args:
        model: a compiled model.
    """
    if model.distribute_strategy.num_replicas_in_sync == 1:
        yield
        return
    optimizer = model.optimizer
    layers = [part for part in layers_within(model) if isinstance(part, keras.layers.BatchNormalization) and not part.synchronized]
    try:
        for layer in layers:
            layer.synchronized = True
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer.check_finite = _all_finite
        # The model is built ahead. Keras would draw a batch to build it from, which changes the random state of later batches.
        model._maybe_symbolic_build = lambda **_: None
        yield
    finally:
        for layer in layers:
            layer.synchronized = False
        vars(optimizer).pop("check_finite", None)
        vars(model).pop("_maybe_symbolic_build", None)


def _all_finite(gradients: Sequence[Any]) -> Any:
    """Whether the gradients of all devices are finite; if not, the optimizer of mixed_float16 skips the step and lowers the loss scale.

    Keras 3.15 looks at those of the first device alone, before they are summed, although the scaled loss overflows now and then by design:
    an overflow on another device would make all weights NaN.
    """
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients if gradient is not None])
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(finite, tf.float32)) == float(context.num_replicas_in_sync)
