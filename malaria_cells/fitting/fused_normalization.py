"""Batch normalisation by TensorFlow's fused kernel while a network is trained.

Keras 3 computes it from a dozen elementwise operations, each of which reads and writes the whole feature map, and their gradients: on
a CPU that is up to half of a training step. TensorFlow has one kernel for all of it (Keras 2 used it), and one for the gradient.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf


@contextmanager
def fused_normalization(model: keras.Model) -> Iterator[None]:
    """While it lasts, the batch normalisation of feature maps in `model` is trained by the fused kernel.

    The layers stay Keras's own, in memory and in files, and learn the same but for rounding. Those that the kernel does not
    serve stay as they are: of vectors, with a mask, over another axis than the last, synchronised between devices, renormalised.

    Args:
        model: any; those that it is made of count, too.
    """
    layers = [layer for layer in model._flatten_layers() if type(layer) is keras.layers.BatchNormalization and _fits(layer)]
    for layer in layers:
        layer.call = _fused(layer, layer.call)
    try:
        yield
    finally:
        for layer in layers:
            del layer.call


def _fits(layer: keras.layers.BatchNormalization) -> bool:
    return layer.axis in (-1, 3) and not layer.synchronized and not layer.renorm


def _fused(layer: keras.layers.BatchNormalization, plain: Callable[..., Any]) -> Callable[..., Any]:
    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not (training and layer.trainable) or mask is not None or len(inputs.shape) != 4:
            return plain(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        of_batch = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=layer.gamma.value if layer.scale else tf.ones(channels),
            offset=layer.beta.value if layer.center else tf.zeros(channels),
            mean=[],
            variance=[],
            epsilon=layer.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.size(inputs) // channels, tf.float32)
        biased = of_batch.batch_variance * (count - 1) / count  # Keras 3 keeps the biased variance, the kernel gives the other
        for kept, new in ((layer.moving_mean, of_batch.batch_mean), (layer.moving_variance, biased)):
            kept.assign(kept * layer.momentum + new * (1 - layer.momentum))
        return of_batch.y

    return call
