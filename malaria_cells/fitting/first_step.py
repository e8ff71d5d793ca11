"""What Keras would make in the middle of a training's first step, made before it."""

import keras
import tensorflow as tf


def build_ahead(model: keras.Model, batches: tf.data.Dataset) -> None:
    """Build the optimizer, the loss and the metrics of a compiled model.

    Keras builds them when the first batch comes, inside the step that TensorFlow is tracing; TensorFlow then throws that graph
    away, since it made variables, and traces the step anew. Built ahead, all of it takes about half as long.

    Args:
        model: compiled; its weights stay as they are.
        batches: what `fit` will be given; no batch is drawn from it.
    """
    model.optimizer.build(model.trainable_variables)
    one = keras.tree.map_structure(lambda spec: tf.zeros([n or 1 for n in spec.shape], spec.dtype), batches.element_spec)
    inputs, truth, weights = keras.utils.unpack_x_y_sample_weight(one)
    answers = model(inputs, training=False)
    model.compute_loss(inputs, truth, answers, weights)
    model.compute_metrics(inputs, truth, answers, weights)
    model.reset_metrics()
