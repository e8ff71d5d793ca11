"""Layers and heads that the architectures share, built from Keras layers only."""

from typing import Any

import keras


def conv_norm_relu(x: Any, filters: int, name: str, strides: int = 1, kernel: int = 3) -> Any:
    """Convolution without bias, batch normalisation, ReLU; `x` is (b, h, w, c)."""
    x = keras.layers.Conv2D(filters, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv")(
        x
    )
    # With a momentum of 0.95 the moving statistics converge within a hundred steps; small data sets have few more.
    x = keras.layers.BatchNormalization(momentum=0.95, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def head(x: Any, n_classes: int) -> Any:
    """Class probabilities from features (b, c): for two classes one sigmoid unit (the probability of class 1), otherwise softmax."""
    units, activation = (1, "sigmoid") if n_classes == 2 else (n_classes, "softmax")
    # float32 under any precision policy, since probabilities near 0 and 1 need it.
    return keras.layers.Dense(units, activation=activation, dtype="float32", name="probabilities")(x)
