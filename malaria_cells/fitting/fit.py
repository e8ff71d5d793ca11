"""Keras's `fit`, without what makes its steps slow."""

from typing import Any

import keras
import tensorflow as tf

from malaria_cells.fitting.first_step import build_ahead
from malaria_cells.fitting.fused_normalization import fused_normalization


def fit(model: keras.Model, batches: tf.data.Dataset, **arguments: Any) -> keras.callbacks.History:
    """Fit a compiled model to batches, in their order and without Keras's own bar.

    Args:
        model: see `build_ahead` and `fused_normalization`.
        batches: endless.
        arguments: further ones of `keras.Model.fit`.
    """
    with fused_normalization(model):
        build_ahead(model, batches)
        return model.fit(batches, shuffle=False, verbose=0, **arguments)
