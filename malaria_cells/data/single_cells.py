"""Images of single cells, which teach a classifier beside images: they are shown as an image would show the cell.

Such data sets cut their cells out tightly, many with black in the place of what surrounds the cell (NIH's: Rajaraman et al. 2018, PeerJ
6:e4568). A patch of an image has the clear field there, and some of it around the box.
"""

import cv2
import numpy as np

BLACK = 25  # grey value up to which a pixel of the surroundings has been made black
CLEAR_FIELD = 230  # grey value that is put there; the image's own is not known
CLEAR = 97  # percentile of a channel that is taken for the clear field, where there is some
MOST_CORNERS = 3  # of an image that are black where a cell was cut out: the fourth it may touch itself
SOFT_EDGE = 3  # pixels of the black rim that compression has smeared


def as_in_image(image: np.ndarray, context: float) -> np.ndarray:
    """Lay an image of one cell into a square of clear field.

    Args:
        image: uint8 RGB (H, W, 3), cut tightly around the cell.
        context: side of the square, as a multiple of the image's longer side, as for the patches of images.

    Returns:
        uint8 RGB (S, S, 3).
    """
    if is_cut_out(image):
        clear = np.full(3, CLEAR_FIELD, dtype=np.uint8)
        image = np.where(_black_surroundings(image)[..., None], clear, image)
    else:
        clear = np.percentile(image.reshape(-1, 3), CLEAR, axis=0).astype(np.uint8)
    height, width = image.shape[:2]
    side = max(round(context * max(height, width)), height, width)
    square = np.empty((side, side, 3), dtype=np.uint8)
    square[:] = clear
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image
    return square


def is_cut_out(image: np.ndarray) -> bool:
    """Whether an image, uint8 RGB (H, W, 3), is of a cell that was cut out along its outline and laid on black."""
    corners = image[[0, 0, -1, -1], [0, -1, 0, -1]].max(axis=1)
    return int((corners <= BLACK).sum()) >= MOST_CORNERS


def _black_surroundings(image: np.ndarray) -> np.ndarray:
    """What was made black around a cell, with its soft edge: bool (H, W). Black places within the cell do not belong to it."""
    black = (image.max(axis=2) <= BLACK).astype(np.uint8)
    _, parts = cv2.connectedComponents(cv2.copyMakeBorder(black, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1))
    around = (parts[1:-1, 1:-1] == parts[0, 0]) & (black > 0)
    return cv2.dilate(around.astype(np.uint8), np.ones((SOFT_EDGE, SOFT_EDGE), dtype=np.uint8)) > 0
