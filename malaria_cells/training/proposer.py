"""Trains the network of learned proposals: annotated pictures in, fitted network out.

Annotators miss cells in crowds. A place that looks stained but lies in no box may be such a cell: its share of the loss is
cut to `UNMARKED_WEIGHT`, so that the network learns from the clear field what no cell is; where the picture's edge cuts a
cell off the share is whole, since there annotators leave cells out on purpose. Ignore regions have no share.
"""

import math
from dataclasses import dataclass

import cv2
import keras
import numpy as np
import tensorflow as tf

from malaria_cells.annotations import AnnotationSet, Picture
from malaria_cells.models import centres
from malaria_cells.pictures import read_picture
from malaria_cells.progress import progress
from malaria_cells.proposals.learned import FRAME, STRIDE, WORKING_CELL_SIZE, framed, to_working_scale
from malaria_cells.proposals.magnification import annotated_size
from malaria_cells.proposals.transmission import Field
from malaria_cells.training.callbacks import Lines
from malaria_cells.training.centre_targets import CHANNELS, centre_loss, centre_targets, turned
from malaria_cells.training.fit import fit

CROP = 256  # pixels at the working scale: some 40 cells of a crowded field
UNMARKED_WEIGHT = 0.2
CUT_OFF = 0.35  # a cell whose centre lies this near to the picture's edge, in cell sizes, is cut off by it
RARE_SHARE = 0.35  # of the crops are laid around a cell drawn by class; the network is else least sure of the rarest
# A crop is laid around one cell to learn that one's box: it counts as so many. On the rendered sample's validation part 4 gives the best
# boxes of all cells and 12 the best ones of rare cells; this lies between.
DRAWN_COUNTS_AS = 8
SCALE_JITTER = (0.8, 1.25)
EMA_MOMENTUM = 0.99


@dataclass(frozen=True)
class WorkingPicture:
    """A training picture at the working scale.

    Attributes:
        pixels: uint8 RGB (h, w, 3).
        boxes_xyxy: float32 (n, 4) in its pixels.
        ignored_xyxy: float32 (k, 4).
        weight: float32 (h/4, w/4), share of each place in the loss where there is no centre.
    """

    pixels: np.ndarray
    boxes_xyxy: np.ndarray
    ignored_xyxy: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class RareCells:
    """Where the cells of each class are, so that crops can be laid around rare ones.

    Attributes:
        by_class: for each class present, int64 (n, 2): index of the picture, and of the box in it.
    """

    by_class: tuple[np.ndarray, ...]

    @staticmethod
    def of(train: AnnotationSet) -> "RareCells":
        """Find them."""
        rows = [(i, j, c) for i, p in enumerate(train.pictures) for j, c in enumerate(p.cell_class_ids.tolist())]
        table = np.array(rows, dtype=np.int64).reshape(-1, 3)
        return RareCells(tuple(table[table[:, 2] == c, :2] for c in np.unique(table[:, 2])))

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """A cell, every class being drawn equally often."""
        own = self.by_class[rng.integers(len(self.by_class))]
        picture, box = own[rng.integers(len(own))]
        return int(picture), int(box)


def train_proposer(train: AnnotationSet, cell_size: float, epochs: int, steps: int, batch_size: int, seed: int) -> keras.Model:
    """Fit a network to annotated pictures.

    Args:
        train: the training part alone.
        cell_size: usual longer side of a cell in its pictures in pixels; a picture of another magnification is shown in its own.
        epochs: passes.
        steps: batches a pass.
        batch_size: crops a batch.
        seed: of crops, augmentation and weights.
    """
    keras.utils.set_random_seed(seed)
    keras.mixed_precision.set_global_policy("float32")  # a heat map's small values need it, whatever a training before has set
    model = centres.build()
    total = steps * epochs
    warm_up = max(total // 20, 1)
    rate = keras.optimizers.schedules.CosineDecay(2e-4, max(total - warm_up, 1), warmup_target=2e-3, warmup_steps=warm_up)
    model.compile(optimizer=keras.optimizers.AdamW(rate, use_ema=True, ema_momentum=EMA_MOMENTUM, clipnorm=5.0), loss=centre_loss)
    pictures = [_prepared(p, cell_size) for p in progress(train.pictures, len(train), "preparing pictures", "image")]
    rare = RareCells.of(train)
    batches = _batches(pictures, rare, batch_size, seed)
    fit(model, batches, epochs=epochs, steps_per_epoch=steps, callbacks=[Lines(epochs, steps)])
    model.optimizer.finalize_variable_values(model.trainable_variables)
    _settle_statistics(model, _batches(pictures, rare, batch_size, seed + 1), batch_size)
    return model


def _prepared(picture: Picture, usual: float) -> WorkingPicture:
    cell_size = annotated_size(picture, usual)
    small = to_working_scale(read_picture(picture.path), cell_size)
    scale = np.float32(WORKING_CELL_SIZE / cell_size)
    field = Field.of(small, WORKING_CELL_SIZE)
    pixels = framed(small)
    short = [max(CROP - n, 0) for n in pixels.shape[:2]]
    if any(short):
        pixels = cv2.copyMakeBorder(pixels, 0, short[0], 0, short[1], cv2.BORDER_CONSTANT, value=(0, 0, 0))
    boxes = picture.cells_xyxy * scale + FRAME
    unmarked = np.zeros(pixels.shape[:2], dtype=np.float32)
    stained = field.transmission < field.threshold
    rim = int(CUT_OFF * WORKING_CELL_SIZE)
    inner = np.s_[rim : small.shape[0] - rim, rim : small.shape[1] - rim]
    unmarked[FRAME : FRAME + small.shape[0], FRAME : FRAME + small.shape[1]][inner] = stained[inner]
    for left, top, right, bottom in np.rint(boxes).astype(int):
        unmarked[top:bottom, left:right] = 0
    size = (-(-pixels.shape[1] // STRIDE), -(-pixels.shape[0] // STRIDE))
    weight = 1 - (1 - UNMARKED_WEIGHT) * cv2.resize(unmarked, size, interpolation=cv2.INTER_AREA)
    return WorkingPicture(pixels, boxes, picture.ignored_xyxy * scale + FRAME, weight.astype(np.float32))


def _batches(pictures: list[WorkingPicture], rare: RareCells, batch_size: int, seed: int) -> tf.data.Dataset:
    def crop(number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([seed, int(number)])
        if rng.uniform() < RARE_SHARE:
            picture, box = rare.draw(rng)
            return _crop(pictures[picture], rng, box)
        return _crop(pictures[rng.integers(len(pictures))], rng)

    def to_tensors(number):  # type: ignore[no-untyped-def]
        pixels, target = tf.numpy_function(crop, [number], (tf.float32, tf.float32))
        pixels.set_shape((CROP, CROP, 3))
        target.set_shape((CROP // STRIDE, CROP // STRIDE, CHANNELS))
        return pixels, target

    return tf.data.Dataset.counter().map(to_tensors, num_parallel_calls=2, deterministic=True).batch(batch_size).prefetch(4)


def _crop(picture: WorkingPicture, rng: np.random.Generator, around: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A square of the picture, enlarged or shrunk a little, turned, mirrored, its colours moved; and its targets.

    Args:
        picture: where from.
        rng: draws everything.
        around: index of a cell that the square shall hold, anywhere in it; None: any square.
    """
    height, width = picture.pixels.shape[:2]
    side = int(min(CROP / rng.uniform(*SCALE_JITTER), height, width))
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    if around is not None:
        x, y = picture.boxes_xyxy[around].reshape(2, 2).mean(axis=0) - rng.uniform(0.1, 0.9, 2) * side
        top, left = int(np.clip(y, 0, height - side)), int(np.clip(x, 0, width - side))
    scale = CROP / side
    pixels = cv2.resize(picture.pixels[top : top + side, left : left + side], (CROP, CROP), interpolation=cv2.INTER_LINEAR)
    places = CROP // STRIDE
    low, high = (
        slice(top // STRIDE, max((top + side) // STRIDE, top // STRIDE + 1)),
        slice(left // STRIDE, max((left + side) // STRIDE, left // STRIDE + 1)),
    )
    weight = cv2.resize(picture.weight[low, high], (places, places), interpolation=cv2.INTER_LINEAR)
    corner = np.array([left, top, left, top], dtype=np.float32)
    importance = np.ones(len(picture.boxes_xyxy))
    if around is not None:
        importance[around] = DRAWN_COUNTS_AS
    target = centre_targets((picture.boxes_xyxy - corner) * scale, importance, (picture.ignored_xyxy - corner) * scale, weight)
    return turned(_recoloured(pixels, rng), target, rng)


def _recoloured(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    frame = (pixels == 0).all(axis=2)
    gain = rng.uniform(0.85, 1.15, 3) * rng.uniform(0.85, 1.15)
    mean = pixels.mean(axis=(0, 1))
    moved = (pixels - mean) * rng.uniform(0.8, 1.25) + mean
    if rng.uniform() < 0.3:
        moved = cv2.GaussianBlur(moved, (0, 0), rng.uniform(0.4, 1.2))
    recoloured = np.clip(moved * gain, 0, 255).astype(np.float32)
    recoloured[frame] = 0
    return recoloured


def _settle_statistics(model: keras.Model, batches: tf.data.Dataset, batch_size: int) -> None:
    """Let the statistics of the batch normalisation follow the averaged weights."""

    @tf.function
    def look(pixels):  # type: ignore[no-untyped-def]
        model(pixels, training=True)

    for pixels, _ in batches.take(math.ceil(400 / batch_size)):
        look(pixels)
