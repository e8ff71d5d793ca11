"""Tiled inference of fully convolutional networks on large images.

Tiles do not overlap. Each is passed to the network with a halo at least as wide as the network's receptive radius, so that the assembled
output equals the output for the whole image. Cells are decoded from the assembled output, so no cell is lost or doubled at a seam.
"""

from collections.abc import Callable

import numpy as np

SIDE = 1280  # pixels of a tile's side; a tile takes about 300 MB with halo and activations


def in_tiles(
    network: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, stride: int, multiple: int, halo: int, side: int = SIDE
) -> np.ndarray:
    """Compute the output of a network for an image of any size with the memory for one tile.

    Args:
        network: from pixels (1, h, w, c), h and w multiples of `multiple`, to an output grid (1, h / stride, w / stride, k).
        pixels: (H, W, c), H and W multiples of `multiple`.
        stride: side of a grid cell of the output in pixels.
        multiple: divisor of all sizes; tiles start at its multiples, so that the strides of a tile match those of the whole image.
        halo: width of the halo in pixels, at least the network's receptive radius and a multiple of `multiple`.
        side: side of a tile in pixels, a multiple of `multiple`.

    Returns:
        float (H / stride, W / stride, k).
    """
    height, width = pixels.shape[:2]
    if any(n % multiple for n in (height, width, halo, side)):
        raise ValueError(f"sizes {height} x {width}, halo {halo}, side {side}: expected multiples of {multiple}")
    if max(height, width) <= side + halo:
        return network(pixels[None])[0]

    def tile(top: int, left: int) -> np.ndarray:
        above, before = min(halo, top), min(halo, left)
        crop = pixels[top - above : top + side + halo, left - before : left + side + halo]
        grid = network(np.ascontiguousarray(crop)[None])[0]
        y, x = above // stride, before // stride
        rows, columns = (min(side, n) // stride for n in (height - top, width - left))
        return grid[y : y + rows, x : x + columns]

    return np.concatenate([np.concatenate([tile(y, x) for x in range(0, width, side)], axis=1) for y in range(0, height, side)])
