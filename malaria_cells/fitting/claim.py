"""The name of a training: one that a folder can have, and no other training's at the same time."""

import datetime as dt
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from malaria_cells.base import files
from malaria_cells.base.errors import InputError, reason
from malaria_cells.fitting import run_state

# Bytes of the longest name of what a training keeps beside its model, less the model's own name.
ADDED_BYTES = len(f".{run_state.ENDING}{run_state.BACKUP}")
USUAL_LONGEST = 255  # bytes of a file's name
NOT_IN_NAMES = re.compile(r"[/\\\x00-\x1f\x7f\ud800-\udfff]" if os.name != "nt" else r'[/\\:*?"<>|\x00-\x1f\x7f\ud800-\udfff]')


def check_place(output: Path, name: str | None) -> None:
    """See that a model folder can be written, before work is done for it; makes nothing.

    Args:
        output: the config's `output_models`.
        name: the config's; None: date and time.

    Raises:
        InputError: the name cannot be a folder's, or its place cannot be written to.
    """
    there = check_folder(output, "models")
    if name is not None:
        _check_name(name, _longest_name(there) - ADDED_BYTES)


def check_folder(folder: Path, what: str) -> Path:
    """See that a folder is there or can be made, and can be written to; makes nothing.

    Args:
        folder: which.
        what: is written to it, in the plural.

    Returns:
        The folder, or the one in which it would be made.

    Raises:
        InputError: it cannot.
    """
    try:
        os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # a name that is too long, or holds what no name may
        why = getattr(error, "strerror", None) or reason(error)
        raise InputError(f"{str(folder)[:60]!a}: {why}; {what} are written to a folder: name another") from error
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise InputError(f"{folder}: {there} is a file; {what} are written to a folder: name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: {there} may not be written to; name another folder for {what}, or change its permissions")
    return there


def _check_name(name: str, longest: int) -> None:
    wrong = NOT_IN_NAMES.search(name)
    if wrong or name in {".", ".."}:
        held = f"holds {wrong.group()!a}" if wrong else "is no name"
        raise InputError(f"name: {name[:40]!a} {held}; expected the name of a folder, which lies in `output_models`")
    if len(os.fsencode(name)) > longest:
        raise InputError(f"name: {name[:20]}.. has {len(os.fsencode(name))} bytes; expected {longest} at most, as the file system takes")


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows has no pathconf, a network's file system may not tell
        return USUAL_LONGEST


@contextmanager
def claimed(output: Path, name: str | None, resume: bool) -> Iterator[str]:
    """Hold the lock of a name, so that no second training writes to the same folder; yields the name.

    Args:
        output: the config's `output_models`.
        name: the config's; None: on resume that of the run worked on last, else date and time, with a number where that is taken.
        resume: whether a run is gone on with.

    Raises:
        InputError: another training has the name, there is nothing to go on with, or `output` cannot be written to.
    """
    if resume:
        there = [name] if name is not None and output.is_dir() else run_state.by_age(output)
        names = iter(there)
    else:
        names = _new_names(output) if name is None else iter([name])
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{output}: {error.strerror}; models are written to a folder: name another") from error
    with ExitStack() as locks:
        held = _first_free(output, names, locks)
        files.put_back(output / held)
        for path in (output / held, *run_state.places(output, held)):
            files.sweep(path)
        yield held


def _first_free(output: Path, names: Iterator[str], locks: ExitStack) -> str:
    busy = InputError(f"--resume: found no unfinished run in {output}; start one without --resume")
    for name in names:
        message = f"{output / name}: another training is writing it; wait until that ends, or choose another name or folder"
        try:
            locks.enter_context(files.locked(output / name, message))
        except files.BusyError as error:
            busy = error
        else:
            return name
    raise busy


def _new_names(output: Path) -> Iterator[str]:
    """Names by date and time that no model and no unfinished run has; a name that is not free by its lock is followed by the next."""
    now = dt.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    for number in itertools.count(1):
        name = now if number == 1 else f"{now}-{number}"
        if not (output / name).exists() and not run_state.folder_of(output, name).exists():
            yield name
