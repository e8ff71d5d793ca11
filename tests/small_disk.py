"""Disks without room, and disks that cannot be written: a small tmpfs where mounting is allowed, the limit of file sizes everywhere."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE = 64 << 20  # bytes of the tmpfs


class SmallDisk:
    """A tmpfs.

    Attributes:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        if sys.platform != "linux" or _mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)):
            pytest.skip("mounting a tmpfs is not allowed here")

    @contextmanager
    def room(self, n_bytes: int) -> Iterator[None]:
        """Leave room for so many bytes, while a block runs."""
        filler = self.folder / ".filler"
        free = os.statvfs(self.folder)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - n_bytes)
        try:
            yield
        finally:
            filler.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Refuse all writing, from root too, while a block runs."""
        assert not _mount("-o", "remount,ro", str(self.folder))
        try:
            yield
        finally:
            assert not _mount("-o", "remount,rw", str(self.folder))

    def close(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


class LimitedFiles:
    """A folder in which no file may become larger than a limit, which needs no permission; the error is another one (EFBIG)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        if sys.platform == "win32":
            pytest.skip("limits of processes are POSIX's")

    @contextmanager
    def room(self, n_bytes: int) -> Iterator[None]:
        """Let no file of this process grow beyond so many bytes, while a block runs."""
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def close(self) -> None:
        """Nothing is left to do."""


def _mount(*arguments: str) -> int:
    try:
        return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode
    except FileNotFoundError:
        return 1
