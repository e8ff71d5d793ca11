"""Whether the libraries of the extra ``ray`` are installed."""

import importlib

from malaria_cells.base.errors import InputError

EXTRA = "pip install 'malaria-cells[ray]'"


def check_installed(what: str, *modules: str) -> None:
    """Check that libraries of the extra are installed.

    Args:
        what: flag or command that needs them, with which the message begins.
        modules: names of modules.

    Raises:
        InputError: one is missing.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InputError(f"{what}: needs {module.split('.')[0]} ({error}); install it with: {EXTRA}") from None
