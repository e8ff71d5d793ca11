"""Images that are too large to be held whole: their regions are read when they are needed."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from malaria_cells.data.images.refusal import refusing
from malaria_cells.data.images.samples import BOTTOM_FIRST, RIGHT_FIRST, SIDEWAYS, upright

STRIP_ROWS = 256  # rows that are read at a time: of most formats a whole number of tiles, and divisible by the reductions' factor
REDUCED_SIDE = 1280  # pixels: the longer side of the reduced image is at least this and less than twice as long
MIN_REDUCED_SIDE = 16  # pixels: shorter side of the reduced image
# Approximate number of pixels of the sample, on a regular grid; averaging instead would mix small cells with the background.
SAMPLE_PIXELS = 60_000


class Regions(Protocol):
    """What reads regions of an image as it is stored."""

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the stored image in pixels."""

    def read(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """A region inside the image: uint8 RGB (height, width, 3)."""

    def close(self) -> None:
        """Close files, and remove temporary ones."""


@dataclass(frozen=True)
class Overview:
    """What one pass over a large image gathers.

    Attributes:
        sample: every so many pixels in both directions, uint8 RGB (h, w, 3), as `stain.Stain.of` measures them.
        reduced: the image, halved several times, uint8 RGB (h, w, 3).
    """

    sample: np.ndarray
    reduced: np.ndarray


class LargeImage:
    """An upright image of which regions are read when they are needed; several threads may read.

    Attributes:
        path: the file, for error messages.
        shape: height, width, and 3, as of an array.
    """

    def __init__(self, path: str | Path, open_regions: Callable[[], Regions], size_wh: tuple[int, int], orientation: int = 1) -> None:
        """Describe an image; nothing is opened yet.

        Args:
            path: the file, for error messages.
            open_regions: opens the file. It is called at the first reading, and again at one after `close`.
            size_wh: width and height of the stored image.
            orientation: EXIF orientation of the stored image.
        """
        width, height = size_wh[::-1] if orientation in SIDEWAYS else size_wh
        self.shape = (height, width, 3)
        self.path = path
        self._open_regions, self._stored_wh, self._orientation = open_regions, size_wh, orientation
        self._regions: Regions | None = None
        self._opening = threading.Lock()

    def read(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """A region inside the image: uint8 RGB (height, width, 3).

        Raises:
            InputError: the file is gone or broken.
        """
        x0, y0, x1, y1 = _stored_corners((left, top, left + width, top + height), self._stored_wh, self._orientation)
        with refusing(self.path):
            with self._opening:
                if self._regions is None:
                    self._regions = self._open_regions()
                regions = self._regions
            pixels = regions.read(x0, y0, x1 - x0, y1 - y0)
        return pixels if self._orientation == 1 else upright(pixels, self._orientation)

    def strips(self, rows: int = STRIP_ROWS) -> Iterator[np.ndarray]:
        """Yield the image from top to bottom: uint8 RGB (rows or fewer, W, 3)."""
        height, width = self.shape[:2]
        for top in range(0, height, rows):
            yield self.read(0, top, width, min(rows, height - top))

    @cached_property
    def overview(self) -> Overview:
        """A sample and a reduced image, by one pass over the image."""
        height, width = self.shape[:2]
        step, halvings = sample_step((height, width)), _halvings(height, width)
        sampled, reduced, top = [], [], 0
        for strip in self.strips():
            sampled.append(strip[-top % step :: step, ::step].copy())
            reduced.append(_halved(strip, halvings))
            top += len(strip)
        return Overview(np.concatenate(sampled), np.concatenate([part for part in reduced if part.size]))

    def close(self) -> None:
        """Close the file, and remove a temporary one; the next reading opens it again."""
        with self._opening:
            if self._regions is not None:
                self._regions.close()
            self._regions = None


class ArrayRegions:
    """Regions of an array."""

    def __init__(self, image: np.ndarray) -> None:
        self._image = image
        self.size_wh = (image.shape[1], image.shape[0])

    def read(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """A view of a region."""
        return self._image[top : top + height, left : left + width]

    def close(self) -> None:
        """Nothing is open."""


def as_large(image: np.ndarray) -> LargeImage:
    """An array, uint8 RGB (H, W, 3), as an image whose regions are read."""
    regions = ArrayRegions(image)
    return LargeImage("image", lambda: regions, regions.size_wh)


def sample_step(shape_hw: tuple[int, ...]) -> int:
    """Distance of the pixels of a sample of an image in both directions."""
    return max(int(np.sqrt(shape_hw[0] * shape_hw[1] / SAMPLE_PIXELS)), 1)


def _halvings(height: int, width: int) -> int:
    """How often a reduced image is halved; at most so often that strips reduce to whole rows."""
    n = 0
    while max(height, width) >> (n + 1) >= REDUCED_SIDE and min(height, width) >> (n + 1) >= MIN_REDUCED_SIDE and 2 << n <= STRIP_ROWS:
        n += 1
    return n


def _halved(strip: np.ndarray, times: int) -> np.ndarray:
    """Means of two by two pixels, several times; an odd last row or column is left out."""
    for _ in range(times):
        height, width = (n // 2 for n in strip.shape[:2])
        if not height or not width:
            return np.zeros((0, max(width, 1), 3), dtype=np.uint8)
        strip = cv2.resize(strip[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return strip


def _stored_corners(upright_xyxy: tuple[int, int, int, int], stored_wh: tuple[int, int], orientation: int) -> tuple[int, int, int, int]:
    """Corners of a region in the stored image that `samples.upright` turns into the region of the upright image."""
    if orientation == 1:
        return upright_xyxy
    x0, y0, x1, y1 = upright_xyxy
    width, height = stored_wh
    if orientation in SIDEWAYS:
        width, height = height, width
    if orientation in RIGHT_FIRST:
        x0, x1 = width - x1, width - x0
    if orientation in BOTTOM_FIRST:
        y0, y1 = height - y1, height - y0
    return (y0, x0, y1, x1) if orientation in SIDEWAYS else (x0, y0, x1, y1)
