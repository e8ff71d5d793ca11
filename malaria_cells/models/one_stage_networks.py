"""keras-cv's one-stage detectors, built from explicit arguments because its presets need internet access.

yolo: YOLOV8Detector with the backbone of the preset ``yolo_v8_xs``. retinanet: RetinaNet (Lin et al. 2017,
arXiv:1708.02002) with a ResNet-18 backbone. Both are trained with keras-cv's losses and label encoders. For inference they are converted to
a functional model that returns all boxes with a score for each label, so that the number of boxes is not capped.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from malaria_cells.base.keras_cv_parts import keras_cv_layers, keras_cv_part

KINDS = ("yolo", "retinanet")
LEVELS = ("P3", "P4", "P5", "P6", "P7")
MULTIPLE = 128  # pixels; stride of the coarsest level, of which input sizes are multiples
YOLO_XS = {"stackwise_channels": [32, 64, 128, 256], "stackwise_depth": [1, 2, 2, 1]}
RARE_BIAS = -float(np.log(99.0))  # logit of the prior probability 0.01 of a cell (arXiv:1708.02002, section 4.1)
YOLO_STRIDES = (8, 16, 32)  # pixels between the points of each level that boxes are predicted from
RESNET_18 = {"stackwise_filters": [64, 128, 256, 512], "stackwise_blocks": [2, 2, 2, 2], "stackwise_strides": [1, 2, 2, 2]}


def build(kind: str, size_hw: tuple[int, int], n_labels: int, anchors: dict[str, list[float]]) -> Any:
    """Build a detector of keras-cv for training.

    Args:
        kind: one of `KINDS`.
        size_hw: height and width of the input in pixels, multiples of `MULTIPLE`.
        n_labels: number of classes without background.
        anchors: anchor boxes of RetinaNet: ``sizes`` in pixels of the input, one per level (strides 8 to 128); ``scales`` and
            ``ratios`` (height / width) of each size.

    Returns:
        A model from pixels (b, H, W, 3) in 0..255.

    Raises:
        InputError: the installed keras-cv lacks a part of the detector.
    """
    shape = (*size_hw, 3)
    if kind == "yolo":
        backbone = keras_cv_part("models.YOLOV8Backbone")(**YOLO_XS, include_rescaling=True, input_shape=shape)
        detector = keras_cv_part("models.YOLOV8Detector")(num_classes=n_labels, bounding_box_format="xyxy", backbone=backbone, fpn_depth=1)
        for head in keras_cv_layers(detector, "_class_3_conv", len(YOLO_STRIDES)):
            head.bias.assign(np.full(n_labels, RARE_BIAS))
        return detector
    backbone = keras_cv_part("models.ResNetBackbone")(**RESNET_18, block_type="basic_block", include_rescaling=True, input_shape=shape)
    generator = keras_cv_part("layers.AnchorGenerator")(
        bounding_box_format="xyxy",
        sizes=dict(zip(LEVELS, anchors["sizes"], strict=True)),
        scales=anchors["scales"],
        aspect_ratios=anchors["ratios"],
        strides={level: 2 ** (i + 3) for i, level in enumerate(LEVELS)},
        clip_boxes=False,
    )
    n_anchors = len(anchors["scales"]) * len(anchors["ratios"])
    rare = keras.initializers.Constant(RARE_BIAS)
    head = keras_cv_part("models.retinanet.PredictionHead")
    return keras_cv_part("models.RetinaNet")(
        backbone=backbone,
        num_classes=n_labels,
        bounding_box_format="xyxy",
        anchor_generator=generator,
        feature_pyramid=Pyramid(),
        classification_head=head(output_filters=n_anchors * n_labels, bias_initializer=rare),
        box_head=head(output_filters=n_anchors * 4, bias_initializer="zeros"),
    )


FeaturePyramid: Any = keras_cv_part("models.retinanet.FeaturePyramid")


@keras.saving.register_keras_serializable(package="malaria_cells")
class Pyramid(FeaturePyramid):
    """keras-cv's `FeaturePyramid` with a correct `compute_output_shape`: keras-cv's returns wrong sizes for the two coarsest levels."""

    def compute_output_shape(self, input_shape: dict[str, tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
        """Return the shapes (b, h, w, 256) of the five levels."""
        b, h, w = input_shape["P5"][:3]
        halves = [(-(-h // n), -(-w // n)) for n in (2, 4)]
        fine = [(*input_shape[level][:3], 256) for level in LEVELS[:3]]
        return (*fine, *((b, *half, 256) for half in halves))


def losses(kind: str, class_weights: np.ndarray, alpha: float, gamma: float) -> dict[str, keras.losses.Loss | str]:
    """Return the loss arguments of the detector's `compile`.

    Args:
        kind: one of `KINDS`.
        class_weights: float32 (n_labels,), weight of the positive part of each label.
        alpha: weight of positives in RetinaNet's focal loss.
        gamma: focusing parameter of RetinaNet's focal loss.
    """
    weights = tuple(float(w) for w in class_weights)
    if kind == "yolo":
        return {"classification_loss": WeightedFocal(weights, None, 0.0, False), "box_loss": "ciou"}
    return {"classification_loss": WeightedFocal(weights, alpha, gamma, True), "box_loss": keras.losses.Huber(reduction="sum")}


class WeightedFocal(keras.losses.Loss):
    """Sigmoid focal loss (arXiv:1708.02002, eq. 5) in which the positive part of each label has a class weight.

    Args:
        class_weights: one weight per label.
        alpha: weight of positives; negatives have 1 - alpha. None: both have 1.
        gamma: focusing parameter; 0: cross-entropy.
        from_logits: whether predictions are logits.
    """

    def __init__(self, class_weights: tuple[float, ...], alpha: float | None, gamma: float, from_logits: bool):
        super().__init__(reduction="sum")
        self.class_weights = class_weights
        self.alpha = alpha
        self.gamma = gamma
        self.from_logits = from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss (b, n), summed over labels, of tensors (b, n, n_labels). Targets may be soft, as YOLO's are."""
        p = ops.sigmoid(y_pred) if self.from_logits else y_pred
        p = ops.clip(p, 1e-7, 1 - 1e-7)
        target = ops.cast(y_true, p.dtype)
        positive, negative = (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)
        weights = ops.convert_to_tensor(self.class_weights, dtype=p.dtype)
        hit = -positive * weights * target * (1 - p) ** self.gamma * ops.log(p)
        miss = -negative * (1 - target) * p**self.gamma * ops.log(1 - p)
        return ops.sum(hit + miss, axis=-1)


def for_use(detector: keras.Model, kind: str, size_hw: tuple[int, int]) -> keras.Model:
    """Convert a trained detector to a functional model for inference.

    Args:
        detector: the trained model, as from `build`.
        kind: one of `KINDS`.
        size_hw: height and width of its input in pixels.

    Returns:
        A model from pixels (b, H, W, 3) in 0..255 to (b, n, 4 + n_labels): boxes xyxy in pixels of the input, then a score in 0..1 for
        each label.
    """
    raw = detector.output
    if kind == "yolo":
        points, strides = _yolo_points(size_hw)
        steps = raw["boxes"].shape[-1] // 4
        # Distances from the point to the four edges in strides: the mean of a predicted distribution over whole numbers.
        fractions = ops.softmax(ops.reshape(raw["boxes"], (-1, len(points), 4, steps)), axis=-1)
        edges = ops.sum(fractions * np.arange(steps, dtype=np.float32), axis=-1)
        boxes = ops.concatenate([ops.subtract(points, edges[..., :2]), ops.add(points, edges[..., 2:])], axis=-1) * strides[:, None]
        scores = raw["classes"]
    else:
        anchors = np.concatenate([np.asarray(level) for level in detector.anchor_generator(image_shape=(*size_hw, 3)).values()])
        centre, size = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
        # keras-cv orders the box deltas y, x, height, width; their variances are 0.1, 0.1, 0.2, 0.2.
        y, x, height, width = (raw["box"][..., i : i + 1] for i in range(4))
        middle = ops.concatenate([x, y], axis=-1) * 0.1 * size + centre
        half = ops.exp(ops.concatenate([width, height], axis=-1) * 0.2) * size / 2
        boxes = ops.concatenate([middle - half, middle + half], axis=-1)
        scores = ops.sigmoid(raw["classification"])
    return keras.Model(detector.inputs[0], ops.concatenate([boxes, scores], axis=-1), name=kind)


def _yolo_points(size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The middles of the grid cells of each level, x and y in strides, float32 (n, 2), and the stride of each, float32 (n,)."""
    points, strides = [], []
    for stride in YOLO_STRIDES:
        y, x = np.mgrid[: size_hw[0] // stride, : size_hw[1] // stride].astype(np.float32) + 0.5
        points.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full(x.size, stride, dtype=np.float32))
    return np.concatenate(points), np.concatenate(strides)
