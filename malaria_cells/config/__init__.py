"""The configuration of a run. Precedence: ``--set key=value`` overrides the YAML file, which overrides the defaults.

In: a YAML file and overrides. Out: a validated `Config`, which is saved in the model folder as resolved. The names are loaded when they are
first used: detection needs the class names and no key.
"""

from typing import TYPE_CHECKING, Any

from malaria_cells.config.class_names import PARASITES, SIX_CLASSES

if TYPE_CHECKING:
    from malaria_cells.config.keys import Config
    from malaria_cells.config.reading import load_config, make_config
    from malaria_cells.config.sets import OR, OneSet, names_of

_PLACES = {"Config": "keys", "load_config": "reading", "make_config": "reading", "OR": "sets", "OneSet": "sets", "names_of": "sets"}
__all__ = ["OR", "PARASITES", "SIX_CLASSES", "Config", "OneSet", "load_config", "make_config", "names_of"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'malaria_cells.config' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"malaria_cells.config.{_PLACES[name]}"), name)
