"""Trains the screening head of a network of learned proposals (`screening_network`), with the classifier as its teacher.

The teacher's probabilities are better targets than labels alone (Hinton et al. 2015, arXiv:1503.02531): they also tell how doubtful a cell
is, and which candidates are no cells. Where a cell is annotated with another than the common class, the annotation counts, since such a
cell must not be ruled out even if the teacher misses it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import KerasTensor, ops

from malaria_cells.proposals.learned.prediction import PLACE_CHANNELS, SCREENING_CHANNELS, STRIDE
from malaria_cells.proposals.learned.screening_network import with_screening
from malaria_cells.proposals.learned.training import Crops, Draws, Schedule, fit_on_crops
from malaria_cells.proposals.learned.training_images import CROP, random_window, varied

# Augmentation of the colours (`training_images.Preprocessing`). The head is used on images like those of the training alone. With the blur
# and noise of other laboratories' images it lost small parasites: to keep 98 % of iml's infected cells, half of all candidates had
# to be classified, and a third without.
POLICY = "colours"
RARE_FRACTION = 0.6  # fraction of the crops around a candidate drawn uniformly by class
LEARNING_RATE = 3e-3  # peak learning rate
COMMON_WEIGHT = 0.2  # weight in the loss of candidates that are probably common cells or background, relative to the others
BESIDE_WEIGHT = 0.1  # weight of the eight grid cells beside a candidate's own: another view may place its centre there
OTHER = 2  # channel of the probability of any other class, see `screening_network`


@dataclass(frozen=True)
class ScreenedImage:
    """A training image with its candidates.

    Attributes:
        pixels: uint8 RGB (h, w, 3) at the working scale, padded.
        boxes_xyxy: the candidates, float32 (n, 4) in its pixels.
        targets: float32 (n, 3): probability of the common class, of background, and of any other class.
        class_ids: class of each candidate for the sampling, int64 (n,).
        data_set: name of the image's data set.
        weight: sampling weight of the image in its data set.
    """

    pixels: np.ndarray
    boxes_xyxy: np.ndarray
    targets: np.ndarray
    class_ids: np.ndarray
    data_set: str = ""
    weight: float = 1.0


def train_screening(network: keras.Model, images: Sequence[ScreenedImage], schedule: Schedule, seed: int) -> keras.Model:
    """Train a new screening head.

    Args:
        network: the trained network of learned proposals, which is not changed.
        images: the training images.
        schedule: length of the training.
        seed: seed of crops, augmentation and initial weights.

    Returns:
        The network with the head.
    """
    keras.utils.set_random_seed(seed)
    keras.mixed_precision.set_global_policy("float32")  # an earlier training may have set another policy
    model = with_screening(network)
    draws = Draws.of_cells([i.data_set for i in images], [i.weight for i in images], [i.class_ids for i in images], RARE_FRACTION)

    def sample(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        image, around = draws.draw(rng)
        return screening_crop(images[image], rng, around)

    fit_on_crops(model, Crops(sample, SCREENING_CHANNELS + 1), screening_loss, schedule, LEARNING_RATE, seed)
    model.trainable = True
    return model


def screening_crop(image: ScreenedImage, rng: np.random.Generator, around: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Take a random crop with random scale, flips, rotation and colours, and compute its targets.

    Args:
        image: the image.
        rng: random number generator of all random choices.
        around: index of a candidate whose centre lies in the crop; None: any crop.

    Returns:
        Pixels, float32 (`CROP`, `CROP`, 3), and float32 (`CROP` / 4, `CROP` / 4, 4): three probabilities, and their weight in the loss.
    """
    centre = None if around is None else image.boxes_xyxy[around].reshape(2, 2).mean(axis=0)
    window = random_window(image.pixels, rng, centre)
    target = _targets((image.boxes_xyxy - window.corner) * window.scale, image.targets)
    pixels = varied(window.pixels, rng, POLICY)
    if rng.uniform() < 0.5:
        pixels, target = pixels[:, ::-1], target[:, ::-1]
    if rng.uniform() < 0.5:
        pixels, target = pixels[::-1], target[::-1]
    if rng.uniform() < 0.5:
        pixels, target = pixels.transpose(1, 0, 2), target.transpose(1, 0, 2)
    return np.ascontiguousarray(pixels), np.ascontiguousarray(target)


def _targets(boxes_xyxy: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The targets of a crop for candidates in its pixels; a grid cell beside several candidates takes the last one's."""
    side = CROP // STRIDE
    target = np.zeros((side, side, SCREENING_CHANNELS + 1), dtype=np.float32)
    columns, rows = np.floor((boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 / STRIDE).astype(int).T
    inside = (columns >= 1) & (rows >= 1) & (columns < side - 1) & (rows < side - 1)
    columns, rows, probabilities = columns[inside], rows[inside], probabilities[inside]
    weight = np.where(probabilities[:, OTHER] > 0.5, 1.0, COMMON_WEIGHT).astype(np.float32)
    values = np.column_stack([probabilities, weight])
    beside = values * np.array([1, 1, 1, BESIDE_WEIGHT], dtype=np.float32)
    for down, across in [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]:
        target[rows + down, columns + across] = beside
    target[rows, columns] = values
    return target


def screening_loss(y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
    """Cross-entropy of the screening head, averaged over the weights.

    Args:
        y_true: (b, h, w, 4): three probabilities and a weight, see `screening_crop`.
        y_pred: (b, h, w, 8), the output of the network.
    """
    probabilities = ops.clip(y_pred[..., PLACE_CHANNELS:], 1e-6, 1.0)
    weight = y_true[..., SCREENING_CHANNELS]
    loss = -ops.sum(y_true[..., :SCREENING_CHANNELS] * ops.log(probabilities), axis=-1)
    return ops.sum(loss * weight) / ops.maximum(ops.sum(weight), 1e-6)
