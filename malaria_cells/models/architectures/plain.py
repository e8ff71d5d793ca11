"""Two plain convolutional networks from malaria tutorials: valid convolutions, each followed by 2 x 2 max pooling.

With one sigmoid unit at 130 x 130 pixels, `baseline` has 75,937 parameters and `augmented` 2,601,153.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from malaria_cells.models.architectures import Request, architecture

if TYPE_CHECKING:
    import keras


@architecture("baseline", rank=30)
def build_baseline(request: Request) -> keras.Model:
    """Convolutions with 32, 64, 64, 32 filters, flatten, head; no dropout. The input has at least 46 pixels per side."""
    return _build(request, (32, 64, 64, 32), None)


@architecture("augmented", rank=40)
def build_augmented(request: Request) -> keras.Model:
    """Convolutions with 32, 64, 128, 128 filters, flatten, dense 512, head; no dropout. The input has at least 46 pixels per side."""
    return _build(request, (32, 64, 128, 128), 512)


def _build(request: Request, widths: tuple[int, ...], dense: int | None) -> keras.Model:
    import keras

    from malaria_cells.models.layers import head

    inputs = keras.Input((*request.image_size_hw, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255, name="rescale")(inputs)
    for i, width in enumerate(widths, start=1):
        x = keras.layers.Conv2D(width, 3, activation="relu", name=f"conv{i}")(x)
        x = keras.layers.MaxPooling2D(name=f"pool{i}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    if dense:
        x = keras.layers.Dense(dense, activation="relu", name="dense")(x)
    return keras.Model(inputs, head(x, request.n_classes), name=request.name)
