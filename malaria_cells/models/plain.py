"""Two plain convolutional networks from malaria tutorials: valid convolutions, each followed by 2 x 2 max pooling.

With one sigmoid unit at 130 x 130 pixels, `baseline` has 75,937 parameters and `augmented` 2,601,153.
"""

import keras

from malaria_cells.models.layers import head


def build_baseline(image_size_hw: tuple[int, int], n_classes: int) -> keras.Model:
    """Convolutions with 32, 64, 64, 32 filters, flatten, head. See `compact.build`; the input has at least 46 pixels per side."""
    return _build("baseline", image_size_hw, n_classes, (32, 64, 64, 32), None)


def build_augmented(image_size_hw: tuple[int, int], n_classes: int) -> keras.Model:
    """Convolutions with 32, 64, 128, 128 filters, flatten, dense 512, head. See `compact.build`; at least 46 pixels per side."""
    return _build("augmented", image_size_hw, n_classes, (32, 64, 128, 128), 512)


def _build(name: str, image_size_hw: tuple[int, int], n_classes: int, widths: tuple[int, ...], dense: int | None) -> keras.Model:
    inputs = keras.Input((*image_size_hw, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255, name="rescale")(inputs)
    for i, width in enumerate(widths, start=1):
        x = keras.layers.Conv2D(width, 3, activation="relu", name=f"conv{i}")(x)
        x = keras.layers.MaxPooling2D(name=f"pool{i}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    if dense:
        x = keras.layers.Dense(dense, activation="relu", name="dense")(x)
    return keras.Model(inputs, head(x, n_classes), name=name)
