"""Batch normalisation by TensorFlow's fused kernel during training.

Keras 3 computes batch normalisation from a dozen elementwise operations, each of which reads and writes the whole feature map, and from
their gradients. On a CPU that is up to half of a training step. TensorFlow has one fused kernel for it, which Keras 2 used, and one for
its gradient.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

log = logging.getLogger(__name__)


@contextmanager
def fused_normalization(model: keras.Model) -> Iterator[None]:
    """Let the batch normalisation layers of a model use the fused kernel for training inside the block.

    The layers and their files stay Keras' own, and the result of a training is the same up to rounding. Layers that the kernel does not
    support are not changed: on vectors, with a mask, over an axis other than the last, synchronised between devices, or renormalised.

    The method `call` of a layer is replaced on the object, since another class would be written to the files, and the layers within
    keras-cv's detectors cannot be built from another class. Where Keras does not let it be replaced, the layer computes as it is.

    Args:
        model: any model; layers of nested models and of composite layers are included.
    """
    replaced = []
    try:
        for layer in layers_within(model):
            if type(layer) is keras.layers.BatchNormalization and _is_supported(layer):
                try:
                    layer.call = _fused(layer, layer.call)
                except (AttributeError, TypeError) as error:
                    log.warning(f"batch normalisation is computed without the fused kernel, up to half as fast: {error}")
                    break
                replaced.append(layer)
        yield
    finally:
        for layer in replaced:
            del layer.call


def layers_within(model: keras.Layer) -> Iterator[keras.Layer]:
    """Iterate over the layers of a model, the layers of its nested models, and those that a composite layer holds as attributes."""
    waiting, seen = [model], set()
    while waiting:
        layer = waiting.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer
        held = layer.layers if hasattr(layer, "layers") else keras.tree.flatten(list(vars(layer).values()))
        waiting += [part for part in held if isinstance(part, keras.Layer)]


def _is_supported(layer: keras.layers.BatchNormalization) -> bool:
    return layer.axis in (-1, 3) and not layer.synchronized and not layer.renorm


def _fused(layer: keras.layers.BatchNormalization, plain: Callable[..., Any]) -> Callable[..., Any]:
    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not (training and layer.trainable) or mask is not None or len(inputs.shape) != 4:
            return plain(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        result = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=layer.gamma.value if layer.scale else tf.ones(channels),
            offset=layer.beta.value if layer.center else tf.zeros(channels),
            mean=[],
            variance=[],
            epsilon=layer.epsilon,
            is_training=True,
        )
        # Keras 3 averages the biased variance; the kernel returns the unbiased one.
        count = tf.cast(tf.size(inputs) // channels, tf.float32)
        biased_variance = result.batch_variance * (count - 1) / count
        for moving, new in ((layer.moving_mean, result.batch_mean), (layer.moving_variance, biased_variance)):
            moving.assign(moving * layer.momentum + new * (1 - layer.momentum))
        return result.y

    return call
