"""The settings of a run. What counts, from weak to strong: the defaults, the YAML file, ``--set key=value``.

The resolved configuration is saved with the model.
"""

from malaria_cells.config.keys import PARASITES, SIX_CLASSES, Config
from malaria_cells.config.reading import load_config, make_config
from malaria_cells.config.sets import OR, OneSet, names_of

__all__ = ["OR", "PARASITES", "SIX_CLASSES", "Config", "OneSet", "load_config", "make_config", "names_of"]
