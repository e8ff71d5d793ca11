"""Trains the network of learned proposals: annotated images in, fitted network out (see `working_images` for what it is shown)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.fitting.callbacks import ProgressLines
from malaria_cells.fitting.fit import fit
from malaria_cells.proposals.learned import centre_network
from malaria_cells.proposals.learned.prediction import STRIDE
from malaria_cells.proposals.learned.targets import CHANNELS, centre_loss
from malaria_cells.proposals.learned.training_images import CROP, Preprocessing, WorkingImage, crop, working_images

RARE_FRACTION = 0.35  # of the crops are laid around a cell drawn by class; the network is else least sure of the rarest
EMA_MOMENTUM = 0.99
SET_POWER = 0.5  # data sets are drawn in proportion to their cells to this power, as classes are: the largest shall not be all there is
LEARNING_RATE = 2e-3  # the highest
FURTHER = 0.3  # of it, where a trained network is trained on
SETTLED_BY = 400  # crops, by which statistics are measured anew after a training


@dataclass(frozen=True)
class Draws:
    """Which image a crop is of, and around which cell.

    Attributes:
        fractions: float (n_sets,), how often each data set is drawn.
        images: for each data set, int64 (n,), indices of its images, and float (n,), how often each is drawn.
        by_class: for each data set and each class that it has, int64 (n, 2): index of the image, and of the box in it.
    """

    fractions: np.ndarray
    images: tuple[tuple[np.ndarray, np.ndarray], ...]
    by_class: tuple[tuple[np.ndarray, ...], ...]

    @staticmethod
    def of(train: AnnotationSet) -> "Draws":
        """From a training part; data sets without a cell teach only what is none."""
        sets = [np.array(own) for own in _indices_by_set(train)]
        cells = np.array([sum(train.images[i].weight * max(len(train.images[i].cells_xyxy), 1) for i in own) for own in sets])
        fractions = cells**SET_POWER
        weights = [np.array([train.images[i].weight for i in own]) for own in sets]
        images = tuple((own, w / w.sum()) for own, w in zip(sets, weights, strict=True))
        return Draws(fractions / fractions.sum(), images, tuple(tuple(_cells_by_class(train, own)) for own in sets))

    def draw(self, rng: np.random.Generator) -> tuple[int, int | None]:
        """An image, and a cell in it or None; where a cell is drawn, every class of its data set is equally likely."""
        which = int(rng.choice(len(self.fractions), p=self.fractions)) if len(self.fractions) > 1 else 0
        classes = self.by_class[which]
        if rng.uniform() < RARE_FRACTION and classes:
            cells = classes[rng.integers(len(classes))]
            image, box = cells[rng.integers(len(cells))]
            return int(image), int(box)
        indices, weights = self.images[which]
        even = bool((weights == weights[0]).all())
        return int(indices[rng.integers(len(indices))] if even else rng.choice(indices, p=weights)), None


def _indices_by_set(train: AnnotationSet) -> Iterator[list[int]]:
    names = [p.data_set for p in train.images]
    for name in dict.fromkeys(names):
        yield [i for i, own in enumerate(names) if own == name]


def _cells_by_class(train: AnnotationSet, indices: np.ndarray) -> Iterator[np.ndarray]:
    rows = [(i, j, c) for i in indices.tolist() for j, c in enumerate(train.images[i].cell_class_ids.tolist())]
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    for c in np.unique(table[:, 2]):
        yield table[table[:, 2] == c, :2]


@dataclass(frozen=True)
class Schedule:
    """How long a proposer is trained.

    Attributes:
        epochs: number of epochs.
        steps: batches per epoch.
        batch_size: crops a batch.
    """

    epochs: int
    steps: int
    batch_size: int


def train_proposer(
    train: AnnotationSet, schedule: Schedule, preprocessing: Preprocessing, seed: int, start: keras.Model | None = None
) -> keras.Model:
    """Fit a network to annotated images.

    Args:
        train: the training part alone; an image of another magnification than its data set's is shown in its own.
        schedule: how long.
        preprocessing: stain normalisation and augmentation of the images.
        seed: of crops, augmentation and weights.
        start: a network to go on from, at a lower rate; it is changed. None: a new one.
    """
    keras.utils.set_random_seed(seed)
    keras.mixed_precision.set_global_policy("float32")  # a heat map's small values need it, whatever a training before has set
    model = centre_network.build() if start is None else start
    highest = LEARNING_RATE if start is None else FURTHER * LEARNING_RATE
    total = schedule.steps * schedule.epochs
    warm_up = max(total // 20, 1)
    rate = keras.optimizers.schedules.CosineDecay(highest / 10, max(total - warm_up, 1), warmup_target=highest, warmup_steps=warm_up)
    model.compile(optimizer=keras.optimizers.AdamW(rate, use_ema=True, ema_momentum=EMA_MOMENTUM, clipnorm=5.0), loss=centre_loss)
    images, draws = working_images(train, preprocessing.stain), Draws.of(train)

    def batches(seed: int) -> tf.data.Dataset:
        return _batches(images, draws, preprocessing.policy, seed).batch(schedule.batch_size).prefetch(4)

    fit(
        model,
        batches(seed),
        epochs=schedule.epochs,
        steps_per_epoch=schedule.steps,
        callbacks=[ProgressLines(schedule.epochs, schedule.steps)],
    )
    model.optimizer.finalize_variable_values(model.trainable_variables)
    _settle_statistics(model, batches(seed + 1), schedule.batch_size)
    return model


def _batches(images: list[WorkingImage], draws: Draws, policy: str, seed: int) -> tf.data.Dataset:
    def one(number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([seed, int(number)])
        image, around = draws.draw(rng)
        return crop(images[image], rng, policy, around)

    def to_tensors(number):  # type: ignore[no-untyped-def]
        pixels, target = tf.numpy_function(one, [number], (tf.float32, tf.float32))
        pixels.set_shape((CROP, CROP, 3))
        target.set_shape((CROP // STRIDE, CROP // STRIDE, CHANNELS))
        return pixels, target

    return tf.data.Dataset.counter().map(to_tensors, num_parallel_calls=2, deterministic=True)


def _settle_statistics(model: keras.Model, batches: tf.data.Dataset, batch_size: int) -> None:
    """Let the statistics of the batch normalisation follow the averaged weights."""

    @tf.function
    def infer(pixels):  # type: ignore[no-untyped-def]
        model(pixels, training=True)

    for pixels, _ in batches.take(math.ceil(SETTLED_BY / batch_size)):
        infer(pixels)
