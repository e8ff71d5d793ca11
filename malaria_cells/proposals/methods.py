"""Methods that propose boxes without a network, added by name: functions of an image and the size of its cells."""

from collections.abc import Callable

import numpy as np

from malaria_cells.base.registry import Registry

# Boxes by the name of what finds them, float32 (n, 4) each, xyxy in pixels: each source has a bias of its own, which training corrects.
Find = Callable[[np.ndarray, float], dict[str, np.ndarray]]

LEARNED = "learned"  # the method of a trained network
METHODS: Registry[Find] = Registry("proposals", "malaria_cells.proposals", also=(LEARNED,))


def proposal_method(name: str, rank: int = 100) -> Callable[[Find], Find]:
    """Return a decorator that adds a function as a method.

    The function is given an image, uint8 RGB (H, W, 3), and the median longer side of a cell in pixels; it returns boxes by source.

    Args:
        name: value of the config key `proposals`, and of the option `--proposals`.
        rank: place in lists of names.
    """
    return METHODS.add(name, rank=rank)


def check_method(name: str) -> None:
    """Raise `InputError` unless a method has that name."""
    if name != LEARNED:
        METHODS[name]
