"""Validation and locking of the name of a training run, which is the name of its model folder."""

import datetime as dt
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from malaria_cells.base import files
from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.locks import BusyError, locked
from malaria_cells.fitting import run_folders

# Bytes that the names of the temporary folders of a run are longer than the name of the model.
ADDED_BYTES = len(f".{run_folders.ENDING}{run_folders.BACKUP}")
DEFAULT_NAME_MAX = 255  # bytes of a file name, if the system does not say
NOT_IN_NAMES = re.compile(r"[/\\\x00-\x1f\x7f\ud800-\udfff]" if os.name != "nt" else r'[/\\:*?"<>|\x00-\x1f\x7f\ud800-\udfff]')


def check_place(output: Path, name: str | None) -> None:
    """Check that a model folder can be written, before any work is done. Nothing is created.

    Args:
        output: `output_models` of the config.
        name: `name` of the config; None: date and time.

    Raises:
        InputError: the name is not valid for a folder, or `output` cannot be written to.
    """
    existing = check_folder(output, "models")
    if name is not None:
        _check_name(name, _max_name_bytes(existing) - ADDED_BYTES)


def check_folder(folder: Path, what: str) -> Path:
    """Check that a folder exists or can be created, and can be written to. Nothing is created.

    Args:
        folder: path of the folder.
        what: what will be written to it, in the plural, for error messages.

    Returns:
        The folder, or its nearest existing parent.

    Raises:
        InputError: the folder cannot be created or written to.
    """
    try:
        os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # the name is too long or has invalid characters
        why = getattr(error, "strerror", None) or reason(error)
        raise InputError(f"{str(folder)[:60]!a}: {why}; {what} are written to a folder; name another") from error
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{folder}: {existing} is a file; {what} are written to a folder; name another")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: {existing} is not writable; name another folder for {what}, or change its permissions")
    return existing


def _check_name(name: str, max_bytes: int) -> None:
    wrong = NOT_IN_NAMES.search(name)
    if wrong or name in {".", ".."}:
        problem = f"holds {wrong.group()!a}" if wrong else "is not a valid name"
        raise InputError(f"name: {name[:40]!a} {problem}; expected the name of a folder in `output_models`")
    if len(os.fsencode(name)) > max_bytes:
        raise InputError(
            f"name: {name[:20]}.. has {len(os.fsencode(name))} bytes; expected at most {max_bytes}, the limit of the file system"
        )


def _max_name_bytes(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows has no pathconf; some network file systems do not support it
        return DEFAULT_NAME_MAX


@contextmanager
def claimed(output: Path, name: str | None, resume: bool) -> Iterator[str]:
    """Hold the lock of a name, so that no second training writes to the same folder. Yields the name.

    Args:
        output: `output_models` of the config.
        name: `name` of the config. None: on resume the name of the most recent unfinished run, otherwise date and time, with a number
            if that is taken.
        resume: whether an unfinished run is resumed.

    Raises:
        InputError: another training holds the name, or `output` cannot be written to.
        ResumeError: there is no unfinished run to resume.
    """
    if resume:
        names = iter([name] if name is not None and output.is_dir() else run_folders.by_age(output))
    else:
        names = _new_names(output) if name is None else iter([name])
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{output}: {error.strerror}; models are written to a folder; name another") from error
    with ExitStack() as locks:
        claimed_name = _lock_first_free(output, names, locks)
        files.put_back(output / claimed_name)
        for path in (output / claimed_name, *run_folders.places(output, claimed_name)):
            files.sweep(path)
        yield claimed_name


def _lock_first_free(output: Path, names: Iterator[str], locks: ExitStack) -> str:
    busy: InputError = run_folders.ResumeError(f"found no unfinished run in {output}; start a new run")
    for name in names:
        message = f"{output / name}: another training is writing to it; wait until it ends, or choose another name or folder"
        try:
            locks.enter_context(locked(output / name, message))
        except BusyError as error:
            busy = error
        else:
            return name
    raise busy


def _new_names(output: Path) -> Iterator[str]:
    """Yield names made of date and time, with increasing numbers, that no model and no unfinished run has."""
    now = dt.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    for number in itertools.count(1):
        name = now if number == 1 else f"{now}-{number}"
        if not (output / name).exists() and not run_folders.folder_of(output, name).exists():
            yield name
