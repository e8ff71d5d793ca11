"""Test-time augmentation: a patch is seen in up to eight views, flips and quarter turns, and the answers are averaged."""

from collections.abc import Callable

import numpy as np

VIEWS = 8


def view(patches: np.ndarray, number: int) -> np.ndarray:
    """One view of patches (n, H, W, c): number % 4 quarter turns, mirrored from 4 on; 0 is the patch itself.

    Quarter turns need square patches; of others only the half turns and mirror images are taken.
    """
    turns = number % 4
    if patches.shape[1] != patches.shape[2]:
        turns = 2 * (turns % 2)
    turned = np.rot90(patches, turns, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if number >= 4 else turned)


# The mirror image comes second, so that a small number of views still differ much.
_ORDER = (0, 6, 1, 7, 2, 4, 3, 5)


def averaged(predict: Callable[[np.ndarray], np.ndarray], patches: np.ndarray, views: int) -> np.ndarray:
    """Mean over views of the probabilities that `predict` gives.

    Args:
        predict: from patches (n, H, W, 3) to probabilities (n, c).
        patches: (n, H, W, 3).
        views: 1 (no augmentation) to 8.
    """
    total = predict(patches)
    for number in _ORDER[1:views]:
        total = total + predict(view(patches, number))
    return total / views
