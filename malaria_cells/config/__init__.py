"""The settings of a run, read strictly and documented: the defaults, over them the YAML file, over that ``--set key=value``.

In: YAML and settings of the command line. Out: a `Config`, which is saved with the model as it was resolved.
"""

from malaria_cells.config.keys import PARASITES, SIX_CLASSES, Config
from malaria_cells.config.reading import load_config, make_config
from malaria_cells.config.sets import OR, OneSet, names_of

__all__ = ["OR", "PARASITES", "SIX_CLASSES", "Config", "OneSet", "load_config", "make_config", "names_of"]
