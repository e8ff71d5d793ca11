"""A small VGG from malaria tutorials, after Simonyan and Zisserman 2015 (arXiv:1409.1556).

It has 6,029,441 parameters at 141 x 141 pixels with one sigmoid unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from malaria_cells.models.architectures import Request, architecture

if TYPE_CHECKING:
    import keras


BLOCKS = ((32,), (64, 64), (128, 128, 128))
DENSE = (256, 256)


@architecture("vgg", rank=20)
def build(request: Request) -> keras.Model:
    """Build the network; the input has at least 42 pixels per side."""
    import keras

    from malaria_cells.models.layers import head

    inputs = keras.Input((*request.image_size_hw, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255, name="rescale")(inputs)
    for i, widths in enumerate(BLOCKS, start=1):
        for j, width in enumerate(widths, start=1):
            x = keras.layers.Conv2D(width, 3, activation="relu", name=f"block{i}_conv{j}")(x)
        x = keras.layers.MaxPooling2D(name=f"block{i}_pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dropout(request.dropout, name="dropout")(x)
    for i, width in enumerate(DENSE, start=1):
        x = keras.layers.Dense(width, activation="relu", name=f"dense{i}")(x)
    return keras.Model(inputs, head(x, request.n_classes), name="vgg")
