"""Looks at an HDF5 file of weights in a process of its own, before anything here reads it.

HDF5 may point at other files and declare arrays of any size, and its library ends the process, or never returns, on some damaged files.
Run as a script this file is that process: it imports nothing of this package.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SIGNATURE = b"\x89HDF\r\n\x1a\n"  # the first bytes of an HDF5 file
MAX_EXPANSION = 1100  # bytes of an array by the bytes that hold it; deflate reaches 1,032
SMALL = 2**16  # bytes that an array may have without any being stored
MAX_OBJECTS = 200_000  # groups and arrays; the largest of keras.applications has about 10,000
SECONDS = 10.0  # that a look may take, and one more for each `A_SECOND` bytes
A_SECOND = 2**24
MEMORY = 2**32  # bytes of addresses for the process, beside four times the file's
_FROM_STDIN = "-"
_looked_at: dict[str, int] = {}  # numbers of values by SHA-256: a test, or a page, loads the same network many times


class RefusedError(ValueError):
    """A file of weights that is not to be read; the message does not name it."""


def values_in(source: Path | bytes) -> int:
    """The number of values in all arrays of an HDF5 file that can be read, whole, without another file.

    Args:
        source: the file, or its content.

    Raises:
        RefusedError: it cannot.
    """
    if isinstance(source, bytes):
        digest, size = hashlib.sha256(source).hexdigest(), len(source)
    else:
        with source.open("rb") as file:
            digest, size = hashlib.file_digest(file, "sha256").hexdigest(), source.stat().st_size
    if digest not in _looked_at:
        _looked_at[digest] = _looked(source, size)
    return _looked_at[digest]


def _looked(source: Path | bytes, size: int) -> int:
    given, content = (_FROM_STDIN, source) if isinstance(source, bytes) else (str(source.absolute()), None)
    seconds = SECONDS + size / A_SECOND
    command = [sys.executable, "-P", __file__, given, str(MEMORY + 4 * size)]
    try:
        # S603: the command is this very file.
        done = subprocess.run(  # noqa: S603
            command, input=content, capture_output=True, timeout=seconds, check=False, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        )
    except subprocess.TimeoutExpired:
        raise RefusedError(f"reading its HDF5 did not end within {seconds:.0f} seconds; it is damaged or was made to do harm") from None
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise RefusedError("the HDF5 library ends where it reads this; the file is damaged or was made to do harm") from None
    if isinstance(found, int):
        return found
    raise RefusedError(str(found))


def _look(source: Any) -> int:
    """See that a file points at no other, declares no more than it holds, and can be read; the number of its values."""
    import h5py

    links: list[tuple[str, Any]] = []
    with h5py.File(source, "r") as file:
        # An exception within a visit would be lost in h5py; a value that is not None ends the visits.
        file.visititems_links(lambda name, link: links.append((name, link)) if len(links) <= MAX_OBJECTS else True)
        if len(links) > MAX_OBJECTS:
            raise RefusedError(f"holds more than {MAX_OBJECTS:,} groups and arrays, which no network has")
        dict(file.attrs)
        return sum(_read(file, name, link) for name, link in links)


def _read(file: Any, name: str, link: Any) -> int:
    """Read one group's attributes, or an array; the number of its values."""
    import h5py

    if not isinstance(link, h5py.HardLink):
        raise RefusedError(f"its '{name[:60]}' is a link to another place or file; expected a network's weights themselves")
    found = file[name]
    dict(found.attrs)
    if not isinstance(found, h5py.Dataset):
        return 0
    size = _checked_size(found, name[:60])
    found[()]
    return size


def _checked_size(array: Any, name: str) -> int:
    if array.external or array.is_virtual:
        raise RefusedError(f"the values of its '{name}' are in another file; expected a network's weights themselves")
    size = int(array.size or 0)
    if size * array.dtype.itemsize > max(SMALL, MAX_EXPANSION * array.id.get_storage_size()):
        raise RefusedError(f"its '{name}' declares {size:,} values and does not hold them; it is damaged or was made to do harm")
    return size


def _limit_memory(n_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows, where the time is limited alone
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (n_bytes if hard == resource.RLIM_INFINITY else min(n_bytes, hard), hard))


def _main(given: str, memory: str) -> None:
    _limit_memory(int(memory))
    found: int | str
    try:
        found = _look(io.BytesIO(sys.stdin.buffer.read()) if given == _FROM_STDIN else given)
    except Exception as error:  # noqa: BLE001  h5py raises whatever the broken part raises
        text = str(error).strip().splitlines()
        found = text[0] if text else type(error).__name__
    print(json.dumps(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
