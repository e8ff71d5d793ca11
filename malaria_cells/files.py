"""Writing so that a file or folder is either the old one, whole, or the new one, whole."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from malaria_cells.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path`, with the same suffix, to write to; it takes `path`'s place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        # mkstemp makes the file private; give it the permissions that a plain open() would have.
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o666 & ~umask)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_replaceable(path: Path, known_by: str | None) -> None:
    """See that `replacing_folder` will take a path, before work is done for it.

    Args:
        path: of the folder.
        known_by: a file that every folder of this kind holds: what is at `path` without it is somebody's own. None: whatever is there is.

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

    An older folder at `path` is moved away first and removed last, so that one of the two is always there whole.

    Args:
        path: of the folder.
        known_by: see `check_replaceable`.

    Raises:
        InputError: see `check_replaceable`.
    """
    check_replaceable(path, known_by)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    beside.chmod(0o755)
    try:
        yield beside
        old = None
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent)) / path.name
            path.replace(old)
        beside.replace(path)
        if old is not None:
            shutil.rmtree(old.parent)
    finally:
        if beside.exists():
            shutil.rmtree(beside)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as strict JSON (no NaN) to `path`, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
