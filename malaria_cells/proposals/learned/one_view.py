"""Teaches a network of learned proposals to say at one view what it says on average of four, mirrored ones, in a fourth of the time.

The trained network is its own teacher (self-distillation, Furlanello et al. 2018, arXiv:1805.04770): the student starts from its weights
and learns its mean output for the four views of `prediction.seen_mirrored`.
"""

import keras
import tensorflow as tf
from keras import KerasTensor, ops

from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.fitting.callbacks import ProgressLines
from malaria_cells.fitting.fit import fit
from malaria_cells.proposals.learned.prediction import MIRRORS
from malaria_cells.proposals.learned.training import EMA_MOMENTUM, Draws, Schedule, batches_of_crops
from malaria_cells.proposals.learned.training_images import Preprocessing, working_images

LEARNING_RATE = 4e-4  # peak learning rate; a fifth of the training's
SMALLEST = 1e-4  # probability; nearer to 0 and 1 the heat map is not compared


def teach_one_view(network: keras.Model, train: AnnotationSet, schedule: Schedule, preprocessing: Preprocessing, seed: int) -> keras.Model:
    """Train a copy of a network to answer at one view as the network does on average of four.

    Args:
        network: the trained network, without a screening head; it is not changed.
        train: the training part.
        schedule: length of the training.
        preprocessing: as in the network's training.
        seed: seed of crops and augmentation.

    Returns:
        The taught copy.
    """
    student = keras.models.clone_model(network)
    student.set_weights(network.get_weights())
    norms = [layer for layer in student.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:  # the statistics are those of training images already
        layer.trainable = False
    total = schedule.steps * schedule.epochs
    warm_up = max(total // 20, 1)
    rate = keras.optimizers.schedules.CosineDecay(
        LEARNING_RATE / 10, max(total - warm_up, 1), warmup_target=LEARNING_RATE, warmup_steps=warm_up
    )
    student.compile(optimizer=keras.optimizers.AdamW(rate, use_ema=True, ema_momentum=EMA_MOMENTUM, clipnorm=5.0), loss=imitation_loss)
    images, draws = working_images(train, preprocessing.stain), Draws.of(train)
    crops = batches_of_crops(images, draws, preprocessing.policy, seed, schedule.batch_size)

    def taught(pixels: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return pixels, mean_of_views(network, pixels)

    progress = ProgressLines(schedule.epochs, schedule.steps)
    fit(student, crops.map(taught).prefetch(2), epochs=schedule.epochs, steps_per_epoch=schedule.steps, callbacks=[progress])
    student.optimizer.finalize_variable_values(student.trainable_variables)
    for layer in norms:
        layer.trainable = True
    return student


def mean_of_views(network: keras.Model, pixels: KerasTensor) -> KerasTensor:
    """Mean output of a network for pixels (b, H, W, 3) and their mirror images: (b, H/4, W/4, 5), as `prediction.seen_mirrored`."""
    views = []
    for axes in MIRRORS:
        grid = network(ops.flip(pixels, axes) if axes else pixels, training=False)
        heat, x, y, size = (ops.flip(part, axes) if axes else part for part in ops.split(grid, [1, 2, 3], axis=-1))
        views.append(ops.concatenate([heat, 1 - x if 2 in axes else x, 1 - y if 1 in axes else y, size], axis=-1))
    return sum(views) / len(views)


def imitation_loss(y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
    """Cross-entropy of the heat maps, less its smallest possible value, plus L1 loss of offset and size by the teacher's heat.

    Args:
        y_true: (b, h, w, 5), the teacher's mean output.
        y_pred: (b, h, w, 5), the student's output.
    """
    heat, own = (ops.clip(y[..., :1], SMALLEST, 1 - SMALLEST) for y in (y_true, y_pred))
    divergence = heat * (ops.log(heat) - ops.log(own)) + (1 - heat) * (ops.log(1 - heat) - ops.log(1 - own))
    shape = heat * ops.abs(y_true[..., 1:] - y_pred[..., 1:])
    return (ops.sum(divergence) + ops.sum(shape)) / ops.sum(heat)
