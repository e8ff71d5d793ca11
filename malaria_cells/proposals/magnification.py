"""Pictures whose cells are larger or smaller than those of the training: another microscope, another camera.

A network of learned proposals finds cells of about the size that it was trained on, and next to nothing at twice or half of it. It
also says how large each cell is, though, and is right about that over a wider range: shown the picture again in the size that it
said, it comes to the true one within a few looks.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

from malaria_cells import boxes
from malaria_cells.annotations import Picture
from malaria_cells.proposals.learned import LEAST_HEAT, WORKING_CELL_SIZE
from malaria_cells.proposals.watershed import estimate_cell_size

Found = tuple[np.ndarray, np.ndarray]

SURE = 4 * LEAST_HEAT
# In IML-Malaria's photographs the median cell is seen as 0.87 to 1.20 of the usual size, in those shrunk to a half as 0.63 to 0.75.
USUAL = (0.8, 1.3)
# Of what is seen must be sure, or a few cells of the usual size are seen into others. On IML-Malaria's photographs at least 0.4 is, in
# all but two of 240 half; where cells of the usual size are seen in those shrunk or enlarged by 1.7 and more, 0.02 to 0.49.
MOSTLY_SURE = 0.5
# Of the cells must be found again in another size for it to be believed: else they are large cells among usual ones, leukocytes say.
FOUND_AGAIN = 0.85
MOST_LOOKS = 5
MOST_GLANCED = 30_000_000  # pixels of an enlarged picture: a second or two
SETTLED = 0.08  # of the size: what two looks in a row may differ by


def in_own_size(find: Callable[[float], Found], glance: Callable[[float], Found], picture: np.ndarray, usual: float) -> Found:
    """Candidates of a picture, looked at again in the size of its own cells where they are plainly not of the usual one.

    Args:
        find: from the usual longer side of a cell in pixels to boxes, float32 (n, 4), and how sure each is, float32 (n,).
        glance: a quicker `find`, to measure by.
        picture: uint8 RGB (H, W, 3).
        usual: longer side of a cell in the training pictures in pixels.

    Returns:
        As `find`.
    """
    found = find(usual)
    sure = _sure(found)
    seen = boxes.usual_size(sure)
    if seen is not None and _is_usual(seen, usual) and len(sure) >= MOSTLY_SURE * len(found[0]):
        return found
    own, count = own_cell_size(glance, picture, usual)
    believed = count >= max(boxes.ENOUGH, FOUND_AGAIN * len(sure))
    return find(own) if believed and not _is_usual(own, usual) else found


def own_cell_size(glance: Callable[[float], Found], picture: np.ndarray, usual: float = np.inf) -> tuple[float, int]:
    """Usual longer side of a cell of a picture in pixels, and how many cells say so.

    It is guessed from the dark regions first; then it is what the network says, asked again in that size.

    On photographs of IML-Malaria shrunk and enlarged, from 0.35 to 4 times, it is within 2 % of the annotated median.

    Args:
        glance: as in `in_own_size`.
        picture: uint8 RGB (H, W, 3).
        usual: as in `in_own_size`; the larger the picture, the less smaller cells are looked for, but down to half of it.
    """
    least = _least_size(picture.shape[0] * picture.shape[1], usual)
    size, count = max(estimate_cell_size(picture), least), 0
    for _ in range(MOST_LOOKS):
        sure = _sure(glance(size))
        count = len(sure)
        if count == 0:
            break
        before, size = size, max(float(np.median(boxes.cell_sizes(sure))), least)
        if abs(size / before - 1) < SETTLED:
            break
    return size, count


def annotated_size(picture: Picture, usual: float) -> float:
    """Usual longer side of a cell of an annotated picture in pixels: `usual`, or its own median where that is plainly another.

    Args:
        picture: few boxes do not tell another microscope from large cells.
        usual: as in `own_cell_size`.
    """
    own = boxes.usual_size(picture.cells_xyxy)
    if own is None or _is_usual(own, usual):
        return usual
    return max(own, _least_size(math.prod(picture.size_wh), usual))


def other_sizes(found_xyxy: Iterable[np.ndarray], usual: float) -> np.ndarray:
    """Median longer sides of the cells in those pictures where they are plainly not of the usual size, in pixels.

    Args:
        found_xyxy: the boxes of each picture, (n, 4); pictures with few are left out.
        usual: as in `in_own_size`.
    """
    sizes = map(boxes.usual_size, found_xyxy)
    return np.array([size for size in sizes if size is not None and not _is_usual(size, usual)])


def _least_size(pixels: int, usual: float) -> float:
    return min(usual / 2, WORKING_CELL_SIZE * math.sqrt(pixels / MOST_GLANCED))


def _is_usual(size: float, usual: float) -> bool:
    return USUAL[0] <= size / usual <= USUAL[1]


def _sure(found: Found) -> np.ndarray:
    found_xyxy, sureness = found
    return found_xyxy[sureness >= SURE]
