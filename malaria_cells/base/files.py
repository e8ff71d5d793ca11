"""Writing so that a file or folder is either the old one, whole, or the new one, whole; and one process at a time.

A folder cannot be exchanged for another in one step. Its successor is written beside it, the old one is moved away, the new one in;
where a process is killed between the two, `put_back` returns the old one.
"""

import hashlib
import json
import logging
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from malaria_cells.base.errors import InputError

log = logging.getLogger(__name__)

LOCKS = ".locks"
WAITING = 0.05  # seconds between two looks whether a lock is free
WRITING, REPLACED, REMOVED = "writing", "replaced", "removed"
MOST_BYTES = 100  # of a name that temporary names are made of, since a file system's longest is 255


class BusyError(InputError):
    """Another process is writing what this one was asked to write."""


def _beside(path: Path, state: str, suffix: str = "") -> Path:
    """A name that nothing has yet, beside a path."""
    return path.parent / f".{_shortened(path.name)}.{state}-{secrets.token_hex(4)}{suffix}"


def _shortened(name: str) -> str:
    whole = name.encode(errors="surrogatepass")
    if len(whole) <= MOST_BYTES:
        return name
    return f"{whole[:MOST_BYTES].decode(errors='ignore')}-{hashlib.blake2b(whole, digest_size=4).hexdigest()}"


def _left(path: Path, state: str) -> list[Path]:
    """Temporary folders of one state that lie beside a path, oldest first."""
    start = f".{_shortened(path.name)}.{state}-"
    found = (p for p in path.parent.iterdir() if p.name.startswith(start)) if path.parent.is_dir() else ()
    return sorted(found, key=lambda p: p.stat().st_mtime)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path`, with the same suffix, to write to; it takes `path`'s place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path, WRITING, path.suffix)
    # Made by the system with the permissions that a plain open() gives.
    os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_replaceable(path: Path, known_by: str | None) -> None:
    """See that `replacing_folder` will take a path, before work is done for it.

    Args:
        path: of the folder.
        known_by: name of a marker file. A folder without it belongs to the user and is never overwritten; None: never overwrite.

    Raises:
        InputError: what is at `path` is somebody's own.
    """
    is_empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not is_empty and not (known_by and (path / known_by).is_file()):
        holds = f" and holds no {known_by}, so that it is not written over" if known_by else ""
        raise InputError(f"{path}: is already there{holds}; name a new folder")


@contextmanager
def replacing_folder(path: Path, known_by: str | None) -> Iterator[Path]:
    """Yield an empty folder beside `path`; it takes `path`'s place when the block ends well, and is removed when not.

    An older folder at `path` is moved away first and removed last, so that one of the two is always there whole: at `path`, or where
    `put_back` finds it.

    Args:
        path: of the folder.
        known_by: see `check_replaceable`.

    Raises:
        InputError: see `check_replaceable`.
    """
    put_back(path)
    check_replaceable(path, known_by)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path, WRITING)
    beside.mkdir()
    try:
        yield beside
        for old in _take_place(beside, path):
            shutil.rmtree(old)
    finally:
        if beside.exists():
            shutil.rmtree(beside)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` for what is needed until `path` is written; one that a kill left goes by `sweep`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path, WRITING)
    beside.mkdir()
    try:
        yield beside
    finally:
        shutil.rmtree(beside)


def _take_place(new: Path, path: Path) -> list[Path]:
    """Move a folder to a path; returns the folders that hold what was there."""
    moved = []
    while True:
        if path.exists():
            moved.append(_beside(path, REPLACED))
            moved[-1].mkdir()
            path.replace(moved[-1] / path.name)
        try:
            new.replace(path)
        except OSError:
            if not path.exists():  # else another process has just put a folder there
                raise
        else:
            return moved


def former(path: Path) -> Path | None:
    """Where the folder is that belongs to a path and was moved away by a `replacing_folder` that was killed then."""
    if path.exists():
        return None
    return next((old / path.name for old in reversed(_left(path, REPLACED)) if (old / path.name).exists()), None)


def put_back(path: Path) -> None:
    """Return what `former` finds to its place."""
    found = former(path)
    if found is not None:
        found.replace(path)
        log.warning(f"{path}: its writing was cut off; the former one is put back")


def sweep(path: Path) -> None:
    """Remove what killed writers of a path left beside it; for a path that no other process can be writing, as under a lock."""
    for state in (WRITING, REMOVED, REPLACED):
        for left in _left(path, state):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def remove_folder(path: Path) -> None:
    """Remove a folder so that it is there whole or not at all: it is moved away first."""
    away = _beside(path, REMOVED)
    path.replace(away)
    shutil.rmtree(away)


@contextmanager
def locked(path: Path, message: str, wait: bool = False) -> Iterator[None]:
    """Be the only process that has the lock of a path; the system takes it back from one that was killed.

    The lock is a file in the folder `LOCKS` beside the path. It goes with the lock: a refused request leaves nothing.

    Args:
        path: of a file or folder, which need not exist.
        message: said where another process has it.
        wait: whether to wait then.

    Raises:
        BusyError: another process has it, and `wait` is False.
    """
    place = path.parent / LOCKS / f"{path.name}.lock"
    lock = _acquired(place, message, wait)
    try:
        yield
    finally:
        if lock is not None:
            with suppress(PermissionError):  # Windows removes no file that is open
                place.unlink(missing_ok=True)
            lock.release()
        with suppress(OSError):  # another process has a lock in it
            place.parent.rmdir()


def _acquired(place: Path, message: str, wait: bool) -> FileLock | None:
    """The lock, held; None where the file system has none.

    A holder removes the file as it ends, so that the one that was opened and locked here may no longer be the one at that place.
    """
    said = False
    while True:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place)
        try:
            opened = os.open(place, os.O_CREAT | os.O_RDWR, 0o666)
        except FileNotFoundError:  # the folder has just been removed by another process
            continue
        try:
            lock.acquire(timeout=0)
            if os.path.samestat(os.fstat(opened), place.stat()):
                return lock
            lock.release()
        except FileNotFoundError:
            continue
        except Timeout:
            if not wait:
                raise BusyError(message) from None
            if not said:
                print(message, file=sys.stderr)
                said = True
            time.sleep(WAITING)
        except NotImplementedError:
            log.warning(f"{place.parent}: the file system knows no locks, so that nothing keeps a second process from writing there, too")
            return None
        finally:
            os.close(opened)


def file_hash(path: Path) -> bytes:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as strict JSON (no NaN) to `path`, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
