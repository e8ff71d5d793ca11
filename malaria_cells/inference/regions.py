"""Work on a large image region by region, such that each cell has the result that it would have in the whole image.

A region has a core and around it a margin; the cores fill the image. Each cell belongs to the region whose core holds its centre, and the
margin is wider than what a network sees around a pixel and than any cell. Cores begin where the pixels of the working scale fall together
with those of the image, and with the strides of the network, so that a region is rescaled as a part of the whole image would be.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from malaria_cells.base.parallel import cores, imap_ordered
from malaria_cells.data.boxes import WORKING_CELL_SIZE
from malaria_cells.data.images import LargeImage
from malaria_cells.data.stain import Normalization, Stain, with_stain
from malaria_cells.proposals import ScoredBoxes

Item = TypeVar("Item")
Result = TypeVar("Result")

STEP = 160  # pixels of the working scale, a multiple of the network's stride; cores and margins are multiples of it: four cells
STEPS_PER_CELL_PIXEL = STEP / WORKING_CELL_SIZE  # pixels of the image in a step for each pixel of a cell; cell sizes are rounded to
# quarters of a pixel, so that this is a whole number: a rounding by at most 1 % of the smallest cells, less than sizes can be estimated
MAX_SIDE = 6400  # pixels of the longest side of a region: 120 MB of pixels
MAX_STEPS = 22  # steps of a region: 3,520 pixels of the working scale
AT_ONCE = (2, 6)  # fewest and most regions that are worked on at the same time, else one for each core: each takes up to 400 MB
CENTRE = 6000  # pixels of the sides of the middle part, by which the size of the cells is estimated
WIDEST_CELL = 4.5  # cell sizes; what the proposal network gives at most (`prediction.MAX_LOG_SIZE`)


@dataclass(frozen=True)
class Region:
    """A part of an image.

    Attributes:
        core_xyxy: pixels of the image.
        outer_xyxy: the same with the margin, as far as the image extends.
    """

    core_xyxy: tuple[int, int, int, int]
    outer_xyxy: tuple[int, int, int, int]


class RegionWise:
    """A large image with normalized stain, as the proposer and the classifier expect it, region by region.

    Attributes:
        cell_size: longer side of the median cell in pixels.
    """

    def __init__(self, image: LargeImage, stain: Normalization, cell_size: float, context: float) -> None:
        """Divide an image.

        Args:
            image: the image.
            stain: method of normalization.
            cell_size: longer side of the median cell in pixels, which is rounded.
            context: side of the square that is cropped around a box, as a multiple of the box's longer side.
        """
        self.cell_size = max(round(cell_size * STEPS_PER_CELL_PIXEL), 1) / STEPS_PER_CELL_PIXEL
        self._image, self._how, self._stain = image, stain, Stain.of_sample(image.overview.sample)
        step = round(self.cell_size * STEPS_PER_CELL_PIXEL)
        margins = math.ceil(WIDEST_CELL * max(context, 1) / 2 / STEPS_PER_CELL_PIXEL)
        self._margin = margins * step
        self._core = max(min(MAX_STEPS, MAX_SIDE // step) - 2 * margins, 1) * step
        self._columns = -(-image.shape[1] // self._core)

    def _regions(self) -> Iterator[Region]:
        height, width = self._image.shape[:2]
        for top in range(0, height, self._core):
            for left in range(0, width, self._core):
                right, bottom = min(left + self._core, width), min(top + self._core, height)
                outer_left, outer_top = max(left - self._margin, 0), max(top - self._margin, 0)
                outer = (outer_left, outer_top, min(right + self._margin, width), min(bottom + self._margin, height))
                yield Region((left, top, right, bottom), outer)

    def _prepared(self, region: Region) -> np.ndarray:
        left, top, right, bottom = region.outer_xyxy
        return with_stain(self._image.read(left, top, right - left, bottom - top), self._stain, self._how)

    def candidates(self, find: Callable[[np.ndarray], ScoredBoxes]) -> ScoredBoxes:
        """Candidates of the whole image.

        Args:
            find: finds those of an image, uint8 RGB (H, W, 3).
        """

        def within(region: Region) -> ScoredBoxes:
            found = find(self._prepared(region))
            boxes_xyxy = found.boxes_xyxy + np.array(region.outer_xyxy[:2] * 2, dtype=np.float32)
            centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
            # A centre on the edge of a core may be found just beyond it from both sides; found in both, one of the two is suppressed.
            left, top, right, bottom = region.core_xyxy
            is_here = ((centres >= [left - 0.5, top - 0.5]) & (centres < [right + 0.5, bottom + 0.5])).all(axis=1)
            screening = None if found.screening is None else found.screening[is_here]
            return ScoredBoxes(boxes_xyxy[is_here], found.scores[is_here], screening)

        boxes_xyxy, scores, screening = zip(*_each(within, self._regions()), strict=True)
        told = [part for part in screening if part is not None]
        return ScoredBoxes(np.concatenate(boxes_xyxy), np.concatenate(scores), np.concatenate(told) if told else None)

    def of_boxes(self, boxes_xyxy: np.ndarray, look: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """Rows of a result for boxes, each computed in the region that holds its centre: (n, k).

        Args:
            boxes_xyxy: (n, 4).
            look: from the pixels of a region, boxes in it, and their indices among all, to rows of the result.
        """
        size_wh = np.array(self._image.shape[1::-1])
        centres = np.clip((boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, 0, size_wh - 1)
        column, row = (centres // self._core).astype(int).T
        numbers = row * self._columns + column
        regions = list(self._regions())

        def within(number: int) -> tuple[np.ndarray, np.ndarray]:
            indices = np.flatnonzero(numbers == number)
            corner = np.array(regions[number].outer_xyxy[:2] * 2, dtype=np.float32)
            return indices, look(self._prepared(regions[number]), boxes_xyxy[indices] - corner, indices)

        done = _each(within, np.unique(numbers).tolist())
        if not done:
            pixels = np.zeros((1, 1, 3), dtype=np.uint8)
            return look(pixels, boxes_xyxy, np.zeros(0, dtype=np.int64))
        indices = np.concatenate([at for at, _ in done])
        rows = np.concatenate([rows for _, rows in done])
        return rows[np.argsort(indices)]


def _each(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    return [done.result() for _, done in imap_ordered(work, items, min(max(cores(), AT_ONCE[0]), AT_ONCE[1]))]


def centre(image: LargeImage) -> np.ndarray:
    """The middle part of an image, uint8 RGB (h, w, 3), around the same centre to the pixel."""
    height, width = image.shape[:2]
    rows, columns = (n if n <= CENTRE else CENTRE - (n - CENTRE) % 2 for n in (height, width))
    return image.read((width - columns) // 2, (height - rows) // 2, columns, rows)
