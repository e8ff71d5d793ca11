"""What the network of learned proposals is trained on: images at its working scale, and squares cut out of them with their targets.

Annotators miss cells in crowds. A place that looks stained but lies in no box may be such a cell: its weight in the loss is cut to
`UNMARKED_WEIGHT`, so that the network learns from the clear field what no cell is, and to nothing where there are classes that the
annotators did not mark at all. Where the image's edge cuts a cell off the weight is as high as the annotators are used to leave such
cells out (`habits.border_habit`). Ignore regions have no weight.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from malaria_cells.base.progress import progress
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.augment import LABORATORIES, densities
from malaria_cells.data.images import read_image
from malaria_cells.data.stain import Normalization, normalized
from malaria_cells.proposals.learned.habits import border_habit
from malaria_cells.proposals.learned.prediction import PADDING, STRIDE, WORKING_CELL_SIZE, padded, to_working_scale
from malaria_cells.proposals.learned.scale import annotated_cell_sizes
from malaria_cells.proposals.learned.targets import centre_targets, random_dihedral
from malaria_cells.proposals.transmission import Field

CROP = 256  # pixels at the working scale: some 40 cells of a crowded field
UNMARKED_WEIGHT = 0.2
CUT_OFF = 0.35  # a cell whose centre lies this near to the image's edge, in cell sizes, is cut off by it
# A crop is laid around one cell to learn that one's box: it counts as so many. On the rendered sample's validation part 4 gives the best
# boxes of all cells and 12 the best ones of rare cells; this lies between.
DRAWN_COUNTS_AS = 8
SCALE_JITTER = (0.8, 1.25)


@dataclass(frozen=True)
class Preprocessing:
    """Stain normalisation and augmentation of the training images.

    Attributes:
        stain: normalisation, applied first, see `stain`.
        policy: augmentation of each crop: ``colours``, or ``laboratories`` (`augment.densities`).
    """

    stain: Normalization = "none"
    policy: str = "colours"


@dataclass(frozen=True)
class WorkingImage:
    """A training image at the working scale.

    Attributes:
        pixels: uint8 RGB (h, w, 3).
        boxes_xyxy: float32 (n, 4) in its pixels.
        ignored_xyxy: float32 (k, 4).
        weight: float32 (h/4, w/4), weight of each grid cell in the loss where there is no centre.
    """

    pixels: np.ndarray
    boxes_xyxy: np.ndarray
    ignored_xyxy: np.ndarray
    weight: np.ndarray


def working_images(train: AnnotationSet, stain: Normalization) -> list[WorkingImage]:
    """The images of a training part, in its order."""
    at_edge = {name: _weight_at_edge(own) for name, own in train.by_data_set().items()}
    sized = zip(train.images, annotated_cell_sizes(train, train.median_cell_size), strict=True)
    return [prepared(p, size, at_edge[p.data_set], stain) for p, size in progress(sized, len(train), "preparing images", "image")]


def _weight_at_edge(annotations: AnnotationSet) -> float:
    """Fraction in the loss of what is stained, in no box, and cut off by the image's edge.

    All of it is a lesson where no such cell is annotated, and no more of one than in the middle where all are.
    """
    habit = border_habit(annotations)
    left_out = 1.0 if habit is None else 1 - min(habit, 1.0)
    return UNMARKED_WEIGHT + (1 - UNMARKED_WEIGHT) * left_out


def prepared(image: AnnotatedImage, cell_size: float, weight_at_edge: float, stain: Normalization) -> WorkingImage:
    """One image at the working scale, in its frame.

    Args:
        image: its annotation.
        cell_size: longer side of its median cell in pixels.
        weight_at_edge: weight in the loss of stained areas outside boxes that the edge of the image cuts off.
        stain: what is done to its pixels first.
    """
    small = to_working_scale(normalized(read_image(image.path), stain), cell_size)
    scale = np.float32(WORKING_CELL_SIZE / cell_size)
    field = Field.of(small, WORKING_CELL_SIZE)
    pixels = padded(small)
    short = [max(CROP - n, 0) for n in pixels.shape[:2]]
    if any(short):
        pixels = cv2.copyMakeBorder(pixels, 0, short[0], 0, short[1], cv2.BORDER_CONSTANT, value=(0, 0, 0))
    boxes = image.cells_xyxy * scale + PADDING
    lost = np.zeros(pixels.shape[:2], dtype=np.float32)  # weight in the loss that each pixel lacks
    stained = (field.transmission < field.threshold).astype(np.float32)
    rim = int(CUT_OFF * WORKING_CELL_SIZE)
    inner = np.s_[rim : small.shape[0] - rim, rim : small.shape[1] - rim]
    inside = lost[PADDING : PADDING + small.shape[0], PADDING : PADDING + small.shape[1]]
    inside[:] = stained * (1 - weight_at_edge)
    inside[inner] = stained[inner] * (1.0 if image.unannotated else 1 - UNMARKED_WEIGHT)
    for left, top, right, bottom in np.rint(boxes).astype(int):
        lost[top:bottom, left:right] = 0
    size = (-(-pixels.shape[1] // STRIDE), -(-pixels.shape[0] // STRIDE))
    weight = 1 - cv2.resize(lost, size, interpolation=cv2.INTER_AREA)
    return WorkingImage(pixels, boxes, image.ignored_xyxy * scale + PADDING, weight.astype(np.float32))


def crop(image: WorkingImage, rng: np.random.Generator, policy: str, around: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A square of the image, enlarged or shrunk a little, turned, mirrored, its colours moved; and its targets.

    Args:
        image: where from.
        rng: draws everything.
        policy: see `Preprocessing`.
        around: index of a cell that the square shall hold, anywhere in it; None: any square.
    """
    height, width = image.pixels.shape[:2]
    side = int(min(CROP / rng.uniform(*SCALE_JITTER), height, width))
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    if around is not None:
        x, y = image.boxes_xyxy[around].reshape(2, 2).mean(axis=0) - rng.uniform(0.1, 0.9, 2) * side
        top, left = int(np.clip(y, 0, height - side)), int(np.clip(x, 0, width - side))
    scale = CROP / side
    pixels = cv2.resize(image.pixels[top : top + side, left : left + side], (CROP, CROP), interpolation=cv2.INTER_LINEAR)
    grid = CROP // STRIDE
    low, high = (
        slice(top // STRIDE, max((top + side) // STRIDE, top // STRIDE + 1)),
        slice(left // STRIDE, max((left + side) // STRIDE, left // STRIDE + 1)),
    )
    weight = cv2.resize(image.weight[low, high], (grid, grid), interpolation=cv2.INTER_LINEAR)
    corner = np.array([left, top, left, top], dtype=np.float32)
    importance = np.ones(len(image.boxes_xyxy))
    if around is not None:
        importance[around] = DRAWN_COUNTS_AS
    target = centre_targets((image.boxes_xyxy - corner) * scale, importance, (image.ignored_xyxy - corner) * scale, weight)
    return random_dihedral(_varied(pixels, rng, policy), target, rng)


def _varied(pixels: np.ndarray, rng: np.random.Generator, policy: str) -> np.ndarray:
    frame = (pixels == 0).all(axis=2)
    varied = densities.varied(pixels, rng).astype(np.float32) if policy == LABORATORIES else _recoloured(pixels, rng)
    varied[frame] = 0
    return varied


def _recoloured(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    gain = rng.uniform(0.85, 1.15, 3) * rng.uniform(0.85, 1.15)
    mean = pixels.mean(axis=(0, 1))
    moved = (pixels - mean) * rng.uniform(0.8, 1.25) + mean
    if rng.uniform() < 0.3:
        moved = cv2.GaussianBlur(moved, (0, 0), rng.uniform(0.4, 1.2))
    return np.clip(moved * gain, 0, 255).astype(np.float32)
