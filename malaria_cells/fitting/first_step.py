"""Builds the optimizer, loss and metrics of a model before its first training step."""

import keras
import tensorflow as tf


def build_optimizer(model: keras.Model) -> None:
    """Build the optimizer of a compiled model once: when built again, that of mixed_float16 forgets the scale of its loss."""
    if not model.optimizer.built:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)


def build_ahead(model: keras.Model, batches: tf.data.Dataset) -> None:
    """Build the optimizer, the loss and the metrics of a compiled model.

    By default Keras builds them in the first step, while TensorFlow traces it. Because that trace creates variables, TensorFlow discards
    it and traces the step again. Building them ahead takes about half as long.

    Args:
        model: a compiled model; its weights are not changed.
        batches: the data set that will be passed to `fit`; only its element spec is used.
    """
    build_optimizer(model)
    zeros = keras.tree.map_structure(lambda spec: tf.zeros([n or 1 for n in spec.shape], spec.dtype), batches.element_spec)
    inputs, truth, weights = keras.utils.unpack_x_y_sample_weight(zeros)

    def build() -> None:
        predictions = model(inputs, training=False)
        model.compute_loss(inputs, truth, predictions, weights)
        model.compute_metrics(inputs, truth, predictions, weights)

    if model.distribute_strategy.num_replicas_in_sync == 1:
        build()
    else:  # metrics of several devices can only be updated on the devices
        model.distribute_strategy.run(build)
    model.reset_metrics()
