"""The configuration of a run. Precedence: ``--set key=value`` overrides the YAML file, which overrides the defaults.

In: a YAML file and overrides. Out: a validated `Config`, which is saved in the model folder as resolved. The names are loaded when they are
first used: detection needs the class names and no key.
"""

from typing import TYPE_CHECKING, Any

from malaria_cells.config.class_names import PARASITES, SIX_CLASSES

if TYPE_CHECKING:
    from malaria_cells.config.keys import Config
    from malaria_cells.config.reading import known_keys, load_config, make_config
    from malaria_cells.config.sets import OR, OneSet, names_of

_PLACES = {
    "keys": ("Config",),
    "reading": ("known_keys", "load_config", "make_config"),
    "sets": ("OR", "OneSet", "names_of"),
}
__all__ = ["OR", "PARASITES", "SIX_CLASSES", "Config", "OneSet", "known_keys", "load_config", "make_config", "names_of"]


def __getattr__(name: str) -> Any:
    place = next((place for place, names in _PLACES.items() if name in names), None)
    if place is None:
        raise AttributeError(f"module 'malaria_cells.config' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"malaria_cells.config.{place}"), name)
