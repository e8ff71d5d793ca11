"""A classifier on the first stages of EfficientNet-Lite0, up to stride 16: light enough for a laptop, with shipped ImageNet weights.

EfficientNet-Lite (github.com/tensorflow/tpu, models/official/efficientnet/lite) is EfficientNet (Tan and Le 2019,
arXiv:1905.11946) without squeeze-and-excitation and with ReLU6; the implementation is keras-cv's. The later stages are left out: they
hold four fifths of the parameters and have receptive fields larger than a patch of one cell. Features of stride 8 are pooled in addition
to those of stride 16, which are too coarse for the chromatin dot of a ring.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from malaria_cells.base.keras_cv_parts import keras_cv_layers, keras_cv_part
from malaria_cells.base.shipped import shipped_path
from malaria_cells.models.architectures import Request, architecture

if TYPE_CHECKING:
    import keras

STRIDE_8_LAYER, STRIDE_16_LAYER = "block3b_add", "block5c_add"  # output layers of strides 8 and 16
WEIGHTS = shipped_path("pretrained", "imagenet", "lite.weights.h5")


@architecture("lite", has_backbone=True, rank=50)
def build(request: Request) -> keras.Model:
    """Build the network; any input size from 16 pixels per side on. ImageNet weights are the shipped file `WEIGHTS`.

    Raises:
        InputError: the file of weights does not exist, or belongs to another network, or the installed keras-cv lacks a part.
    """
    import keras

    from malaria_cells.models.layers import head
    from malaria_cells.models.weights import load_backbone

    stages = backbone(request.image_size_hw)
    if request.weights != "none":
        load_backbone(stages, "lite", WEIGHTS if request.weights == "imagenet" else Path(request.weights))
    (finer,) = keras_cv_layers(stages, STRIDE_8_LAYER, 1)
    stages = keras.Model(stages.inputs, [stages.output, finer.output], name=stages.name)
    stages.trainable = not request.freeze
    inputs = keras.Input((*request.image_size_hw, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="rescale")(
        inputs
    )  # the scaling with which the published weights were trained
    pooled = []
    for name, features in zip(("", "_finer"), stages(x), strict=True):
        pooled.append(keras.layers.GlobalAveragePooling2D(name=f"mean{name}")(features))
        pooled.append(keras.layers.GlobalMaxPooling2D(name=f"highest{name}")(features))  # keeps a small chromatin dot
    x = keras.layers.Concatenate(name="features")(pooled)
    # The published features reach values of about a hundred; without normalisation the first steps are spent on scaling them down.
    x = keras.layers.BatchNormalization(momentum=0.95, name="norm")(x)
    x = keras.layers.Dropout(request.dropout, name="dropout")(x)
    return keras.Model(inputs, head(x, request.n_classes), name="lite")


def backbone(image_size_hw: tuple[int | None, int | None]) -> keras.Model:
    """EfficientNet-Lite0 up to `STRIDE_16_LAYER`, with random weights.

    Args:
        image_size_hw: input height and width in pixels; None: variable.

    Returns:
        A model from (b, H, W, 3) pixels in -1..1 to features (b, H/16, W/16, 112).
    """
    import keras

    whole = keras_cv_part("models.EfficientNetLiteBackbone")(
        stackwise_kernel_sizes=[3, 3, 5, 3, 5, 5, 3],
        stackwise_num_repeats=[1, 2, 2, 3, 3, 4, 1],
        stackwise_input_filters=[32, 16, 24, 40, 80, 112, 192],
        stackwise_output_filters=[16, 24, 40, 80, 112, 192, 320],
        stackwise_expansion_ratios=[1, 6, 6, 6, 6, 6, 6],
        stackwise_strides=[1, 2, 2, 2, 1, 2, 1],
        width_coefficient=1.0,
        depth_coefficient=1.0,
        include_rescaling=False,
        input_shape=(*image_size_hw, 3),
    )
    (last,) = keras_cv_layers(whole, STRIDE_16_LAYER, 1)
    return keras.Model(whole.inputs[0], last.output, name="efficientnet_lite0")
