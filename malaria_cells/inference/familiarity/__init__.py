"""Familiarity: similarity of an image to the training images, with the differences in words."""

from malaria_cells.inference.familiarity.fields import measure_fields
from malaria_cells.inference.familiarity.model import (
    FAMILIAR,
    LEVELS,
    UNLIKE,
    UNUSUAL,
    Familiarity,
    FamiliarityLimits,
    FamiliarityModel,
    fit,
)
from malaria_cells.inference.familiarity.signals import appearance, measure

__all__ = [
    "FAMILIAR",
    "LEVELS",
    "UNLIKE",
    "UNUSUAL",
    "Familiarity",
    "FamiliarityLimits",
    "FamiliarityModel",
    "appearance",
    "fit",
    "measure",
    "measure_fields",
]
