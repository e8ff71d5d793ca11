"""Validates an HDF5 file of weights in a separate process, before this process reads it.

HDF5 files can refer to other files and declare arrays of any size, and on some damaged files the HDF5 library crashes or never returns.
This file is also the script of the separate process, so it imports nothing from this package.
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
MAX_EXPANSION = 1100  # maximum ratio of an array's size to its stored size; deflate reaches 1,032
MAX_UNSTORED = 2**16  # bytes of an array up to which the ratio is not checked
MAX_OBJECTS = 200_000  # groups and arrays; the largest of keras.applications has about 10,000
SECONDS = 10.0  # base time limit of the validation
BYTES_PER_SECOND = 2**24  # bytes of the file for each further second
MEMORY = 2**32  # bytes of address space of the process, in addition to four times the size of the file
_FROM_STDIN = "-"
_n_values: dict[str, int] = {}  # cached results by SHA-256, since tests and the web page load the same network many times


class RefusedError(ValueError):
    """Raised for a weights file that must not be read; the message does not name the file."""


def values_in(source: Path | bytes) -> int:
    """Validate an HDF5 file and return the number of values in all of its arrays.

    Args:
        source: path of the file, or its content.

    Raises:
        RefusedError: the file cannot be read completely, or refers to another file.
    """
    if isinstance(source, bytes):
        digest, size = hashlib.sha256(source).hexdigest(), len(source)
    else:
        with source.open("rb") as file:
            digest, size = hashlib.file_digest(file, "sha256").hexdigest(), source.stat().st_size
    if digest not in _n_values:
        _n_values[digest] = _validated_in_process(source, size)
    return _n_values[digest]


def _validated_in_process(source: Path | bytes, size: int) -> int:
    """Run this file as a script and return the number of values."""
    argument, content = (_FROM_STDIN, source) if isinstance(source, bytes) else (str(source.absolute()), None)
    seconds = SECONDS + size / BYTES_PER_SECOND
    command = [sys.executable, "-P", __file__, argument, str(MEMORY + 4 * size)]
    try:
        # S603: the command is this file.
        done = subprocess.run(  # noqa: S603
            command, input=content, capture_output=True, timeout=seconds, check=False, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        )
    except subprocess.TimeoutExpired:
        raise RefusedError(f"reading its HDF5 did not end within {seconds:.0f} seconds; it is damaged or malicious") from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise RefusedError("the HDF5 library crashed on this file; it is damaged or malicious") from None
    if isinstance(answer, int):
        return answer
    raise RefusedError(str(answer))


def _validate(source: Any) -> int:
    """Check that a file refers to no other file, holds the data that it declares, and can be read; return its number of values."""
    import h5py

    links: list[tuple[str, Any]] = []
    with h5py.File(source, "r") as file:
        # h5py swallows exceptions of the visitor; a return value other than None ends the iteration.
        file.visititems_links(lambda name, link: links.append((name, link)) if len(links) <= MAX_OBJECTS else True)
        if len(links) > MAX_OBJECTS:
            raise RefusedError(f"holds more than {MAX_OBJECTS:,} groups and arrays, more than any network")
        dict(file.attrs)
        return sum(_read(file, name, link) for name, link in links)


def _read(file: Any, name: str, link: Any) -> int:
    """Read the attributes of a group, or an array; return its number of values."""
    import h5py

    if not isinstance(link, h5py.HardLink):
        raise RefusedError(f"its '{name[:60]}' is a link to another object or file; expected the weights themselves")
    item = file[name]
    dict(item.attrs)
    if not isinstance(item, h5py.Dataset):
        return 0
    size = _checked_size(item, name[:60])
    item[()]
    return size


def _checked_size(array: Any, name: str) -> int:
    if array.external or array.is_virtual:
        raise RefusedError(f"the values of its '{name}' are in another file; expected the weights themselves")
    size = int(array.size or 0)
    if size * array.dtype.itemsize > max(MAX_UNSTORED, MAX_EXPANSION * array.id.get_storage_size()):
        raise RefusedError(f"its '{name}' declares {size:,} values but does not hold them; it is damaged or malicious")
    return size


def _limit_memory(n_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: only the time is limited
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (n_bytes if hard == resource.RLIM_INFINITY else min(n_bytes, hard), hard))


def _main(argument: str, memory: str) -> None:
    _limit_memory(int(memory))
    answer: int | str
    try:
        answer = _validate(io.BytesIO(sys.stdin.buffer.read()) if argument == _FROM_STDIN else argument)
    except Exception as error:  # noqa: BLE001  damaged files cause exceptions of many types
        lines = str(error).strip().splitlines()
        answer = lines[0] if lines else type(error).__name__
    print(json.dumps(answer))


if __name__ == "__main__":
    _main(*sys.argv[1:])
