"""The first stages of EfficientNet-Lite0, to stride 16: light enough for a laptop, and with ImageNet weights at hand.

EfficientNet-Lite (github.com/tensorflow/tpu, models/official/efficientnet/lite) is EfficientNet (Tan and Le 2019,
arXiv:1905.11946) without squeeze-and-excitation and with ReLU6. Its later stages hold four fifths of the parameters and
see whole images; a patch of one cell is small, and what tells its stage is texture. Features of stride 8 are pooled beside
those of stride 16, in which a ring's dot is lost among what lies around it. Of keras-cv's network.
"""

from pathlib import Path

import keras

from malaria_cells.base.shipped import shipped_path
from malaria_cells.models.layers import head
from malaria_cells.models.weights import load_backbone

FINER, LAST = "block3b_add", "block5c_add"  # of strides 8 and 16
WEIGHTS = shipped_path("pretrained", "imagenet", "lite.weights.h5")


def build(image_size_hw: tuple[int, int], n_classes: int, dropout: float, weights: str = "none", freeze: bool = False) -> keras.Model:
    """Build the network.

    Args:
        image_size_hw: input height and width in pixels; any size from 16 on.
        n_classes: number of classes, including the background class.
        dropout: before the last layer.
        weights: ``imagenet`` (`WEIGHTS`, which comes with the repository), ``none``, or a file of weights of `backbone`.
        freeze: whether the stages keep their weights.

    Returns:
        A model from (b, H, W, 3) pixels in 0..255 to probabilities (b, n_classes), or (b, 1) for two classes.

    Raises:
        InputError: no such file, or one of another network.
    """
    stages = backbone(image_size_hw)
    if weights != "none":
        load_backbone(stages, "lite", WEIGHTS if weights == "imagenet" else Path(weights))
    stages = keras.Model(stages.inputs, [stages.output, stages.get_layer(FINER).output], name=stages.name)
    stages.trainable = not freeze
    inputs = keras.Input((*image_size_hw, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="rescale")(inputs)  # as the published weights were trained
    pooled = []
    for name, features in zip(("", "_finer"), stages(x), strict=True):
        pooled.append(keras.layers.GlobalAveragePooling2D(name=f"mean{name}")(features))
        pooled.append(keras.layers.GlobalMaxPooling2D(name=f"highest{name}")(features))  # one dot in the cell decides: a mean dilutes it
    x = keras.layers.Concatenate(name="features")(pooled)
    # The published features are of any size, up to some hundred: without this the first steps are lost on taming them.
    x = keras.layers.BatchNormalization(momentum=0.95, name="norm")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, head(x, n_classes), name="lite")


def backbone(image_size_hw: tuple[int | None, int | None]) -> keras.Model:
    """EfficientNet-Lite0 up to `LAST`, with random weights: from (b, H, W, 3) pixels in -1..1 to features (b, H/16, W/16, 112)."""
    from keras_cv.models import EfficientNetLiteBackbone

    whole = EfficientNetLiteBackbone(
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
    return keras.Model(whole.inputs[0], whole.get_layer(LAST).output, name="efficientnet_lite0")
