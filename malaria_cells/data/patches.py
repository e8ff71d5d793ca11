"""Crops patches from images: squares around cells, and squares of background."""

import hashlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.images import open_image

BACKGROUND_TRIES = 40  # random squares drawn per background patch


def crop_squares(image: np.ndarray, squares_xyxy: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Crop squares from an image, reflected at the border, and resize them.

    The classifier's input is made by this function in training and at inference.

    Args:
        image: uint8 RGB (H, W, 3).
        squares_xyxy: int (n, 4) from `boxes.squares_around`; may extend beyond the image.
        size_hw: height and width of the patches in pixels.

    Returns:
        uint8 (n, h, w, 3).
    """
    height, width = image.shape[:2]
    patches = np.empty((len(squares_xyxy), *size_hw, 3), dtype=np.uint8)
    if len(squares_xyxy) == 0:
        return patches
    # The whole image is not padded, since that would copy it for the few squares at its border.
    for patch, square in zip(patches, squares_xyxy.tolist(), strict=True):
        left, top, right, bottom = square
        inside = left >= 0 and top >= 0 and right <= width and bottom <= height
        patch[:] = resize(image[top:bottom, left:right] if inside else _reflected(image, square), size_hw)
    return patches


def _reflected(image: np.ndarray, square_xyxy: Sequence[int]) -> np.ndarray:
    """The pixels of a square that extends beyond an image, reflected at the border: uint8 (h, w, 3)."""
    height, width = image.shape[:2]
    left, top, right, bottom = square_xyxy
    before_x, before_y, after_x, after_y = (max(0, n) for n in (-left, -top, right - width, bottom - height))
    # The part of the image that is needed: the square's own pixels, and as many from the border on as are reflected.
    x, y = (max(0, min(start, n - 1 - after)) for start, n, after in ((left, width, after_x), (top, height, after_y)))
    part = image[y : max(bottom, before_y + 1), x : max(right, before_x + 1)]
    wide = cv2.copyMakeBorder(part, before_y, after_y, before_x, after_x, cv2.BORDER_REFLECT_101)
    x, y = left - x + before_x, top - y + before_y
    return wide[y : y + bottom - top, x : x + right - left]


def resize(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize uint8 RGB (H, W, 3) to (h, w, 3), by area averaging if it shrinks; the aspect ratio may change."""
    shrinks = image.shape[0] >= size_hw[0] and image.shape[1] >= size_hw[1]
    return cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def rescale(image: np.ndarray, factor: float) -> np.ndarray:
    """Resize uint8 RGB (H, W, 3) by a factor, by area averaging if it shrinks, to at least one pixel per side."""
    fy, fx = (max(factor, 1 / n) for n in image.shape[:2])
    return cv2.resize(image, None, fx=fx, fy=fy, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)


def crop_boxes(image: np.ndarray, boxes_xyxy: np.ndarray, context: float, size_hw: tuple[int, int]) -> np.ndarray:
    """Crop the square with `context` around each box: uint8 (n, h, w, 3)."""
    return crop_squares(image, boxes.squares_around(boxes_xyxy, context), size_hw)


def crops_of_file(path: Path, boxes_xyxy: np.ndarray, context: float, size_hw: tuple[int, int]) -> np.ndarray:
    """As `crop_boxes`, from an image file; of a large image only the surroundings of the boxes are read.

    Raises:
        InputError: the image cannot be read.
    """
    image = open_image(path)
    if isinstance(image, np.ndarray):
        return crop_boxes(image, boxes_xyxy, context, size_hw)
    patches = np.empty((len(boxes_xyxy), *size_hw, 3), dtype=np.uint8)
    height, width = image.shape[:2]
    with closing(image):
        for patch, square in zip(patches, boxes.squares_around(boxes_xyxy, context), strict=True):
            side = int(square[2] - square[0])  # what is reflected at the border is in the surroundings
            left, top = np.maximum(square[:2] - side, 0).tolist()
            right, bottom = np.minimum(square[2:] + side, [width, height]).tolist()
            surroundings = image.read(left, top, right - left, bottom - top)
            patch[:] = crop_squares(surroundings, (square - np.array([left, top, left, top]))[None], size_hw)[0]
    return patches


def background_boxes(image: AnnotatedImage, count: int, median_size: float, seed: int) -> np.ndarray:
    """Random squares that intersect neither a box nor an ignore region.

    Args:
        image: the annotated image.
        count: number of squares wanted; fewer are returned if the cells leave no room.
        median_size: median cell size in pixels; the squares' sides are 0.4 to 1.2 times as long.
        seed: seed that, together with the image's key, determines the positions.

    Returns:
        float32 (n, 4), n <= count.
    """
    key_seed = int.from_bytes(hashlib.blake2b(image.key.encode(), digest_size=8).digest(), "big")
    rng = np.random.default_rng([seed, key_seed])
    width, height = image.size_wh
    side = np.minimum(median_size * rng.uniform(0.4, 1.2, count * BACKGROUND_TRIES), min(width, height))
    corner = rng.uniform(size=(len(side), 2)) * (np.array([width, height]) - side[:, None])
    squares = np.concatenate([corner, corner + side[:, None]], axis=1).astype(np.float32)
    free = boxes.intersection_matrix(squares, image.boxes_xyxy).sum(axis=1) == 0
    return squares[free][:count]
