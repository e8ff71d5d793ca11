"""The images of a run on a cluster: of a folder, of a list, or of an object store; and reading one of them."""

import glob
import posixpath
import tempfile
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from malaria_cells.base.errors import InputError, reason
from malaria_cells.cluster.places import file_system, is_url, local_path, reaching
from malaria_cells.data.images import SUFFIXES, LargeImage, is_image, list_images, open_image
from malaria_cells.data.images.walking import is_searched

LISTS = frozenset({".txt", ".lst"})  # suffixes of files that list images, one a line


class UnreachableError(Exception):
    """An image could not be fetched from where it is, which says nothing about the image."""


@dataclass(frozen=True)
class Images:
    """Images below a folder.

    Attributes:
        root: path or address of the folder.
        keys: sorted paths relative to the folder, with forward slashes, or whole addresses.
    """

    root: str
    keys: tuple[str, ...]


def slide_of(key: str) -> str:
    """The slide of an image: its folder, as with ``group: folder`` in a config; empty for an image in no folder.

    >>> slide_of("patient 3/slide 1/field_07.png"), slide_of("field_07.png")
    ('patient 3/slide 1', '')
    """
    parent = PurePosixPath(key).parent.as_posix()
    return "" if parent == "." else parent


def find_images(where: str) -> Images:
    """Find the images of a folder, a glob, a file, a list of images (``.txt``), or an address of fsspec.

    In a list, each line is a path relative to the list's folder, a whole path, or an address; empty lines and lines that begin with ``#``
    are left out.

    Raises:
        InputError: there is no such place, or no image in it.
    """
    path = local_path(where)
    if PurePosixPath(where).suffix.lower() in LISTS and (path is None or path.is_file()):
        return _listed(where)
    if path is not None:
        root, keys = list_images(path, slides=True)
        return Images(str(root.absolute()), tuple(keys))
    return _in_store(where)


def _listed(where: str) -> Images:
    path = local_path(where)
    try:
        content = path.read_bytes() if path is not None else reaching(lambda: bytes(file_system(where).cat_file(where)), where)
        lines = [line.strip() for line in content.decode("utf-8").splitlines()]
    except FileNotFoundError:
        raise InputError(f"--image {where}: no such list; name a text file with a path or an address a line") from None
    except UnicodeDecodeError:
        raise InputError(f"--image {where}: is not text in UTF-8; expected a path or an address of an image a line") from None
    keys = [line for line in lines if line and not line.startswith("#")]
    double = next((key for key, following in pairwise(sorted(keys)) if key == following), None)
    if double is not None:
        raise InputError(f"--image {where}: names '{double}' twice; name every image once, since its cells would be counted twice")
    if not keys:
        raise InputError(f"--image {where}: names no image; expected a path or an address a line")
    root = posixpath.dirname(where) if path is None else str(path.parent.absolute())
    return Images(root, tuple(sorted(keys)))


def _in_store(where: str) -> Images:
    store = file_system(where)
    protocol = where.split("://", 1)[0]
    stripped = str(store._strip_protocol(where)).rstrip("/")
    if glob.has_magic(where):
        # The folder before the first pattern is what keys are relative to, as with a pattern on this machine.
        parts = stripped.split("/")
        root = "/".join(parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
        found = reaching(lambda: store.glob(stripped), where)
    elif reaching(lambda: store.isfile(stripped), where):
        root, found = posixpath.dirname(stripped), [stripped]
    else:
        root, found = stripped, reaching(lambda: store.find(stripped), where)
    relative = [str(name).removeprefix(root).lstrip("/") for name in found]
    keys = [key for key in relative if is_image(Path(key)) and all(is_searched(part) for part in key.split("/"))]
    if not keys:
        raise InputError(f"{where}: found no image; expected files ending in {', '.join(sorted(SUFFIXES))}")
    return Images(f"{protocol}://{root}", tuple(sorted(keys)))


def address(root: str, key: str) -> str:
    """The path or address of an image.

    >>> address("s3://bucket/smears", "a/1.png"), address("/data", "a/1.png"), address("/data", "s3://other/1.png")
    ('s3://bucket/smears/a/1.png', '/data/a/1.png', 's3://other/1.png')
    """
    return key if is_url(key) or key.startswith("/") else f"{root.rstrip('/')}/{key}"


def read(root: str, key: str) -> np.ndarray | LargeImage:
    """Open an image of this machine or of a store, see `open_image`; of a store's large image the copy is kept as long as the image.

    Raises:
        InputError: the image is missing or cannot be read, see `open_image`.
        UnreachableError: the store does not give it.
    """
    where = address(root, key)
    path = local_path(where)
    if path is not None:
        return open_image(path)
    with ExitStack() as kept:
        fetched = Path(kept.enter_context(tempfile.TemporaryDirectory())) / f"image{PurePosixPath(key).suffix}"
        fetch(root, key, fetched)
        try:
            image = open_image(fetched)
        except InputError as error:
            raise InputError(str(error).replace(str(fetched), where)) from None
        if isinstance(image, LargeImage):
            image.path = where
            weakref.finalize(image, kept.pop_all().close)
        return image


def fetch(root: str, key: str, target: Path) -> None:
    """Write a copy of an image, or a link to it where it is on this machine.

    Raises:
        InputError: there is no such image.
        UnreachableError: the store does not give it.
    """
    where = address(root, key)
    target.parent.mkdir(parents=True, exist_ok=True)
    path = local_path(where)
    if path is not None:
        target.symlink_to(path.absolute())
        return
    try:
        target.write_bytes(file_system(where).cat_file(where))
    except FileNotFoundError:
        raise InputError(f"{where}: no such image") from None
    except InputError as error:  # the library of the protocol is missing
        raise UnreachableError(str(error)) from None
    except Exception as error:  # libraries of stores raise errors of many types
        raise UnreachableError(f"{where}: cannot be fetched ({type(error).__name__}: {reason(error)})") from error
