"""The exception for invalid user input, and helpers for its messages."""

import difflib
from collections.abc import Iterable

MAX_MESSAGE = 3000  # characters of a message; longer ones quote what is damaged, such as a name of megabytes
MAX_ADVICE = 500  # characters at the end of a longer message that stay: they say what to do


class InputError(ValueError):
    """Raised if a request cannot be carried out because of its input.

    The message names the file or key, what was found, what was expected, and what to do; the middle of one of more than `MAX_MESSAGE`
    characters is left out. The command line prints it without a traceback and ends with exit code 2.

    Examples:
        >>> raise InputError("photo.jpg: no such image")
        Traceback (most recent call last):
        ...
        malaria_cells.InputError: photo.jpg: no such image
    """

    __module__ = "malaria_cells"  # the public import path, which tracebacks show

    def __init__(self, message: str = "") -> None:
        if len(message) > MAX_MESSAGE:
            message = f"{message[: MAX_MESSAGE - MAX_ADVICE]} .. {message[-MAX_ADVICE:]}"
        super().__init__(message)


MAX_REASON = 500  # characters of a library's message that are passed on; some quote whole files


def reason(error: BaseException) -> str:
    r"""Return the first line of an exception's message, truncated, or the name of its class if the message is empty.

    Examples:
        >>> reason(OSError("no space left\nat byte 3")), reason(KeyError())
        ('no space left', 'KeyError')
    """
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line if len(line) <= MAX_REASON else f"{line[: MAX_REASON - 3]}..."


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name closest to `name`, or an empty string.

    Examples:
        >>> nearest("trophozoit", ["ring", "trophozoite"])
        " (did you mean 'trophozoite'?)"
    """
    match = nearest_name(name, known)
    return f" (did you mean '{match}'?)" if match is not None else ""


def nearest_name(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the known name with the most similar spelling, ignoring case.

    Args:
        name: a name, perhaps misspelt.
        known: the names to choose from.
        likeness: minimum similarity (`difflib.SequenceMatcher.ratio`), 0 to 1.

    Returns:
        The name, or None if no known name is that similar.
    """
    candidates = {k.lower(): k for k in known}
    matches = difflib.get_close_matches(name.lower(), list(candidates), n=1, cutoff=likeness)
    return candidates[matches[0]] if matches else None
