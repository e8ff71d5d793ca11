"""Classifiers by name, each with its own preprocessing, and reading of network files.

In: a name, an input size and a number of classes. Out: a Keras network that takes pixels in 0..255.
"""

from malaria_cells.base.errors import InputError, nearest, reason

PLAIN = ("compact", "vgg", "baseline", "augmented")
EFFICIENTNETS = (*(f"efficientnetb{i}" for i in range(8)), *(f"efficientnetv2{i}" for i in ("b0", "b1", "b2", "b3", "s", "m", "l")))
LITE = "lite"
NAMES = (*PLAIN, LITE, *EFFICIENTNETS)
OTHERS = ("keras.applications.", "keras_cv.models.")


def build_classifier(  # type: ignore[no-untyped-def]
    name: str, image_size_hw: tuple[int, int], n_classes: int, dropout: float, weights: str = "none", freeze: bool = False
):
    """Build a `keras.Model` from pixels (b, H, W, 3) to probabilities.

    Args:
        name: one of `NAMES`, or a full name in one of `OTHERS`.
        image_size_hw: input height and width in pixels.
        n_classes: number of classes, including the background class; two classes give one sigmoid unit.
        dropout: fraction dropped before the last layers, in [0, 1); `baseline` and `augmented` have none.
        weights: of a backbone: ``imagenet``, ``none`` or a file.
        freeze: whether a backbone keeps its weights.

    Raises:
        InputError: unknown name, weights that cannot be had, or an input too small for the architecture.
    """
    check_model_name(name)
    if name in PLAIN and (weights != "none" or freeze):
        raise InputError(
            f"model: '{name}' has no pretrained backbone; set `weights: none` and `freeze: false`, or choose lite or an efficientnet"
        )
    from malaria_cells.models import backbones, compact, lite, plain, vgg

    try:
        if name == "compact":
            return compact.build(image_size_hw, n_classes, dropout)
        if name == "vgg":
            return vgg.build(image_size_hw, n_classes, dropout)
        if name == "baseline":
            return plain.build_baseline(image_size_hw, n_classes)
        if name == "augmented":
            return plain.build_augmented(image_size_hw, n_classes)
        if name == LITE:
            return lite.build(image_size_hw, n_classes, dropout, weights, freeze)
        return backbones.build(image_size_hw, n_classes, dropout, name, weights, freeze)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"image_size: {list(image_size_hw)} does not fit model '{name}': {reason(error)}") from error


def check_model_name(name: str) -> None:
    """Raise `InputError` unless `name` is an architecture known, or a full name in a library known."""
    if name not in NAMES and not name.startswith(OTHERS):
        raise InputError(
            f"model: '{name}' is unknown{nearest(name, NAMES)}; expected one of {', '.join(NAMES)}, "
            f"or a full name such as {OTHERS[0]}ResNet50V2"
        )
