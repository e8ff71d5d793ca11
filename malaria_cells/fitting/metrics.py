"""The figure that epochs are compared by."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("malaria_cells")
class MacroF1(keras.metrics.Metric):
    """Mean F1 of the classes that occur in the truth.

    Unlike `keras.metrics.F1Score` it takes class ids (or fractions of classes, of which the largest counts), leaves out absent
    classes instead of counting them as 0, and can undo the shift of a training that shows rare classes more often than they are.

    Args:
        n_classes: number of classes; with two, predictions (b, 1) of one sigmoid unit are understood.
        prior_ratio: fraction of each class in life by its fraction in what training shows; probabilities are multiplied by it
            before the class is decided (Saerens et al. 2002). None: all 1.
        n_sets: number of sets of classes, whose labels come after the classes' (see `partial_labels`); rows of a set are left out,
            since no class is right for them.
    """

    def __init__(  # type: ignore[no-untyped-def]
        self, n_classes: int, prior_ratio: list[float] | None = None, name: str = "macro_f1", n_sets: int = 0, **kwargs
    ):
        super().__init__(name=name, **kwargs)
        self.n_classes = n_classes
        self.prior_ratio = prior_ratio or [1.0] * n_classes
        self.n_sets = n_sets
        self.confusion = self.add_weight(name="confusion", shape=(n_classes, n_classes), initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):  # type: ignore[no-untyped-def]
        """Count a batch; `sample_weight` is disregarded: cells are counted as they come."""
        if len(y_true.shape) == 2 and y_true.shape[-1] == self.n_classes + self.n_sets:
            y_true = ops.argmax(y_true, axis=-1)
        y_true = ops.cast(ops.round(ops.reshape(ops.cast(y_true, self.dtype), (-1,))), "int32")
        both = ops.concatenate([1 - y_pred, y_pred], axis=-1) if y_pred.shape[-1] == 1 else y_pred
        predicted = ops.argmax(both * ops.convert_to_tensor(self.prior_ratio, dtype=both.dtype), axis=-1)
        pairs = ops.one_hot(y_true * self.n_classes + ops.cast(predicted, "int32"), self.n_classes**2)
        if self.n_sets:
            pairs = pairs * ops.cast(y_true < self.n_classes, pairs.dtype)[:, None]
        self.confusion.assign_add(ops.cast(ops.reshape(ops.sum(pairs, axis=0), (self.n_classes, self.n_classes)), self.dtype))

    def result(self):  # type: ignore[no-untyped-def]
        """The figure, 0 to 1."""
        right = ops.diagonal(self.confusion)
        truth = ops.sum(self.confusion, axis=1)
        f1 = 2 * right / ops.maximum(truth + ops.sum(self.confusion, axis=0), 1)
        present = ops.cast(truth > 0, f1.dtype)
        return ops.sum(f1 * present) / ops.maximum(ops.sum(present), 1)

    def get_config(self):  # type: ignore[no-untyped-def]
        """Constructor arguments."""
        return {**super().get_config(), "n_classes": self.n_classes, "prior_ratio": self.prior_ratio, "n_sets": self.n_sets}
