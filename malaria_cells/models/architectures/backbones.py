"""Published backbones with a light head: global average pooling, dropout and a dense layer.

EfficientNet (Tan and Le 2019, arXiv:1905.11946), EfficientNetV2 (2021, arXiv:2104.00298), and all other networks of
`keras.applications` and `keras_cv.models` by their full names.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from malaria_cells.base.errors import InputError, nearest, reason
from malaria_cells.base.keras_cv_parts import keras_cv_part
from malaria_cells.models.architectures import Request, architecture

if TYPE_CHECKING:
    import keras


EFFICIENTNETS = (*(f"efficientnetb{i}" for i in range(8)), *(f"efficientnetv2{i}" for i in ("b0", "b1", "b2", "b3", "s", "m", "l")))


@architecture(*EFFICIENTNETS, has_backbone=True, rank=60)
def build(request: Request) -> keras.Model:
    """Build the network, whose backbone's own preprocessing is inside.

    The name is that of an EfficientNet, or a full name such as ``keras.applications.ResNet50V2``.

    Raises:
        InputError: the network does not exist, or its weights are not available.
    """
    import keras

    from malaria_cells.models.layers import head

    backbone = (
        _from_keras_cv(request.name, request.image_size_hw, request.weights)
        if request.name.startswith("keras_cv.")
        else _from_keras(request.name, request.image_size_hw, request.weights)
    )
    backbone.trainable = not request.freeze
    inputs = keras.Input((*request.image_size_hw, 3), name="pixels")
    x = inputs
    if not request.name.startswith("keras_cv."):
        x = _preprocessing(_factory(request.name))(x)
    x = backbone(x)
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    x = keras.layers.Dropout(request.dropout, name="dropout")(x)
    return keras.Model(inputs, head(x, request.n_classes), name=re.sub(r"\W", "_", request.name.lower()))


def _factory(name: str) -> Callable[..., keras.Model]:
    """Return the function of `keras.applications` for a full name, or for a lower-case name such as ``efficientnetb3``."""
    import keras

    wanted = name.rsplit(".", 1)[-1]
    known = {n.lower(): n for n in dir(keras.applications) if n[0].isupper()}
    if wanted.lower() not in known:
        raise InputError(f"model: '{name}' is not in keras.applications{nearest(wanted, known.values())}")
    return getattr(keras.applications, known[wanted.lower()])


def _from_keras(name: str, image_size_hw: tuple[int, int], weights: str) -> keras.Model:
    from malaria_cells.models.weights import load_backbone

    from_file = weights not in {"imagenet", "none"}
    try:
        backbone = _factory(name)(include_top=False, weights="imagenet" if weights == "imagenet" else None, input_shape=(*image_size_hw, 3))
    except ValueError:
        raise
    except Exception as error:  # Keras' downloader raises a bare Exception
        raise _unavailable(name, error) from error
    if from_file:
        load_backbone(backbone, name, Path(weights))
    return backbone


def _from_keras_cv(name: str, image_size_hw: tuple[int, int], weights: str) -> keras.Model:
    from malaria_cells.models.weights import load_backbone

    models = keras_cv_part("models")
    wanted = name.rsplit(".", 1)[-1]
    if not hasattr(models, wanted):
        raise InputError(f"model: '{name}' is not in keras_cv.models{nearest(wanted, dir(models))}")
    try:
        backbone = getattr(models, wanted)(include_rescaling=True, input_shape=(*image_size_hw, 3))
    except ValueError:
        raise
    except Exception as error:  # keras-cv downloads the configuration of its named networks, which may raise any network error
        raise _unavailable(name, error) from error
    if weights == "imagenet":
        raise InputError(f"weights: imagenet is not available for {name}; set `weights` to a file of its weights, or to none")
    if weights != "none":
        load_backbone(backbone, name, Path(weights))
    return backbone


def _unavailable(name: str, error: Exception) -> InputError:
    return InputError(
        f"model: the files of {name} could not be downloaded ({reason(error)}). Connect to the internet and run again, or copy a file of "
        "its weights here (for keras.applications: NAME_notop.h5 from storage.googleapis.com/keras-applications) and set "
        "`weights: FILE`, or set `weights: none` to train from scratch."
    )


def _preprocessing(factory: Callable[..., keras.Model]) -> Callable[[Any], Any]:
    """The network's `preprocess_input` as a fixed 1 x 1 convolution, since all of these functions are affine in the three channels."""
    import keras

    module = importlib.import_module(factory.__module__)
    function = getattr(module, "preprocess_input", lambda x: x)
    offset = np.asarray(function(np.zeros((1, 1, 1, 3), dtype=np.float32)))[0, 0, 0]
    unit = np.eye(3, dtype=np.float32).reshape(3, 1, 1, 3)
    matrix = np.asarray(function(unit.copy()))[:, 0, 0, :] - offset
    if np.array_equal(matrix, np.eye(3)) and not offset.any():
        return lambda x: x
    layer = keras.layers.Conv2D(3, 1, trainable=False, name="preprocess")
    layer.build((None, None, None, 3))
    layer.set_weights([matrix.reshape(1, 1, 3, 3), offset])
    return layer
