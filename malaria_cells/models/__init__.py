"""Classifiers by name, each with its own preprocessing, and reading of network files.

In: a name, an input size and a number of classes. Out: a Keras network that takes pixels in 0..255.
"""

from typing import Any

from malaria_cells.base.errors import InputError, nearest, reason
from malaria_cells.models.architectures import ARCHITECTURES, Architecture, Request, backbones

OTHERS = ("keras.applications.", "keras_cv.models.")


def build_classifier(
    name: str, image_size_hw: tuple[int, int], n_classes: int, dropout: float, weights: str = "none", freeze: bool = False
) -> Any:
    """Build a `keras.Model` from pixels (b, H, W, 3) to probabilities.

    Args:
        name: one of `ARCHITECTURES`, or a full name in one of `OTHERS`.
        image_size_hw: input height and width in pixels.
        n_classes: number of classes, including the background class; two classes give one sigmoid unit.
        dropout: fraction dropped before the last layers, in [0, 1); `baseline` and `augmented` have none.
        weights: of a backbone: ``imagenet``, ``none`` or a file.
        freeze: whether the weights of a backbone are frozen.

    Raises:
        InputError: the name is unknown, the weights are not available, or the input is too small for the architecture.
    """
    check_model_name(name)
    chosen = Architecture(backbones.build, has_backbone=True) if name.startswith(OTHERS) else ARCHITECTURES[name]
    if not chosen.has_backbone and (weights != "none" or freeze):
        raise InputError(
            f"model: '{name}' has no pretrained backbone; set `weights: none` and `freeze: false`, or choose lite or an efficientnet"
        )
    try:
        return chosen.build(Request(name, image_size_hw, n_classes, dropout, weights, freeze))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"image_size: {list(image_size_hw)} does not fit model '{name}': {reason(error)}") from error


def check_model_name(name: str) -> None:
    """Raise `InputError` unless `name` is a known architecture, or a full name in a known library."""
    if name not in ARCHITECTURES and not name.startswith(OTHERS):
        raise InputError(
            f"model: '{name}' is unknown{nearest(name, ARCHITECTURES)}; expected one of {', '.join(ARCHITECTURES)}, or a full name such "
            f"as {OTHERS[0]}ResNet50V2"
        )
