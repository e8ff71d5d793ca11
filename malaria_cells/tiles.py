"""Large pictures: a fully convolutional network sees them in overlapping tiles, and what it says is put together again.

Each place of the answer comes from the tile whose core it lies in. Cores do not overlap and the rim around each is wider
than the network can see, so that the answer is that to the whole picture: a seam neither loses nor doubles a cell, because
cells are read from the answer after it has been put together.
"""

from collections.abc import Callable

import numpy as np

SIDE = 1280  # pixels of a core: together with rim and activations some 300 MB


def in_tiles(
    network: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, stride: int, multiple: int, rim: int, side: int = SIDE
) -> np.ndarray:
    """The network's answer to a picture of any size, with memory for a tile.

    Args:
        network: from pixels (1, h, w, c), h and w multiples of `multiple`, to places (1, h / stride, w / stride, k).
        pixels: (H, W, c), H and W multiples of `multiple`.
        stride: pixels of a place.
        multiple: what sizes must be divisible by; tiles begin on its multiples, so that a tile's strides fall as the whole's.
        rim: pixels around a core that are shown too; at least as far as the network sees, and a multiple of `multiple`.
        side: of a core in pixels, a multiple of `multiple`.

    Returns:
        float (H / stride, W / stride, k).
    """
    height, width = pixels.shape[:2]
    if any(n % multiple for n in (height, width, rim, side)):
        raise ValueError(f"sizes {height} x {width}, rim {rim}, side {side}: expected multiples of {multiple}")
    if max(height, width) <= side + rim:
        return network(pixels[None])[0]

    def core(top: int, left: int) -> np.ndarray:
        above, before = min(rim, top), min(rim, left)
        tile = pixels[top - above : top + side + rim, left - before : left + side + rim]
        places = network(np.ascontiguousarray(tile)[None])[0]
        y, x = above // stride, before // stride
        rows, columns = (min(side, n) // stride for n in (height - top, width - left))
        return places[y : y + rows, x : x + columns]

    return np.concatenate([np.concatenate([core(y, x) for x in range(0, width, side)], axis=1) for y in range(0, height, side)])
