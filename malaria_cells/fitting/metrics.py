"""Metric by which epochs are compared."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("malaria_cells")
class MacroF1(keras.metrics.Metric):
    """Mean F1 of the classes that occur in the ground truth.

    Unlike `keras.metrics.F1Score`, it accepts class ids or soft labels (the class with the largest fraction counts), leaves out absent
    classes instead of counting them as 0, and can correct for training batches in which rare classes are over-sampled.

    Args:
        n_classes: number of classes; with two, predictions may be (b, 1), the output of one sigmoid unit.
        prior_ratio: for each class, its natural frequency divided by its frequency in the training batches. Probabilities are
            multiplied by it before the class is chosen (Saerens et al. 2002). None: all 1.
        n_sets: number of partial labels (sets of classes), whose ids follow those of the classes (see `partial_labels`). Rows with such
            a label are left out, since their class is not known.
    """

    def __init__(self, n_classes: int, prior_ratio: list[float] | None = None, name: str = "macro_f1", n_sets: int = 0, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.n_classes = n_classes
        self.prior_ratio = prior_ratio or [1.0] * n_classes
        self.n_sets = n_sets
        self.confusion = self.add_weight(name="confusion", shape=(n_classes, n_classes), initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch to the confusion matrix; `sample_weight` is ignored."""
        if len(y_true.shape) == 2 and y_true.shape[-1] == self.n_classes + self.n_sets:
            y_true = ops.argmax(y_true, axis=-1)
        y_true = ops.cast(ops.round(ops.reshape(ops.cast(y_true, self.dtype), (-1,))), "int32")
        both = ops.concatenate([1 - y_pred, y_pred], axis=-1) if y_pred.shape[-1] == 1 else y_pred
        predicted = ops.argmax(both * ops.convert_to_tensor(self.prior_ratio, dtype=both.dtype), axis=-1)
        pairs = ops.one_hot(y_true * self.n_classes + ops.cast(predicted, "int32"), self.n_classes**2)
        if self.n_sets:
            pairs = pairs * ops.cast(y_true < self.n_classes, pairs.dtype)[:, None]
        self.confusion.assign_add(ops.cast(ops.reshape(ops.sum(pairs, axis=0), (self.n_classes, self.n_classes)), self.dtype))

    def result(self) -> Any:
        """Return the mean F1, 0 to 1."""
        correct = ops.diagonal(self.confusion)
        truth = ops.sum(self.confusion, axis=1)
        f1 = 2 * correct / ops.maximum(truth + ops.sum(self.confusion, axis=0), 1)
        present = ops.cast(truth > 0, f1.dtype)
        return ops.sum(f1 * present) / ops.maximum(ops.sum(present), 1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "n_classes": self.n_classes, "prior_ratio": self.prior_ratio, "n_sets": self.n_sets}
