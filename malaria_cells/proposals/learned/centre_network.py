"""A small fully convolutional network that predicts a heat map of cell centres, and an offset and a size at each centre.

It follows CenterNet (Zhou et al. 2019, arXiv:1904.07850), with an encoder and decoder of a few thin residual stages.
"""

import keras

from malaria_cells.models.layers import conv_norm_relu

# Logit of the prior probability 0.1 of a centre in a grid cell (Lin et al. 2017, arXiv:1708.02002, section 4.1).
PRIOR_BIAS = -2.19


def build() -> keras.Model:
    """Build the network.

    Returns:
        A model from pixels (b, H, W, 3) in 0..255, H and W multiples of 16, to (b, H/4, W/4, 5): probability of a
        centre, its offset within the grid cell (x, y; in grid cells), and the logarithms of width and height in cell sizes.
    """
    inputs = keras.Input((None, None, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(inputs)
    x = conv_norm_relu(x, 16, "stem", strides=2)
    at_4 = _stage(x, 32, "stage4")
    at_8 = _stage(at_4, 48, "stage8")
    x = _stage(at_8, 64, "stage16")
    x = _up(x, at_8, 48, "up8")
    x = _up(x, at_4, 32, "up4")
    heat = conv_norm_relu(x, 32, "heat")
    heat = keras.layers.Conv2D(1, 1, activation="sigmoid", bias_initializer=keras.initializers.Constant(PRIOR_BIAS), name="centre")(heat)
    box = conv_norm_relu(x, 32, "box")
    box = keras.layers.Conv2D(4, 1, name="offset_and_size")(box)
    return keras.Model(inputs, keras.layers.Concatenate(name="places")([heat, box]), name="centres")


def _stage(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    x = conv_norm_relu(x, width, f"{name}_down", strides=2)
    return keras.layers.Add(name=f"{name}_add")([x, conv_norm_relu(x, width, f"{name}_block")])


def _up(x: keras.KerasTensor, skip: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    x = conv_norm_relu(x, width, f"{name}_narrow", kernel=1)
    x = keras.layers.UpSampling2D(interpolation="nearest", name=f"{name}_up")(x)
    x = keras.layers.Add(name=f"{name}_add")([x, skip])
    return conv_norm_relu(x, width, f"{name}_mix")
