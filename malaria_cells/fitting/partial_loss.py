"""The loss and the accuracy of labels of which some are sets of classes (see `partial_labels`)."""

from collections.abc import Sequence

import keras
from keras import ops


@keras.saving.register_keras_serializable("malaria_cells")
class PartialLabelCrossentropy(keras.losses.Loss):
    """Categorical cross-entropy where a label may also be a set of classes, whose probability is the sum of its classes'.

    -sum_c y_c log p_c - sum_k y_(C+k) log(sum of p_c over set k) is linear in the labels, so that mixed and smoothed ones have their
    usual meaning. Without a set among a row's labels it is Keras's loss.

    Args:
        members: which classes each set has, bool (n_sets, n_classes).
        label_smoothing: fraction of a label that is spread over all classes; sets get nothing of it.
        focal: alpha and gamma of the focal loss (Lin et al. 2017, arXiv:1708.02002), which for a set goes by the set's probability;
            None: none.
    """

    def __init__(  # type: ignore[no-untyped-def]
        self, members: Sequence[Sequence[bool]], label_smoothing: float = 0.0, focal: Sequence[float] | None = None, **kwargs
    ):
        super().__init__(**{"name": "partial_label_crossentropy", **kwargs})
        self.members = [[bool(m) for m in row] for row in members]
        self.label_smoothing = label_smoothing
        self.focal = None if focal is None else tuple(focal)

    def call(self, y_true, y_pred):  # type: ignore[no-untyped-def]
        """Loss of each row: labels (b, n_classes + n_sets), probabilities (b, n_classes); (b,)."""
        n_classes = y_pred.shape[-1]
        labels = ops.cast(y_true, y_pred.dtype) * (1 - self.label_smoothing)
        of_classes, of_sets = labels[:, :n_classes] + self.label_smoothing / n_classes, labels[:, n_classes:]
        in_sets = ops.matmul(y_pred, ops.transpose(ops.cast(ops.convert_to_tensor(self.members), y_pred.dtype)))
        if self.focal is not None:
            return _focal(of_classes, y_pred, *self.focal) + _focal(of_sets, in_sets, *self.focal)
        # Keras computes it from the logits, if it finds them, by a gradient that is right for labels that sum to 1 alone.
        total = ops.sum(of_classes, axis=-1)
        certain = total * ops.categorical_crossentropy(of_classes / ops.maximum(total, keras.config.epsilon())[:, None], y_pred)
        return certain - ops.sum(of_sets * ops.log(_clipped(in_sets)), axis=-1)

    def get_config(self):  # type: ignore[no-untyped-def]
        """Constructor arguments."""
        own = {"members": self.members, "label_smoothing": self.label_smoothing, "focal": self.focal}
        return {**super().get_config(), **own}


class PartialLabelAccuracy(keras.metrics.MeanMetricWrapper):
    """Fraction of the rows whose most likely class is the label or one of its classes; of mixed labels the largest fraction counts.

    Args:
        allowed: classes that each label allows, bool (n_classes + n_sets, n_classes).
    """

    def __init__(self, allowed: Sequence[Sequence[bool]], name: str = "accuracy", **kwargs):  # type: ignore[no-untyped-def]
        def is_right(y_true, y_pred):  # type: ignore[no-untyped-def]
            of_row = ops.take(ops.cast(ops.convert_to_tensor(allowed), y_pred.dtype), ops.argmax(y_true, axis=-1), axis=0)
            return ops.sum(of_row * ops.one_hot(ops.argmax(y_pred, axis=-1), y_pred.shape[-1], dtype=y_pred.dtype), axis=-1)

        super().__init__(is_right, name=name, **kwargs)


def _focal(labels, probabilities, alpha: float, gamma: float):  # type: ignore[no-untyped-def]
    clipped = _clipped(probabilities)
    return -ops.sum(alpha * ops.power(1 - clipped, gamma) * labels * ops.log(clipped), axis=-1)


def _clipped(probabilities):  # type: ignore[no-untyped-def]
    return ops.clip(probabilities, keras.config.epsilon(), 1 - keras.config.epsilon())
