"""Differences between an image and the training images, in a technician's words."""

import math

from malaria_cells.inference.familiarity.signals import LOG_OFFSET

_COLOURS = {
    "light_red": ("the clear field between the cells is redder", "the clear field between the cells is less red"),
    "light_blue": ("the clear field between the cells is bluer", "the clear field between the cells is yellower"),
    "stain": ("the stain is stronger", "the stain is weaker"),
    # Stain that absorbs more red looks bluer; more blue, yellower.
    "stain_red": ("the stain is bluer", "the stain is redder"),
    "stain_blue": ("the stain is yellower", "the stain is bluer"),
}
THAN = "than in the training images"


def difference(name: str, value: float, above: float) -> str:
    """The difference in one signal as a clause.

    Args:
        name: name of the signal.
        value: its value in the image.
        above: its value in the image minus the median of the nearest data set.

    >>> difference("size", 0.7, 0.7)
    'cells are 2.0 times as large as in the training images'
    >>> difference("unsure", 0.4, 0.3)
    'the networks are unsure of 40 % of the cells'
    """
    if name in _COLOURS:
        return f"{_COLOURS[name][above < 0]} {THAN}"
    if name == "size":
        return f"cells are {math.exp(above):.1f} times as large as in the training images"
    if name == "focus":
        return "out of focus" if above < 0 else f"sharper or noisier {THAN}"
    if name == "unexplained":
        fraction = 1 + LOG_OFFSET - math.exp(value)
        return f"recognised red cells cover only {100 * fraction:.0f} % of the stained area: a thick film, crowded cells, or not a smear"
    if name == "unsure":
        return f"the networks are unsure of {100 * value:.0f} % of the cells"
    return "the networks are unsure of the classes of many cells"
