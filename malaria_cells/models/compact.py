"""The default classifier: a light residual network for 64 x 64 patches with global pooling and under 250,000 parameters.

It uses standard convolutions with early strides. Separable convolutions have fewer operations but were no faster on a CPU, and the
chromatin dot of a ring, three pixels wide at 64 x 64, must survive the first downsampling. Residual blocks are as in He et al. 2016
(arXiv:1512.03385), section 3.
"""

import keras

from malaria_cells.models.layers import conv_norm_relu, head

WIDTHS = (24, 48, 64, 80)


def build(image_size_hw: tuple[int, int], n_classes: int, dropout: float) -> keras.Model:
    """Build the network.

    Args:
        image_size_hw: input height and width in pixels, each at least 16.
        n_classes: number of classes, including the background class.
        dropout: dropout rate before the last layer.

    Returns:
        A model from (b, H, W, 3) pixels in 0..255 to probabilities (b, n_classes), or (b, 1) for two classes.
    """
    inputs = keras.Input((*image_size_hw, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(inputs)
    x = conv_norm_relu(x, WIDTHS[0], "stem", strides=2)
    for i, width in enumerate(WIDTHS[1:], start=1):
        x = conv_norm_relu(x, width, f"stage{i}_down", strides=2)
        y = conv_norm_relu(x, width, f"stage{i}_block")
        x = keras.layers.Add(name=f"stage{i}_add")([x, y])
    mean = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    maximum = keras.layers.GlobalMaxPooling2D(name="highest")(x)  # a small chromatin dot would be diluted by the mean
    x = keras.layers.Concatenate(name="features")([mean, maximum])
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, head(x, n_classes), name="compact")
