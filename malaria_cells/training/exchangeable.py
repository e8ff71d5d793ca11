"""A network whose weights are exchanged again and again, as an adaptation compares fractions of new weights."""

import keras
import numpy as np
import tensorflow as tf

from malaria_cells.training.transfer import averaged_weights


class Exchangeable:
    """A network as one TensorFlow graph whose weights can be replaced without tracing it again.

    Args:
        model: a Keras model; `take` changes its weights.
        shape: input shape; None for a free size.
    """

    def __init__(self, model: keras.Model, shape: tuple[int | None, ...]):
        self.model = model
        self.start = model.get_weights()
        self._graph = tf.function(
            lambda pixels: model(tf.cast(pixels, tf.float32), training=False), input_signature=[tf.TensorSpec(shape, tf.uint8)]
        )

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return the network's output for uint8 pixels."""
        return np.asarray(self._graph(tf.constant(pixels)))

    def take(self, weights: list[np.ndarray], fraction: float) -> None:
        """Set the weights to an average of the initial ones and others, see `transfer.averaged_weights`."""
        self.model.set_weights(averaged_weights(self.start, weights, fraction))
