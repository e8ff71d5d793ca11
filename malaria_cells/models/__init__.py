"""Classifiers by name. Every one takes pixels in 0..255 and does its own preprocessing."""

from malaria_cells.errors import InputError, nearest

NAMES = ("compact", "vgg")


def build_classifier(name: str, image_size_hw: tuple[int, int], n_classes: int, dropout: float):  # type: ignore[no-untyped-def]
    """Build an untrained `keras.Model` from pixels (b, H, W, 3) to probabilities.

    Args:
        name: one of `NAMES`.
        image_size_hw: input height and width in pixels.
        n_classes: number of classes, the reject class counted; two classes give one sigmoid unit.
        dropout: share dropped before the last layers, in [0, 1).

    Raises:
        InputError: unknown name, or an input too small for the architecture.
    """
    check_model_name(name)
    from malaria_cells.models import compact, vgg

    builder = {"compact": compact, "vgg": vgg}[name]
    try:
        return builder.build(image_size_hw, n_classes, dropout)
    except ValueError as error:
        raise InputError(f"image_size: {list(image_size_hw)} does not fit model '{name}': {str(error).splitlines()[0]}") from error


def check_model_name(name: str) -> None:
    """Raise `InputError` unless `name` is an architecture known."""
    if name not in NAMES:
        raise InputError(f"model: '{name}' is unknown{nearest(name, NAMES)}; expected one of {', '.join(NAMES)}")
