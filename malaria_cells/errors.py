"""The one exception that a user's input can cause."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A request that cannot be carried out as it stands.

    The message names the file or key, says what was found and what was expected, and what to do. The command line prints
    it without a traceback and ends with exit code 2.

    Examples:
        >>> raise InputError("photo.jpg: no such picture")
        Traceback (most recent call last):
        ...
        malaria_cells.errors.InputError: photo.jpg: no such picture
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name closest to `name`, or an empty string.

    Examples:
        >>> nearest("trophozoit", ["ring", "trophozoite"])
        " (did you mean 'trophozoite'?)"
    """
    candidates = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), list(candidates), n=1, cutoff=0.6)
    return f" (did you mean '{candidates[found[0]]}'?)" if found else ""
