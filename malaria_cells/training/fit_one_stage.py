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
from malaria_cells.data.boxes import WORKING_CELL_SIZE
from malaria_cells.data.dataset import DataSet
from malaria_cells.data.images import read_image
from malaria_cells.data.pipeline import class_weights
from malaria_cells.fitting.callbacks import LearningRate, ProgressLines, StateCheckpoint
from malaria_cells.fitting.fit import fit
from malaria_cells.fitting.recipe import make_optimizer
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.one_stage_detector import letterbox
from malaria_cells.models import one_stage_networks
from malaria_cells.proposals.learned.annotated_sizes import annotated_cell_sizes

MAX_SIZE = 1024  # pixels; largest side of the input that is chosen without `detector_size`
NO_BOX = -1.0  # padding value of keras-cv for absent boxes and classes
CHECKPOINTS = 3  # epochs whose weights are stored unless `keep_checkpoints` is set


@dataclass(frozen=True)
class LetterboxedImages:
    """Letterboxed images with their boxes, padded to the same number per image.

    Attributes:
        pixels: uint8 (n, H, W, 3).
        boxes_xyxy: float32 (n, max_boxes, 4) in pixels of the letterboxed images, padded with `NO_BOX`.
        class_ids: float32 (n, max_boxes), padded with `NO_BOX`.
    """

    pixels: np.ndarray
    boxes_xyxy: np.ndarray
    class_ids: np.ndarray


def input_size(config: Config, train: AnnotationSet) -> tuple[int, int]:
    """Return height and width of the network's input: `detector_size`, or a size at which the median cell has `WORKING_CELL_SIZE`."""
    size_hw = config.detector_size
    if size_hw is None:
        factors = WORKING_CELL_SIZE / np.array(annotated_cell_sizes(train, train.median_cell_size))
        width, height = np.median(np.array([p.size_wh for p in train.images]) * factors[:, None], axis=0)
        size_hw = (min(round(height), MAX_SIZE), min(round(width), MAX_SIZE))
    height, width = (max(-(-size // one_stage_networks.MULTIPLE), 1) * one_stage_networks.MULTIPLE for size in size_hw)
    return height, width


def train_one_stage(data: DataSet, config: Config, run: RunState) -> tuple[keras.Model, tuple[int, int]]:
    """Train the detector that the config names, and load the weights of its best epoch (lowest ``val_loss``).

    Args:
        data: the data set; its training and validation parts are used.
        config: the recipe.
        run: state of the run; epochs that it already holds are not run again.

    Returns:
        The model for inference (`models.one_stage_networks.for_use`), and height and width of its input.

    Raises:
        InputError: the loss became NaN or infinite.
    """
    keras.utils.set_random_seed(config.random_state)
    size_hw = input_size(config, data.train)
    n_labels = len(data.train.labels)
    max_boxes = max(len(p.cells_xyxy) for part in (data.train, data.validation) for p in part.images)
    train, validation = (_letterboxed(part, size_hw, max_boxes) for part in (data.train, data.validation))
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
        batches = _batches(train, config.detector_batch, steps, first_epoch, config.random_state)
        with warnings.catch_warnings():
            # keras-cv's RetinaNet names its input, but calls itself without that name.
            warnings.filterwarnings("ignore", "The structure of `inputs` doesn't match", UserWarning)
            fit(
                model,
                batches,
                validation_data=_plain(validation, config.detector_batch),
                epochs=config.epochs,
                initial_epoch=first_epoch,
                steps_per_epoch=steps,
                callbacks=_callbacks(config, run, steps),
            )
    if run.best_epoch is None or not np.isfinite(run.history[-1]["loss"]):
        raise InputError(f"the loss became NaN; lower `learning_rate` ({config.learning_rate})")
    model.load_weights(run.best_weights)
    return one_stage_networks.for_use(model, config.detector, size_hw), size_hw


def _callbacks(config: Config, run: RunState, steps: int) -> list[keras.callbacks.Callback]:
    checkpoints = StateCheckpoint(run, [], config.keep_checkpoints or CHECKPOINTS, monitor="val_loss", higher_is_better=False)
    return [keras.callbacks.TerminateOnNaN(), LearningRate(), checkpoints, ProgressLines(config.epochs, steps)]


def _weights(data: DataSet, config: Config) -> np.ndarray:
    """Return the square roots of the balanced class weights; weights of a thousand and more would make the loss unstable."""
    n_labels = len(data.train.labels)
    if config.balance == "none":
        return np.ones(n_labels, dtype=np.float32)
    return np.sqrt(class_weights(np.concatenate([p.cell_class_ids for p in data.train.images]), n_labels))


def _letterboxed(part: AnnotationSet, size_hw: tuple[int, int], max_boxes: int) -> LetterboxedImages:
    """Read and letterbox the images of a part."""
    n = len(part)
    pixels = np.zeros((n, *size_hw, 3), dtype=np.uint8)
    boxes = np.full((n, max_boxes, 4), NO_BOX, dtype=np.float32)
    class_ids = np.full((n, max_boxes), NO_BOX, dtype=np.float32)
    for i, image in enumerate(progress(part.images, n, "preparing images", "image")):
        pixels[i], scale = letterbox(read_image(image.path), size_hw)
        count = len(image.cells_xyxy)
        boxes[i, :count], class_ids[i, :count] = image.cells_xyxy * scale, image.cell_class_ids
    return LetterboxedImages(pixels, boxes, class_ids)


def _batches(images: LetterboxedImages, batch_size: int, steps: int, first_epoch: int, seed: int) -> tf.data.Dataset:
    """Return endless augmented batches, determined by seed, epoch and step."""

    def batches() -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        epoch = first_epoch
        while True:
            rng = np.random.default_rng([seed, epoch])
            repeats = -(-steps * batch_size // len(images.pixels))
            order = np.concatenate([rng.permutation(len(images.pixels)) for _ in range(repeats)])
            for step in range(steps):
                rows = order[step * batch_size : (step + 1) * batch_size]
                augmented = [_augmented(images, i, rng) for i in rows]
                pixels, boxes = np.stack([p for p, _ in augmented]), np.stack([b for _, b in augmented])
                yield pixels, {"boxes": boxes, "classes": images.class_ids[rows]}
            epoch += 1

    return tf.data.Dataset.from_generator(batches, output_signature=_signature(images)).prefetch(2)


def _plain(images: LetterboxedImages, batch_size: int) -> tf.data.Dataset:
    """Return the images in batches, in order and without augmentation."""

    def batches() -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        for i in range(0, len(images.pixels), batch_size):
            rows = slice(i, i + batch_size)
            yield images.pixels[rows].astype(np.float32), {"boxes": images.boxes_xyxy[rows], "classes": images.class_ids[rows]}

    dataset = tf.data.Dataset.from_generator(batches, output_signature=_signature(images))
    return dataset.apply(tf.data.experimental.assert_cardinality(-(-len(images.pixels) // batch_size)))


def _signature(images: LetterboxedImages) -> tuple[tf.TensorSpec, dict[str, tf.TensorSpec]]:
    max_boxes = images.class_ids.shape[1]
    truth = {"boxes": tf.TensorSpec((None, max_boxes, 4), tf.float32), "classes": tf.TensorSpec((None, max_boxes), tf.float32)}
    return tf.TensorSpec((None, *images.pixels.shape[1:]), tf.float32), truth


def _augmented(images: LetterboxedImages, i: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and its boxes, randomly flipped in both directions and with random gains of the colour channels."""
    pixels, boxes = images.pixels[i].astype(np.float32), images.boxes_xyxy[i].copy()
    height, width = pixels.shape[:2]
    real = boxes[:, 2] > boxes[:, 0]
    if rng.uniform() < 0.5:
        pixels, boxes[real] = pixels[:, ::-1], boxes[real][:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
    if rng.uniform() < 0.5:
        pixels, boxes[real] = pixels[::-1], boxes[real][:, [0, 3, 2, 1]] * [1, -1, 1, -1] + [0, height, 0, height]
    gain = rng.uniform(0.85, 1.15, 3) * rng.uniform(0.85, 1.15)
    return np.clip(pixels * gain, 0, 255).astype(np.float32), boxes
