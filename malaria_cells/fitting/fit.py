"""A faster `keras.Model.fit`."""

from typing import Any

import keras
import tensorflow as tf

from malaria_cells.fitting.devices import distributed
from malaria_cells.fitting.first_step import build_ahead
from malaria_cells.fitting.fused_normalization import fused_normalization


def fit(model: keras.Model, batches: tf.data.Dataset, **arguments: Any) -> keras.callbacks.History:
    """Fit a compiled model with fused batch normalisation, without shuffling and without Keras' progress bar.

    Args:
        model: a compiled model, see `build_ahead`, `fused_normalization` and `distributed`.
        batches: an infinite data set of batches.
        arguments: further arguments of `keras.Model.fit`.
    """
    with distributed(model), fused_normalization(model):
        build_ahead(model, batches)
        return model.fit(batches, shuffle=False, verbose=0, **arguments)
