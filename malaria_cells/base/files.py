"""Atomic replacement of files and folders.

A folder cannot be replaced in one step. The new folder is written beside the old one, the old one is moved away, and the new one is moved
to its path. If the process is killed between the two moves, `put_back` restores the old folder.
"""

import csv
import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from malaria_cells.base.errors import InputError

log = logging.getLogger(__name__)

WRITING, REPLACED, REMOVED = "writing", "replaced", "removed"
MAX_STEM_BYTES = 100  # bytes of a name that are used in a temporary name, since most file systems limit names to 255


def _temporary_path(path: Path, state: str, suffix: str = "") -> Path:
    """A new temporary path in the same folder as `path`."""
    return path.parent / f".{_shortened(path.name)}.{state}-{secrets.token_hex(4)}{suffix}"


def _shortened(name: str) -> str:
    whole = name.encode(errors="surrogatepass")
    if len(whole) <= MAX_STEM_BYTES:
        return name
    return f"{whole[:MAX_STEM_BYTES].decode(errors='ignore')}-{hashlib.blake2b(whole, digest_size=4).hexdigest()}"


def _leftovers(path: Path, state: str) -> list[Path]:
    """Temporary files and folders of one state that belong to a path, oldest first."""
    start = f".{_shortened(path.name)}.{state}-"
    leftovers = (p for p in path.parent.iterdir() if p.name.startswith(start)) if path.parent.is_dir() else ()
    return sorted(leftovers, key=lambda p: p.stat().st_mtime)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file with the suffix of `path`; it replaces `path` if the block raises no exception."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_path(path, WRITING, path.suffix)
    # Created with the same permissions as by open().
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_replaceable(path: Path, known_by: str | None) -> None:
    """Check that `replacing_folder` accepts a path, before any work is done.

    Args:
        path: path of the folder.
        known_by: name of a marker file. A folder without it belongs to the user and is never overwritten; None: never overwrite.

    Raises:
        InputError: `path` is not empty and belongs to the user.
    """
    is_empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not is_empty and not (known_by and (path / known_by).is_file()):
        holds = f" and holds no {known_by}, so it is not overwritten" if known_by else ""
        raise InputError(f"{path}: already exists{holds}; name a new folder")


@contextmanager
def replacing_folder(path: Path, known_by: str | None) -> Iterator[Path]:
    """Yield an empty temporary folder. It replaces `path` if the block raises no exception, and is removed otherwise.

    An existing folder at `path` is moved away first and removed last. So at any time one of the two exists completely: at `path`, or
    where `put_back` restores it from.

    Args:
        path: path of the folder.
        known_by: see `check_replaceable`.

    Raises:
        InputError: see `check_replaceable`.
    """
    put_back(path)
    check_replaceable(path, known_by)
    with scratch_folder(path) as temporary:
        yield temporary
        for old in _take_place(temporary, path):
            shutil.rmtree(old)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` that is removed when the block ends. After a kill, `sweep` removes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_path(path, WRITING)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        if temporary.exists():  # not moved to its place
            shutil.rmtree(temporary)


def _take_place(new: Path, path: Path) -> list[Path]:
    """Move a folder to a path; returns the temporary folders that hold the previous content of the path."""
    moved = []
    while True:
        if path.exists():
            moved.append(_temporary_path(path, REPLACED))
            moved[-1].mkdir()
            path.replace(moved[-1] / path.name)
        try:
            new.replace(path)
        except OSError:
            if not path.exists():  # otherwise another process has just created it
                raise
        else:
            return moved


def former(path: Path) -> Path | None:
    """Return the folder that a killed `replacing_folder` moved away from `path`.

    Returns:
        The moved folder, or None if `path` exists or no folder was moved.
    """
    if path.exists():
        return None
    return next((old / path.name for old in reversed(_leftovers(path, REPLACED)) if (old / path.name).exists()), None)


def put_back(path: Path) -> None:
    """Move the folder that `former` returns back to `path`."""
    previous = former(path)
    if previous is not None:
        previous.replace(path)
        log.warning(f"{path}: writing it was interrupted; the previous version is restored")


def sweep(path: Path) -> None:
    """Remove the temporary files and folders that killed processes left beside a path. No other process may be writing the path."""
    for state in (WRITING, REMOVED, REPLACED):
        for leftover in _leftovers(path, state):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def remove_folder(path: Path) -> None:
    """Remove a folder atomically: it is renamed first, so a partly deleted folder never remains at `path`."""
    away = _temporary_path(path, REMOVED)
    path.replace(away)
    shutil.rmtree(away)


def reserve(path: Path) -> None:
    """Take the room of a file of its size on the disk, since writing to a memory map of a file without room would end the process.

    Raises:
        OSError: the disk is full. On systems that cannot reserve room nothing is raised.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(path.stat().st_size, 1))
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:  # the file system has no reservations
                raise


def check_room(folder: Path, n_bytes: int) -> None:
    """Check that a folder's disk has room for a file, before a library writes it that does not end cleanly on a full disk, as HDF5.

    Raises:
        OSError: the disk is full. On systems that cannot reserve room nothing is raised.
    """
    path = _temporary_path(folder / "room", WRITING)
    try:
        with path.open("wb") as file:
            file.truncate(n_bytes)
        reserve(path)
    finally:
        path.unlink(missing_ok=True)


def file_hash(path: Path) -> bytes:
    """BLAKE2b hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as strict JSON (no NaN) to `path`, atomically."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_json_rows(path: Path, content: dict[str, Any], key: str, rows: Iterable[list[Any]]) -> None:
    """Write what `write_json` writes, with a list that need not fit into memory.

    Args:
        path: the file.
        content: the other keys; their order is that of the file.
        key: of the list; `content` has an empty list there.
        rows: the parts of the list, one after another.
    """
    before, empty, after = json.dumps(content, indent=2, allow_nan=False).partition(f'"{key}": []')
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f"{before}{empty[:-1]}")
        is_first = True
        for part in filter(None, rows):
            # Without the brackets, two spaces further to the right. A line break within a text is escaped.
            text = json.dumps(part, indent=2, allow_nan=False)[1:-2].replace("\n", "\n  ")
            file.write(text if is_first else f",{text}")
            is_first = False
        file.write(("" if is_first else "\n  ") + f"]{after}\n")


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table as UTF-8 to `path`, atomically."""
    # Bytes of a name that are not UTF-8 are written as \\x.., as in Python's messages.
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
