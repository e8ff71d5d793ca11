"""Trains a one-stage detector (see `models.one_stage`): annotated images in, fitted network and its history out."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from malaria_cells.base.errors import InputError
from malaria_cells.base.progress import progress
from malaria_cells.config import Config
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.dataset import DataSet
from malaria_cells.data.images import read_image
from malaria_cells.data.pipeline import class_weights
from malaria_cells.fitting.callbacks import LearningRate, ProgressLines, StateCheckpoint
from malaria_cells.fitting.fit import fit
from malaria_cells.fitting.recipe import make_optimizer
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.one_stage_detector import letterbox
from malaria_cells.models import one_stage_networks
from malaria_cells.proposals.learned.scale import annotated_cell_sizes

WORKING_CELL_SIZE = 40.0  # pixels of the median cell in the network's input, where the config names no size
LARGEST = 1024
NO_BOX = -1.0  # how keras-cv marks places in the table of boxes that hold none
KEPT_CHECKPOINTS = 3


@dataclass(frozen=True)
class LetterboxedImages:
    """Images as the network sees them.

    Attributes:
        pixels: uint8 (n, H, W, 3).
        boxes_xyxy: float32 (n, most, 4) in their pixels, filled up with `NO_BOX`.
        class_ids: float32 (n, most), likewise.
    """

    pixels: np.ndarray
    boxes_xyxy: np.ndarray
    class_ids: np.ndarray


def input_size(config: Config, train: AnnotationSet) -> tuple[int, int]:
    """Height and width of the network's input: as the config says, or so that the median cell has `WORKING_CELL_SIZE`."""
    wanted = config.detector_size
    if wanted is None:
        factors = WORKING_CELL_SIZE / np.array(annotated_cell_sizes(train, train.median_cell_size))
        width, height = np.median(np.array([p.size_wh for p in train.images]) * factors[:, None], axis=0)
        wanted = (min(round(height), LARGEST), min(round(width), LARGEST))
    height, width = (max(-(-n // one_stage_networks.MULTIPLE), 1) * one_stage_networks.MULTIPLE for n in wanted)
    return height, width


def train_one_stage(data: DataSet, config: Config, run: RunState) -> tuple[keras.Model, tuple[int, int]]:
    """Fit the detector that the config names, and leave its best epoch (lowest ``val_loss``) in it.

    Args:
        data: its training and validation parts.
        config: the recipe.
        run: record of the run; epochs that it already holds are not run again.

    Returns:
        The model for use (`models.one_stage.for_use`), and height and width of its input.

    Raises:
        InputError: the training did not end in numbers.
    """
    keras.utils.set_random_seed(config.random_state)
    size_hw = input_size(config, data.train)
    n_labels = len(data.train.labels)
    most = max(len(p.cells_xyxy) for part in (data.train, data.validation) for p in part.images)
    train, validation = (_letterboxed(part, size_hw, most) for part in (data.train, data.validation))
    model = one_stage_networks.build(config.detector, size_hw, n_labels, config.anchors.model_dump())
    steps = config.steps_per_epoch or -(-len(data.train) // config.detector_batch)
    optimizer = make_optimizer(config, steps)
    optimizer.global_clipnorm = 10.0
    model.compile(
        optimizer=optimizer, **one_stage_networks.losses(config.detector, _weights(data, config), config.focal_alpha, config.focal_gamma)
    )
    first_epoch = len(run.history)
    if first_epoch:
        model.optimizer.build(model.trainable_variables)
        model.load_weights(run.weights)
    if first_epoch < config.epochs and not run.stopped:
        keep = config.keep_checkpoints or KEPT_CHECKPOINTS
        batches = _batches(train, config.detector_batch, steps, first_epoch, config.random_state)
        with warnings.catch_warnings():
            # keras-cv's RetinaNet gives its input a name and does not use it when it calls itself.
            warnings.filterwarnings("ignore", "The structure of `inputs` doesn't match", UserWarning)
            fit(
                model,
                batches,
                validation_data=_plain(validation, config.detector_batch),
                epochs=config.epochs,
                initial_epoch=first_epoch,
                steps_per_epoch=steps,
                callbacks=[
                    keras.callbacks.TerminateOnNaN(),
                    LearningRate(),
                    StateCheckpoint(run, [], keep, monitor="val_loss", higher_is_better=False),
                    ProgressLines(config.epochs, steps),
                ],
            )
    if run.best_epoch is None or not np.isfinite(run.history[-1]["loss"]):
        raise InputError(f"the loss became NaN; lower `learning_rate` ({config.learning_rate})")
    model.load_weights(run.best_weights)
    return one_stage_networks.for_use(model, config.detector, size_hw), size_hw


def _weights(data: DataSet, config: Config) -> np.ndarray:
    """Square roots of the balanced class weights: whole ones, of a thousand and more, make the loss jump."""
    n_labels = len(data.train.labels)
    if config.balance == "none":
        return np.ones(n_labels, dtype=np.float32)
    return np.sqrt(class_weights(np.concatenate([p.cell_class_ids for p in data.train.images]), n_labels))


def _letterboxed(part: AnnotationSet, size_hw: tuple[int, int], most: int) -> LetterboxedImages:
    n = len(part)
    pixels = np.zeros((n, *size_hw, 3), dtype=np.uint8)
    boxes = np.full((n, most, 4), NO_BOX, dtype=np.float32)
    class_ids = np.full((n, most), NO_BOX, dtype=np.float32)
    for i, p in enumerate(progress(part.images, n, "preparing images", "image")):
        pixels[i], scale = letterbox(read_image(p.path), size_hw)
        k = len(p.cells_xyxy)
        boxes[i, :k], class_ids[i, :k] = p.cells_xyxy * scale, p.cell_class_ids
    return LetterboxedImages(pixels, boxes, class_ids)


def _batches(images: LetterboxedImages, batch_size: int, steps: int, first_epoch: int, seed: int) -> tf.data.Dataset:
    """Endless augmented batches, fixed by seed, epoch and step."""

    def batches() -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        epoch = first_epoch
        while True:
            rng = np.random.default_rng([seed, epoch])
            rounds = -(-steps * batch_size // len(images.pixels))
            order = np.concatenate([rng.permutation(len(images.pixels)) for _ in range(rounds)])
            for step in range(steps):
                rows = order[step * batch_size : (step + 1) * batch_size]
                drawn = [_turned(images, i, rng) for i in rows]
                pixels, boxes = np.stack([p for p, _ in drawn]), np.stack([b for _, b in drawn])
                yield pixels, {"boxes": boxes, "classes": images.class_ids[rows]}
            epoch += 1

    return tf.data.Dataset.from_generator(batches, output_signature=_signature(images)).prefetch(2)


def _plain(images: LetterboxedImages, batch_size: int) -> tf.data.Dataset:
    def batches() -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        for i in range(0, len(images.pixels), batch_size):
            rows = slice(i, i + batch_size)
            yield images.pixels[rows].astype(np.float32), {"boxes": images.boxes_xyxy[rows], "classes": images.class_ids[rows]}

    found = tf.data.Dataset.from_generator(batches, output_signature=_signature(images))
    return found.apply(tf.data.experimental.assert_cardinality(-(-len(images.pixels) // batch_size)))


def _signature(images: LetterboxedImages):  # type: ignore[no-untyped-def]
    most = images.class_ids.shape[1]
    truth = {"boxes": tf.TensorSpec((None, most, 4), tf.float32), "classes": tf.TensorSpec((None, most), tf.float32)}
    return tf.TensorSpec((None, *images.pixels.shape[1:]), tf.float32), truth


def _turned(images: LetterboxedImages, i: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image mirrored or not in both directions, its colours moved; and its boxes."""
    pixels, boxes = images.pixels[i].astype(np.float32), images.boxes_xyxy[i].copy()
    height, width = pixels.shape[:2]
    real = boxes[:, 2] > boxes[:, 0]
    if rng.uniform() < 0.5:
        pixels, boxes[real] = pixels[:, ::-1], boxes[real][:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
    if rng.uniform() < 0.5:
        pixels, boxes[real] = pixels[::-1], boxes[real][:, [0, 3, 2, 1]] * [1, -1, 1, -1] + [0, height, 0, height]
    gain = rng.uniform(0.85, 1.15, 3) * rng.uniform(0.85, 1.15)
    return np.clip(pixels * gain, 0, 255).astype(np.float32), boxes
