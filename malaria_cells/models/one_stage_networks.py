"""keras-cv's one-stage detectors, built from explicit arguments since its presets want a network.

yolo: YOLOV8Detector with the backbone of the preset ``yolo_v8_xs``. retinanet: RetinaNet (Lin et al. 2017,
arXiv:1708.02002) on ResNet-18. Both are trained through keras-cv's own losses and label encoders; for use they become a
plain functional model that gives every box with a score for each label, so that nothing caps their number.
"""

import keras
import keras_cv
import numpy as np
from keras import ops
from keras_cv.src.models.object_detection.retinanet.feature_pyramid import FeaturePyramid
from keras_cv.src.models.object_detection.retinanet.prediction_head import PredictionHead
from keras_cv.src.models.object_detection.yolo_v8 import yolo_v8_detector as yolo

KINDS = ("yolo", "retinanet")
LEVELS = ("P3", "P4", "P5", "P6", "P7")
MULTIPLE = 128  # the coarsest level's stride: sizes that it divides lose no border
YOLO_XS = {"stackwise_channels": [32, 64, 128, 256], "stackwise_depth": [1, 2, 2, 1]}
RARE_BIAS = -float(np.log(99.0))  # the first guess: one place in a hundred is a cell (arXiv:1708.02002, section 4.1)
YOLO_STEPS = yolo.BOX_REGRESSION_CHANNELS // 4
RESNET_18 = {"stackwise_filters": [64, 128, 256, 512], "stackwise_blocks": [2, 2, 2, 2], "stackwise_strides": [1, 2, 2, 2]}


def build(kind: str, size_hw: tuple[int, int], n_labels: int, anchors: dict[str, list[float]]):  # type: ignore[no-untyped-def]
    """Build a detector of keras-cv for training.

    Args:
        kind: one of `KINDS`.
        size_hw: height and width of its input, multiples of `MULTIPLE`.
        n_labels: number of classes, background not counted.
        anchors: of RetinaNet: ``sizes`` in pixels of its input, one a level from stride 8 to 128; ``scales`` and
            ``ratios`` (height by width) of each.

    Returns:
        A model from pixels (b, H, W, 3) in 0..255.
    """
    shape = (*size_hw, 3)
    if kind == "yolo":
        backbone = keras_cv.models.YOLOV8Backbone(**YOLO_XS, include_rescaling=True, input_shape=shape)
        detector = keras_cv.models.YOLOV8Detector(num_classes=n_labels, bounding_box_format="xyxy", backbone=backbone, fpn_depth=1)
        for head in (layer for layer in detector.layers if layer.name.endswith("_class_3_conv")):
            head.bias.assign(np.full(n_labels, RARE_BIAS))
        return detector
    backbone = keras_cv.models.ResNetBackbone(**RESNET_18, block_type="basic_block", include_rescaling=True, input_shape=shape)
    generator = keras_cv.layers.AnchorGenerator(
        bounding_box_format="xyxy",
        sizes=dict(zip(LEVELS, anchors["sizes"], strict=True)),
        scales=anchors["scales"],
        aspect_ratios=anchors["ratios"],
        strides={level: 2 ** (i + 3) for i, level in enumerate(LEVELS)},
        clip_boxes=False,
    )
    each = len(anchors["scales"]) * len(anchors["ratios"])
    rare = keras.initializers.Constant(RARE_BIAS)
    return keras_cv.models.RetinaNet(
        backbone=backbone,
        num_classes=n_labels,
        bounding_box_format="xyxy",
        anchor_generator=generator,
        feature_pyramid=Pyramid(),
        classification_head=PredictionHead(output_filters=each * n_labels, bias_initializer=rare),
        box_head=PredictionHead(output_filters=each * 4, bias_initializer="zeros"),
    )


@keras.saving.register_keras_serializable(package="malaria_cells")
class Pyramid(FeaturePyramid):
    """keras-cv's, which announces its two coarsest levels as large as the one before them."""

    def compute_output_shape(self, input_shape):  # type: ignore[no-untyped-def]
        """Shapes of the five levels, (b, h, w, 256) each."""
        b, h, w = input_shape["P5"][:3]
        halves = [(-(-h // n), -(-w // n)) for n in (2, 4)]
        fine = [(*input_shape[level][:3], 256) for level in LEVELS[:3]]
        return (*fine, *((b, *half, 256) for half in halves))


def losses(kind: str, class_weights: np.ndarray, alpha: float, gamma: float) -> dict[str, keras.losses.Loss | str]:
    """Arguments of the detector's `compile`.

    Args:
        kind: one of `KINDS`.
        class_weights: float32 (n_labels,), of each label's own boxes.
        alpha: of the focal loss, RetinaNet's.
        gamma: likewise.
    """
    weights = tuple(float(w) for w in class_weights)
    if kind == "yolo":
        return {"classification_loss": WeightedFocal(weights, None, 0.0, False), "box_loss": "ciou"}
    return {"classification_loss": WeightedFocal(weights, alpha, gamma, True), "box_loss": keras.losses.Huber(reduction="sum")}


class WeightedFocal(keras.losses.Loss):
    """Focal loss of independent sigmoids (arXiv:1708.02002, eq. 5), each label's positive part weighted by class.

    Args:
        class_weights: one a label.
        alpha: weight of positives, 1 - alpha of negatives; None: 1 for both.
        gamma: 0 makes it the cross-entropy.
        from_logits: whether predictions are logits.
    """

    def __init__(self, class_weights: tuple[float, ...], alpha: float | None, gamma: float, from_logits: bool):
        super().__init__(reduction="sum")
        self.class_weights = class_weights
        self.alpha = alpha
        self.gamma = gamma
        self.from_logits = from_logits

    def call(self, y_true, y_pred):  # type: ignore[no-untyped-def]
        """Sum over labels, of tensors (b, n, n_labels): (b, n); soft targets, as YOLO's, weigh both parts."""
        p = ops.sigmoid(y_pred) if self.from_logits else y_pred
        p = ops.clip(p, 1e-7, 1 - 1e-7)
        target = ops.cast(y_true, p.dtype)
        positive, negative = (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)
        weights = ops.convert_to_tensor(self.class_weights, dtype=p.dtype)
        hit = -positive * weights * target * (1 - p) ** self.gamma * ops.log(p)
        miss = -negative * (1 - target) * p**self.gamma * ops.log(1 - p)
        return ops.sum(hit + miss, axis=-1)


def for_use(detector: keras.Model, kind: str, size_hw: tuple[int, int]) -> keras.Model:
    """The trained detector as a plain model.

    Returns:
        From pixels (b, H, W, 3) in 0..255 to (b, n, 4 + n_labels): xyxy in pixels of the input, then a score for each
        label in 0..1.
    """
    raw = detector.output
    if kind == "yolo":
        # As arrays: tensors of another graph would become inputs of an exported network.
        points, strides = (np.asarray(tensor) for tensor in yolo.get_anchors(image_shape=size_hw))
        # How far left, top, right and bottom are from the point: the mean of a distribution over whole strides.
        fractions = ops.softmax(ops.reshape(raw["boxes"], (-1, len(points), 4, YOLO_STEPS)), axis=-1)
        edges = ops.sum(fractions * np.arange(YOLO_STEPS, dtype=np.float32), axis=-1)
        boxes = ops.concatenate([ops.subtract(points, edges[..., :2]), ops.add(points, edges[..., 2:])], axis=-1) * strides[:, None]
        scores = raw["classes"]
    else:
        anchors = np.concatenate([np.asarray(level) for level in detector.anchor_generator(image_shape=(*size_hw, 3)).values()])
        centre, size = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
        # keras-cv's deltas are y, x, height, width, and its variances 0.1, 0.1, 0.2, 0.2.
        y, x, height, width = (raw["box"][..., i : i + 1] for i in range(4))
        middle = ops.concatenate([x, y], axis=-1) * 0.1 * size + centre
        half = ops.exp(ops.concatenate([width, height], axis=-1) * 0.2) * size / 2
        boxes = ops.concatenate([middle - half, middle + half], axis=-1)
        scores = ops.sigmoid(raw["classification"])
    return keras.Model(detector.inputs[0], ops.concatenate([boxes, scores], axis=-1), name=kind)
