"""The one exception that a user's input can cause."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A request that cannot be carried out as it stands.

    The message names the file or key, says what was found and what was expected, and what to do. The command line prints
    it without a traceback and ends with exit code 2.

    Examples:
        >>> raise InputError("photo.jpg: no such image")
        Traceback (most recent call last):
        ...
        malaria_cells.InputError: photo.jpg: no such image
    """

    __module__ = "malaria_cells"  # where programs import it from, and what a traceback names


def reason(error: BaseException) -> str:
    r"""Return the first line of what an exception says, or its kind where it says nothing.

    Examples:
        >>> reason(OSError("no space left\nat byte 3")), reason(KeyError())
        ('no space left', 'KeyError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name closest to `name`, or an empty string.

    Examples:
        >>> nearest("trophozoit", ["ring", "trophozoite"])
        " (did you mean 'trophozoite'?)"
    """
    found = nearest_name(name, known)
    return f" (did you mean '{found}'?)" if found is not None else ""


def nearest_name(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the known name that is spelt most like `name`, or None where none is as like as `likeness`, 0 to 1."""
    candidates = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), list(candidates), n=1, cutoff=likeness)
    return candidates[found[0]] if found else None
