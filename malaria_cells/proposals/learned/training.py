"""Trains the learned proposal network on annotated images (for the crops see `training_images`)."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import KerasTensor

from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.fitting.callbacks import ProgressLines
from malaria_cells.fitting.fit import fit
from malaria_cells.proposals.learned import centre_network
from malaria_cells.proposals.learned.prediction import STRIDE
from malaria_cells.proposals.learned.targets import CHANNELS, centre_loss
from malaria_cells.proposals.learned.training_images import CROP, Preprocessing, crop, working_images

RARE_FRACTION = (
    0.35  # fraction of the crops that hold a cell drawn uniformly by class; without them the rarest classes get the lowest scores
)
EMA_MOMENTUM = 0.99  # of the exponential moving average of the weights
SET_POWER = 0.5  # sampling probability of a data set is proportional to n_cells**SET_POWER, so that the largest does not dominate
LEARNING_RATE = 2e-3  # peak learning rate
FINE_TUNING_RATE = 0.3  # fraction of the learning rate with which a trained network is fine-tuned
STATISTICS_CROPS = 400  # crops from which the batch normalisation statistics are computed after training


@dataclass(frozen=True)
class Draws:
    """Sampling of the image of a crop, and of the cell around which the crop is taken.

    Attributes:
        fractions: float (n_sets,), sampling probability of each data set.
        images: for each data set, indices of its images, int64 (n,), and their sampling probabilities, float (n,).
        by_class: for each data set and each class in it, int64 (n, 2): index of the image, and of the box in the image.
        rare_fraction: fraction of the draws that are of a box.
    """

    fractions: np.ndarray
    images: tuple[tuple[np.ndarray, np.ndarray], ...]
    by_class: tuple[tuple[np.ndarray, ...], ...]
    rare_fraction: float = RARE_FRACTION

    @staticmethod
    def of(train: AnnotationSet) -> "Draws":
        """Create the sampling from a training part. Data sets without cells are sampled too, as negatives."""
        images = train.images
        return Draws.of_cells([p.data_set for p in images], [p.weight for p in images], [p.cell_class_ids for p in images], RARE_FRACTION)

    @staticmethod
    def of_cells(data_sets: Sequence[str], weights: Sequence[float], class_ids: Sequence[np.ndarray], rare_fraction: float) -> "Draws":
        """Create the sampling from, for each image, its data set, its weight there, and the class of each box, int64 (n,)."""
        sets = [[i for i, other in enumerate(data_sets) if other == name] for name in dict.fromkeys(data_sets)]
        cells = np.array([sum(weights[i] * max(len(class_ids[i]), 1) for i in indices) for indices in sets])
        fractions = cells**SET_POWER
        set_weights = [np.array([weights[i] for i in indices]) for indices in sets]
        images = tuple((np.array(indices), w / w.sum()) for indices, w in zip(sets, set_weights, strict=True))
        by_class = tuple(tuple(_cells_by_class(class_ids, indices)) for indices in sets)
        return Draws(fractions / fractions.sum(), images, by_class, rare_fraction)

    def draw(self, rng: np.random.Generator) -> tuple[int, int | None]:
        """Draw an image, and sometimes a cell in it.

        Args:
            rng: random number generator.

        Returns:
            Index of the image, and index of the box in it or None. If a box is drawn, all classes of its data set are equally likely.
        """
        which = int(rng.choice(len(self.fractions), p=self.fractions)) if len(self.fractions) > 1 else 0
        classes = self.by_class[which]
        if rng.uniform() < self.rare_fraction and classes:
            cells = classes[rng.integers(len(classes))]
            image, box = cells[rng.integers(len(cells))]
            return int(image), int(box)
        indices, weights = self.images[which]
        is_uniform = bool((weights == weights[0]).all())
        return int(indices[rng.integers(len(indices))] if is_uniform else rng.choice(indices, p=weights)), None


def _cells_by_class(class_ids: Sequence[np.ndarray], indices: Sequence[int]) -> Iterator[np.ndarray]:
    rows = [(i, j, c) for i in indices for j, c in enumerate(class_ids[i].tolist())]
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    for c in np.unique(table[:, 2]):
        yield table[table[:, 2] == c, :2]


@dataclass(frozen=True)
class Schedule:
    """Length of the training of a proposal network.

    Attributes:
        epochs: number of epochs.
        steps: batches per epoch.
        batch_size: crops per batch.
    """

    epochs: int
    steps: int
    batch_size: int = 8


def train_proposer(
    train: AnnotationSet, schedule: Schedule, preprocessing: Preprocessing, seed: int, start: keras.Model | None = None
) -> keras.Model:
    """Train a proposal network on annotated images.

    Args:
        train: the training part. An image whose cell size differs from that of its data set is scaled by its own cell size.
        schedule: length of the training.
        preprocessing: stain normalisation and augmentation of the images.
        seed: seed of crops, augmentation and initial weights.
        start: trained network to fine-tune in place at a lower learning rate; None: train a new network.

    Returns:
        The trained network.
    """
    keras.utils.set_random_seed(seed)
    keras.mixed_precision.set_global_policy(
        "float32"
    )  # the small values of the heat map need float32; an earlier training may have set another policy
    model = centre_network.build() if start is None else start
    images, draws = working_images(train, preprocessing.stain), Draws.of(train)

    def sample(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        image, around = draws.draw(rng)
        return crop(images[image], rng, preprocessing.policy, around)

    peak = LEARNING_RATE if start is None else FINE_TUNING_RATE * LEARNING_RATE
    fit_on_crops(model, Crops(sample, CHANNELS), centre_loss, schedule, peak, seed)
    return model


@dataclass(frozen=True)
class Crops:
    """Random crops to train on.

    Attributes:
        sample: from a random number generator to the pixels of a crop, float32 (`CROP`, `CROP`, 3), and its target.
        channels: number of channels of a target.
    """

    sample: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
    channels: int


def fit_on_crops(model: keras.Model, crops: Crops, loss: Callable[..., KerasTensor], schedule: Schedule, peak: float, seed: int) -> None:
    """Fit a network of learned proposals in place: warm-up and cosine decay, averaged weights, and normalisation statistics for these.

    Args:
        model: the network; its layers that are not trainable stay as they are.
        crops: what it is trained on.
        loss: of targets and output.
        schedule: length of the training.
        peak: peak learning rate.
        seed: seed of the crops.
    """
    total = schedule.steps * schedule.epochs
    warm_up = max(total // 20, 1)
    rate = keras.optimizers.schedules.CosineDecay(peak / 10, max(total - warm_up, 1), warmup_target=peak, warmup_steps=warm_up)
    model.compile(optimizer=keras.optimizers.AdamW(rate, use_ema=True, ema_momentum=EMA_MOMENTUM, clipnorm=5.0), loss=loss)
    progress = ProgressLines(schedule.epochs, schedule.steps)
    batches = _batches(crops, seed, schedule.batch_size)
    fit(model, batches, epochs=schedule.epochs, steps_per_epoch=schedule.steps, callbacks=[progress])
    model.optimizer.finalize_variable_values(model.trainable_variables)
    _update_statistics(model, _batches(crops, seed + 1, schedule.batch_size), schedule.batch_size)


def _batches(crops: Crops, seed: int, batch_size: int) -> tf.data.Dataset:
    def one(number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return crops.sample(np.random.default_rng([seed, int(number)]))

    def to_tensors(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, target = tf.numpy_function(one, [number], (tf.float32, tf.float32))
        pixels.set_shape((CROP, CROP, 3))
        target.set_shape((CROP // STRIDE, CROP // STRIDE, crops.channels))
        return pixels, target

    return tf.data.Dataset.counter().map(to_tensors, num_parallel_calls=2, deterministic=True).batch(batch_size).prefetch(4)


def _update_statistics(model: keras.Model, batches: tf.data.Dataset, batch_size: int) -> None:
    """Recompute the batch normalisation statistics for the averaged weights."""

    @tf.function
    def infer(pixels: tf.Tensor) -> None:
        model(pixels, training=True)

    for pixels, _ in batches.take(math.ceil(STATISTICS_CROPS / batch_size)):
        infer(pixels)
