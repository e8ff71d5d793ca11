"""The configuration of a run. Precedence: ``--set key=value`` overrides the YAML file, which overrides the defaults.

In: a YAML file and overrides. Out: a validated `Config`, which is saved in the model folder as resolved.
"""

from malaria_cells.config.data_keys import PARASITES, SIX_CLASSES
from malaria_cells.config.keys import Config
from malaria_cells.config.reading import known_keys, load_config, make_config
from malaria_cells.config.sets import OR, OneSet, names_of

__all__ = ["OR", "PARASITES", "SIX_CLASSES", "Config", "OneSet", "known_keys", "load_config", "make_config", "names_of"]
