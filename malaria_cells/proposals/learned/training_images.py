"""Training data of the learned proposal network: images at the working scale, and random crops of them with their targets.

Annotators miss cells in crowds, so a stained area outside all boxes may be an unmarked cell. Its weight in the loss is `UNMARKED_WEIGHT`,
so that negatives come mainly from the empty field, and 0 in images with classes that were not annotated at all. At the edge of the image
the weight is higher the fewer of the cut-off cells are annotated (`habits.border_habit`). Ignore regions have weight 0.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from malaria_cells.base.progress import progress
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.augment import densities
from malaria_cells.data.boxes import WORKING_CELL_SIZE
from malaria_cells.data.images import read_image
from malaria_cells.data.stain import Normalization, normalized
from malaria_cells.proposals.learned.annotated_sizes import annotated_cell_sizes
from malaria_cells.proposals.learned.habits import border_habit
from malaria_cells.proposals.learned.prediction import PADDING, STRIDE, padded, to_working_scale
from malaria_cells.proposals.learned.targets import centre_targets, random_dihedral
from malaria_cells.proposals.transmission import Field

CROP = 256  # pixels of a crop's side at the working scale: about 40 cells of a crowded field
UNMARKED_WEIGHT = 0.2  # weight in the loss of stained areas outside boxes
CUT_OFF = 0.35  # cell sizes; distance from the image's edge within which stain is taken for cut-off cells
# Weight of the cell around which a crop is taken, relative to other cells. On the rendered sample's validation part 4 gives the best boxes
# of all cells and 12 the best boxes of rare cells.
DRAWN_CELL_WEIGHT = 8
SCALE_JITTER = (0.8, 1.25)  # range of the random factor by which a crop is scaled


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
        ignored_xyxy: ignore regions, float32 (k, 4).
        weight: float32 (h/4, w/4), weight of each grid cell in the loss if it is not a centre.
    """

    pixels: np.ndarray
    boxes_xyxy: np.ndarray
    ignored_xyxy: np.ndarray
    weight: np.ndarray


def working_images(train: AnnotationSet, stain: Normalization) -> list[WorkingImage]:
    """Prepare the images of a training part, in its order."""
    at_edge = {name: _weight_at_edge(part) for name, part in train.by_data_set().items()}
    sized = zip(train.images, annotated_cell_sizes(train, train.median_cell_size), strict=True)
    return [prepared(p, size, at_edge[p.data_set], stain) for p, size in progress(sized, len(train), "preparing images", "image")]


def _weight_at_edge(annotations: AnnotationSet) -> float:
    """Weight in the loss of stained areas outside boxes at the edge of the image.

    It is 1 if no cut-off cells are annotated, and `UNMARKED_WEIGHT`, as inside the image, if all are.
    """
    habit = border_habit(annotations)
    left_out_fraction = 1.0 if habit is None else 1 - min(habit, 1.0)
    return UNMARKED_WEIGHT + (1 - UNMARKED_WEIGHT) * left_out_fraction


def prepared(image: AnnotatedImage, cell_size: float, weight_at_edge: float, stain: Normalization) -> WorkingImage:
    """Prepare one image: rescale it to the working scale, pad it with black, and compute its weights.

    Args:
        image: the annotated image.
        cell_size: longer side of its median cell in pixels.
        weight_at_edge: weight in the loss of stained areas outside boxes that the edge of the image cuts off.
        stain: stain normalisation, applied first.
    """
    small = to_working_scale(normalized(read_image(image.path), stain), cell_size)
    scale = np.float32(WORKING_CELL_SIZE / cell_size)
    field = Field.of(small, WORKING_CELL_SIZE)
    pixels = padded_for_crops(small)
    boxes = image.cells_xyxy * scale + PADDING
    missing_weight = np.zeros(pixels.shape[:2], dtype=np.float32)  # 1 minus the weight in the loss, by pixel
    stained = (field.transmission < field.threshold).astype(np.float32)
    margin = int(CUT_OFF * WORKING_CELL_SIZE)
    inner = np.s_[margin : small.shape[0] - margin, margin : small.shape[1] - margin]
    inside = missing_weight[PADDING : PADDING + small.shape[0], PADDING : PADDING + small.shape[1]]
    inside[:] = stained * (1 - weight_at_edge)
    inside[inner] = stained[inner] * (1.0 if image.unannotated else 1 - UNMARKED_WEIGHT)
    for left, top, right, bottom in np.rint(boxes).astype(int):
        missing_weight[top:bottom, left:right] = 0
    size = (-(-pixels.shape[1] // STRIDE), -(-pixels.shape[0] // STRIDE))
    weight = 1 - cv2.resize(missing_weight, size, interpolation=cv2.INTER_AREA)
    return WorkingImage(pixels, boxes, image.ignored_xyxy * scale + PADDING, weight.astype(np.float32))


def crop(image: WorkingImage, rng: np.random.Generator, policy: str, around: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Take a random crop with random scale, flips, rotation and colours, and compute its targets.

    Args:
        image: the image.
        rng: random number generator of all random choices.
        policy: see `Preprocessing`.
        around: index of a cell whose centre lies at a random position in the crop; None: any crop.

    Returns:
        Pixels, float32 (`CROP`, `CROP`, 3), and targets, see `centre_targets`.
    """
    window = random_window(image.pixels, rng, None if around is None else image.boxes_xyxy[around].reshape(2, 2).mean(axis=0))
    (left, top), side, scale, grid = window.corner[:2].astype(int).tolist(), window.side, window.scale, CROP // STRIDE
    low, high = (
        slice(top // STRIDE, max((top + side) // STRIDE, top // STRIDE + 1)),
        slice(left // STRIDE, max((left + side) // STRIDE, left // STRIDE + 1)),
    )
    weight = cv2.resize(image.weight[low, high], (grid, grid), interpolation=cv2.INTER_LINEAR)
    importance = np.ones(len(image.boxes_xyxy))
    if around is not None:
        importance[around] = DRAWN_CELL_WEIGHT
    boxes, ignored = ((xyxy - window.corner) * scale for xyxy in (image.boxes_xyxy, image.ignored_xyxy))
    return random_dihedral(varied(window.pixels, rng, policy), centre_targets(boxes, importance, ignored, weight), rng)


def padded_for_crops(small: np.ndarray) -> np.ndarray:
    """Pad an image at the working scale as for the network (`prediction.padded`), and on until a crop fits into it."""
    pixels = padded(small)
    missing = [max(CROP - n, 0) for n in pixels.shape[:2]]
    return cv2.copyMakeBorder(pixels, 0, missing[0], 0, missing[1], cv2.BORDER_CONSTANT, value=(0, 0, 0)) if any(missing) else pixels


@dataclass(frozen=True)
class Window:
    """A random square of an image, resized.

    Attributes:
        pixels: uint8 RGB (`CROP`, `CROP`, 3).
        corner: its left, top, left and top in the image, float32 (4,), pixels.
        side: its side in the image in pixels.
    """

    pixels: np.ndarray
    corner: np.ndarray
    side: int

    @property
    def scale(self) -> float:
        """Pixels of the crop for each of the image."""
        return CROP / self.side


def random_window(pixels: np.ndarray, rng: np.random.Generator, centre_xy: np.ndarray | None) -> Window:
    """Take a square of an image at a random scale and position.

    Args:
        pixels: uint8 RGB (h, w, 3).
        rng: random number generator.
        centre_xy: a point, float (2,), that lies at a random position in the square; None: any square.
    """
    height, width = pixels.shape[:2]
    side = int(min(CROP / rng.uniform(*SCALE_JITTER), height, width))
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    if centre_xy is not None:
        x, y = centre_xy - rng.uniform(0.1, 0.9, 2) * side
        top, left = int(np.clip(y, 0, height - side)), int(np.clip(x, 0, width - side))
    resized = cv2.resize(pixels[top : top + side, left : left + side], (CROP, CROP), interpolation=cv2.INTER_LINEAR)
    return Window(resized, np.array([left, top, left, top], dtype=np.float32), side)


def varied(pixels: np.ndarray, rng: np.random.Generator, policy: str) -> np.ndarray:
    """Vary the colours of a crop, float32; the black border stays black.

    Args:
        pixels: uint8 RGB (h, w, 3).
        rng: random number generator.
        policy: see `Preprocessing`.
    """
    frame = (pixels == 0).all(axis=2)
    recoloured = densities.varied(pixels, rng).astype(np.float32) if policy == densities.LABORATORIES else _recoloured(pixels, rng)
    recoloured[frame] = 0
    return recoloured


def _recoloured(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    gain = rng.uniform(0.85, 1.15, 3) * rng.uniform(0.85, 1.15)
    mean = pixels.mean(axis=(0, 1))
    moved = (pixels - mean) * rng.uniform(0.8, 1.25) + mean
    if rng.uniform() < 0.3:
        moved = cv2.GaussianBlur(moved, (0, 0), rng.uniform(0.4, 1.2))
    return np.clip(moved * gain, 0, 255).astype(np.float32)
