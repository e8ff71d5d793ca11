"""Loads the weights of a backbone from a file."""

import warnings
from pathlib import Path

import keras

from malaria_cells.base.errors import InputError, reason


def load_backbone(backbone: keras.Model, name: str, path: Path) -> None:
    """Load a file of weights into a backbone.

    Args:
        backbone: a network without its head.
        name: name of its architecture, for error messages.
        path: a ``.weights.h5`` or ``.h5`` file.

    Raises:
        InputError: the file does not exist, or belongs to another network.
    """
    if not path.is_file():
        raise InputError(f"weights: {path}: no such file; expected imagenet, none, or the path of a weights file of {name}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns about layers that do not match
            backbone.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise InputError(f"weights: {path} does not match the backbone {name} (without its top): {reason(error)}") from error
