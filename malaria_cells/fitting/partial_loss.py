"""Loss and accuracy for partial labels, which are sets of classes (see `partial_labels`)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("malaria_cells")
class PartialLabelCrossentropy(keras.losses.Loss):
    """Categorical cross-entropy in which a label may be a set of classes; its probability is the sum over the classes of the set.

    The loss is -sum_c y_c log p_c - sum_k y_(C+k) log(sum of p_c over set k). It is linear in the labels, so that mixup and label
    smoothing have their usual meaning. For rows without a partial label it equals Keras' loss.

    Args:
        members: classes of each set, bool (n_sets, n_classes).
        label_smoothing: fraction of a label that is spread over all classes; sets receive none of it.
        focal: alpha and gamma of the focal loss (Lin et al. 2017, arXiv:1708.02002), which uses the probability of the set for a set;
            None: cross-entropy.
    """

    def __init__(  # type: ignore[no-untyped-def]
        self, members: Sequence[Sequence[bool]], label_smoothing: float = 0.0, focal: Sequence[float] | None = None, **kwargs
    ):
        super().__init__(**{"name": "partial_label_crossentropy", **kwargs})
        self.members = [[bool(m) for m in row] for row in members]
        self.label_smoothing = label_smoothing
        self.focal = None if focal is None else tuple(focal)

    def call(self, y_true, y_pred):  # type: ignore[no-untyped-def]
        """Return the loss (b,) of labels (b, n_classes + n_sets) and probabilities (b, n_classes)."""
        n_classes = y_pred.shape[-1]
        labels = ops.cast(y_true, y_pred.dtype) * (1 - self.label_smoothing)
        of_classes, of_sets = labels[:, :n_classes] + self.label_smoothing / n_classes, labels[:, n_classes:]
        in_sets = ops.matmul(y_pred, ops.transpose(ops.cast(ops.convert_to_tensor(self.members), y_pred.dtype)))
        if self.focal is not None:
            return _focal(of_classes, y_pred, *self.focal) + _focal(of_sets, in_sets, *self.focal)
        # Keras may compute the loss from logits with a gradient that is only correct for labels that sum to 1, so they are normalised.
        total = ops.sum(of_classes, axis=-1)
        certain = total * ops.categorical_crossentropy(of_classes / ops.maximum(total, keras.config.epsilon())[:, None], y_pred)
        return certain - ops.sum(of_sets * ops.log(_clipped(in_sets)), axis=-1)

    def get_config(self):  # type: ignore[no-untyped-def]
        """Return the constructor arguments."""
        return {**super().get_config(), "members": self.members, "label_smoothing": self.label_smoothing, "focal": self.focal}


class PartialLabelAccuracy(keras.metrics.MeanMetricWrapper):
    """Accuracy for partial labels: a prediction is correct if it is the label or one of the classes of the label.

    Of a mixed label, the part with the largest fraction counts.

    Args:
        allowed: classes that are correct for each label, bool (n_classes + n_sets, n_classes).
    """

    def __init__(self, allowed: Sequence[Sequence[bool]], name: str = "accuracy", **kwargs):  # type: ignore[no-untyped-def]
        def is_correct(y_true, y_pred):  # type: ignore[no-untyped-def]
            allowed_in_row = ops.take(ops.cast(ops.convert_to_tensor(allowed), y_pred.dtype), ops.argmax(y_true, axis=-1), axis=0)
            return ops.sum(allowed_in_row * ops.one_hot(ops.argmax(y_pred, axis=-1), y_pred.shape[-1], dtype=y_pred.dtype), axis=-1)

        super().__init__(is_correct, name=name, **kwargs)


def _focal(labels: Any, probabilities: Any, alpha: float, gamma: float) -> Any:
    clipped = _clipped(probabilities)
    return -ops.sum(alpha * ops.power(1 - clipped, gamma) * labels * ops.log(clipped), axis=-1)


def _clipped(probabilities: Any) -> Any:
    return ops.clip(probabilities, keras.config.epsilon(), 1 - keras.config.epsilon())
