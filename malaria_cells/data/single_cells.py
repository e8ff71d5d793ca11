"""Makes images of single cells look like patches of a field of view, so that both can train one classifier.

Single-cell data sets crop their cells tightly, and many replace the surroundings with black (NIH's: Rajaraman et al. 2018, PeerJ
6:e4568). A patch of a field of view has the clear field there, and a margin around the box.
"""

import cv2
import numpy as np

BLACK = 25  # grey value up to which a pixel counts as blackened surroundings
CLEAR_FIELD = 230  # grey value that replaces black surroundings, since the image's own clear field is unknown
CLEAR = 97  # percentile of a channel that is taken as the clear field of images without black surroundings
MIN_CORNERS = 3  # black corners from which an image counts as cut out; the cell may touch the fourth
SOFT_EDGE = 3  # pixels: side of the kernel that widens the black surroundings over their edge, which compression blurs


def as_in_image(image: np.ndarray, context: float) -> np.ndarray:
    """Place an image of a single cell on a square of clear field.

    Args:
        image: uint8 RGB (H, W, 3), cropped tightly around the cell.
        context: side of the square, as a multiple of the image's longer side, as for patches.

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
    """Whether an image, uint8 RGB (H, W, 3), shows a cell that was cut out along its outline on black."""
    corners = image[[0, 0, -1, -1], [0, -1, 0, -1]].max(axis=1)
    return int((corners <= BLACK).sum()) >= MIN_CORNERS


def _black_surroundings(image: np.ndarray) -> np.ndarray:
    """Mask of the black surroundings of a cell with their soft edge, bool (H, W); black regions within the cell are not included."""
    black = (image.max(axis=2) <= BLACK).astype(np.uint8)
    _, components = cv2.connectedComponents(cv2.copyMakeBorder(black, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1))
    around = (components[1:-1, 1:-1] == components[0, 0]) & (black > 0)
    return cv2.dilate(around.astype(np.uint8), np.ones((SOFT_EDGE, SOFT_EDGE), dtype=np.uint8)) > 0
