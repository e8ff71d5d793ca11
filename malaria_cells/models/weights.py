"""Weights of a backbone from a file."""

import warnings
from pathlib import Path

import keras

from malaria_cells.base.errors import InputError, reason


def load_backbone(backbone: keras.Model, name: str, path: Path) -> None:
    """Load a file of weights into a backbone.

    Args:
        backbone: a network without its head.
        name: of its architecture, for errors.
        path: ``.weights.h5`` or ``.h5``.

    Raises:
        InputError: no such file, or one of another network.
    """
    if not path.is_file():
        raise InputError(f"weights: {path}: no such file; expected imagenet, none, or a file of weights of {name}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras skips what does not fit, and only warns
            backbone.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise InputError(f"weights: {path} does not fit {name} without its top: {reason(error)}") from error
