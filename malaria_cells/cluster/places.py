"""Folders on this machine or in an object store, by fsspec: read, listed, and written so that no file is ever half there."""

import functools
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from malaria_cells.base import files
from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.parallel import imap_ordered

Result = TypeVar("Result")

# Protocols whose stores show an object only once it is uploaded whole; elsewhere a file is written under another name and then moved.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory"})


def is_url(text: str) -> bool:
    """Whether a text is an address such as ``s3://bucket/folder``.

    >>> is_url("s3://bucket/smears"), is_url("results/smears"), is_url("C:/smears")
    (True, False, False)
    """
    return "://" in text


def local_path(text: str) -> Path | None:
    """The path that a text names on this machine; None for an address elsewhere.

    >>> local_path("file:///data/smears").as_posix(), local_path("s3://bucket/smears")
    ('/data/smears', None)
    """
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return None if is_url(text) else Path(text)


def file_system(url: str) -> Any:
    """The fsspec file system of an address.

    Raises:
        InputError: the protocol is unknown, or its library is not installed.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)[0]
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{url}: cannot be opened ({reason(error)}); fsspec reads s3:// with the package s3fs, gs:// with gcsfs, az:// with adlfs"
        ) from None


def reaching(what: Callable[[], Result], url: str) -> Result:
    """Call a function of a store, whose libraries raise errors of many types.

    Raises:
        InputError: the store cannot be reached, or refuses; the message says why.
    """
    try:
        return what()
    except (InputError, FileNotFoundError):
        raise
    except Exception as error:
        raise InputError(
            f"{url}: the store cannot be used ({type(error).__name__}: {reason(error)}); check address, network and access"
        ) from error


@dataclass(frozen=True)
class Place:
    """A folder, by its path or address. It is made when something is written into it.

    Attributes:
        where: a path, or an address such as ``s3://bucket/folder``.
    """

    where: str

    def __str__(self) -> str:
        return self.where

    def of(self, name: str) -> str:
        """The path or address of a file in the folder.

        >>> Place("s3://bucket/folder/").of("cells/part-000000.parquet")
        's3://bucket/folder/cells/part-000000.parquet'
        """
        return f"{self.where.rstrip('/')}/{name}"

    @property
    def path(self) -> Path | None:
        """The folder on this machine, or None."""
        return local_path(self.where)

    @functools.cached_property
    def _store(self) -> Any:
        return file_system(self.where)

    def read(self, name: str) -> bytes:
        """Read a file.

        Raises:
            FileNotFoundError: there is none.
        """
        if self.path is not None:
            return (self.path / name).read_bytes()
        return reaching(lambda: bytes(self._store.cat_file(self.of(name))), self.of(name))

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        if self.path is not None:
            with files.replacing(self.path / name) as temporary:
                temporary.write_bytes(content)
            return
        url = self.of(name)
        if self.where.split("://", 1)[0] in OBJECT_STORES:
            reaching(lambda: self._store.pipe_file(url, content), url)
            return
        unfinished = self.of(posixpath.join(posixpath.dirname(name), f".writing-{posixpath.basename(name)}"))
        reaching(lambda: self._store.makedirs(posixpath.dirname(url), exist_ok=True), url)
        reaching(lambda: self._store.pipe_file(unfinished, content), url)
        reaching(lambda: self._store.mv(unfinished, url), url)

    def names(self, folder: str = "") -> list[str]:
        """Names of what lies in the folder, or in a folder of it, sorted; hidden names are left out."""
        if self.path is not None:
            found = self.path / folder
            names = [p.name for p in found.iterdir()] if found.is_dir() else []
        else:
            names = self._remote_names(self.of(folder) if folder else self.where)
        return sorted(name for name in names if not name.startswith("."))

    def _remote_names(self, url: str) -> list[str]:
        self._store.invalidate_cache()  # other processes write there
        try:
            listed = reaching(lambda: self._store.ls(url.rstrip("/"), detail=False), url)
        except FileNotFoundError:
            return []
        return [posixpath.basename(name.rstrip("/")) for name in listed]

    def remove(self, folder: str, names: list[str]) -> None:
        """Remove files of a folder in it, then the folder, if it is empty."""
        if self.path is not None:
            for name in names:
                (self.path / folder / name).unlink(missing_ok=True)
            if (self.path / folder).is_dir() and not any((self.path / folder).iterdir()):
                (self.path / folder).rmdir()
        elif names:
            reaching(lambda: self._store.rm([self.of(f"{folder}/{name}") for name in names]), self.of(folder))

    def read_each(self, names: list[str]) -> Iterator[bytes]:
        """Yield the content of files in the order of their names; the next ones are read meanwhile."""
        for _, reading in imap_ordered(self.read, names):
            yield reading.result()
