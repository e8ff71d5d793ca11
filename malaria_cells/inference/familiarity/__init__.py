"""How like the training images an image is, and why not, in words."""

from malaria_cells.inference.familiarity.model import FAMILIAR, LEVELS, UNLIKE, UNUSUAL, Familiarity, FamiliarityModel, fit
from malaria_cells.inference.familiarity.signals import appearance, measure

__all__ = ["FAMILIAR", "LEVELS", "UNLIKE", "UNUSUAL", "Familiarity", "FamiliarityModel", "appearance", "fit", "measure"]
