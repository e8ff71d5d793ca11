"""Things by name, each added by a decorator in a file of its own: architectures, engines, file formats, augmentations.

A registry finds what the package itself adds by importing the modules of one of its packages, and what others add by their entry points:
a distribution that has

    [project.entry-points."malaria_cells"]
    mine = "my_package.my_module"

in its ``pyproject.toml`` is imported before any name is looked up, and its decorators add to the registries of this package.
"""

import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from malaria_cells.base.errors import InputError, nearest, reason

GROUP = "malaria_cells"  # of entry points
T = TypeVar("T")
_loaded_plugins = False


class Registry(Generic[T]):
    """Entries of one kind by name.

    Args:
        key: the config key, or the option, that names an entry; errors begin with it.
        package: whose modules add the entries that come along; they import nothing heavy at their top level.
        also: further values of the key, which name no entry, for messages.
    """

    def __init__(self, key: str, package: str, also: tuple[str, ...] = ()):
        self.key, self.package, self.also = key, package, also
        self._entries: dict[str, tuple[int, T]] = {}
        self._found = False

    def add(self, *names: str, rank: int = 100) -> Callable[[T], T]:
        """Return a decorator that adds what it decorates.

        Args:
            names: one or more, all for the same entry.
            rank: entries of a lower rank come first, where one after another is tried; those of one rank are in the order of their names.

        Raises:
            ValueError: a name is taken, which is a mistake of whoever adds.
        """

        def decorate(entry: T) -> T:
            for name in names:
                if name in self._entries and self._entries[name][1] is not entry:
                    raise ValueError(f"{self.key}: '{name}' is already added, as {self._entries[name][1]!r}")
                self._entries[name] = (rank, entry)
            return entry

        return decorate

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of their ranks."""
        self._find()
        return tuple(sorted(self._entries, key=lambda name: (self._entries[name][0], name)))

    def __getitem__(self, name: str) -> T:
        """Return the entry of a name.

        Raises:
            InputError: there is none; the message has the nearest name, and all of them.
        """
        if name not in self:
            known = (*self.also, *self.names)
            raise InputError(f"{self.key}: '{name}' is unknown{nearest(name, known)}; expected one of {', '.join(known)}")
        return self._entries[name][1]

    def __contains__(self, name: str) -> bool:
        self._find()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def _find(self) -> None:
        if not self._found:
            self._found = True  # first, since the modules may ask for names
            for module in pkgutil.iter_modules(import_module(self.package).__path__):
                import_module(f"{self.package}.{module.name}")
        _load_plugins()


def _load_plugins() -> None:
    """Import what other distributions add, once.

    Raises:
        InputError: one of them cannot be imported; without it a name would silently mean something else, or nothing.
    """
    global _loaded_plugins
    if _loaded_plugins:
        return
    _loaded_plugins = True
    for plugin in entry_points(group=GROUP):
        try:
            plugin.load()
        except Exception as error:  # whatever a plugin's module raises
            _loaded_plugins = False
            owner = plugin.dist.name if plugin.dist is not None else "an unknown distribution"
            raise InputError(
                f"the plugin '{plugin.name}' of {owner} ({plugin.value}) cannot be loaded ({reason(error)}); mend or uninstall it"
            ) from error
