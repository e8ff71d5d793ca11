"""The default classifier: a light residual network for 64 x 64 patches with global pooling and under 250,000 parameters.

It uses standard convolutions with early strides. Separable convolutions have fewer operations but were no faster on a CPU, and the
chromatin dot of a ring, three pixels wide at 64 x 64, must survive the first downsampling. Residual blocks are as in He et al. 2016
(arXiv:1512.03385), section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from malaria_cells.models.architectures import Request, architecture

if TYPE_CHECKING:
    import keras


WIDTHS = (24, 48, 64, 80)


@architecture("compact", rank=10)
def build(request: Request) -> keras.Model:
    """Build the network; any input size from 16 pixels per side on."""
    import keras

    from malaria_cells.models.layers import conv_norm_relu, head

    inputs = keras.Input((*request.image_size_hw, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(inputs)
    x = conv_norm_relu(x, WIDTHS[0], "stem", strides=2)
    for i, width in enumerate(WIDTHS[1:], start=1):
        x = conv_norm_relu(x, width, f"stage{i}_down", strides=2)
        y = conv_norm_relu(x, width, f"stage{i}_block")
        x = keras.layers.Add(name=f"stage{i}_add")([x, y])
    mean = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    maximum = keras.layers.GlobalMaxPooling2D(name="highest")(x)  # a small chromatin dot would be diluted by the mean
    x = keras.layers.Concatenate(name="features")([mean, maximum])
    x = keras.layers.Dropout(request.dropout, name="dropout")(x)
    return keras.Model(inputs, head(x, request.n_classes), name="compact")
