"""Pixels of a large image in a temporary file, for formats that can be decoded only from top to bottom."""

import mmap
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from malaria_cells.data.images.refusal import UnreadableError

SPARE = 1_000_000_000  # bytes of the disk that stay free
SECONDS_IN_MEMORY = 0.02  # after which pixels that were written are no longer counted as memory of the process


class Scratch:
    """An image, uint8 RGB, in a file that has no name and that the system removes with the process, however it ends."""

    def __init__(self, size_wh: tuple[int, int]) -> None:
        """Reserve the file.

        Raises:
            UnreadableError: the disk of temporary files has too little room.
        """
        self.size_wh = size_wh
        self._n_bytes = size_wh[0] * size_wh[1] * 3
        folder = tempfile.gettempdir()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the image is read
        try:
            if self._n_bytes + SPARE > shutil.disk_usage(folder).free:
                raise OSError
            if hasattr(os, "posix_fallocate"):  # writing to mapped pixels that find no room would end the process
                os.posix_fallocate(self._file.fileno(), 0, self._n_bytes)
            self._file.truncate(self._n_bytes)
        except OSError:
            self._file.close()
            raise UnreadableError(
                f"its {size_wh[0]} x {size_wh[1]} pixels need {self._n_bytes / 1e9:,.1f} GB of temporary files, for which {folder} has "
                "no room; make room, set TMPDIR to a folder of another disk, or save the image as a TIFF with tiles, which needs none"
            ) from None

    def _mapped(self) -> tuple[mmap.mmap, np.ndarray]:
        memory = mmap.mmap(self._file.fileno(), self._n_bytes)
        return memory, np.frombuffer(memory, np.uint8).reshape(self.size_wh[1], self.size_wh[0], 3)

    @contextmanager
    def filled(self) -> Iterator[np.ndarray]:
        """Lend the pixels, uint8 (H, W, 3), to be written by one call; meanwhile they are let go to the file."""
        memory, pixels = self._mapped()
        done = threading.Event()

        def let_go() -> None:
            while not done.wait(SECONDS_IN_MEMORY):
                if hasattr(mmap, "MADV_DONTNEED"):  # what a file holds is kept there
                    memory.madvise(mmap.MADV_DONTNEED)

        keeper = threading.Thread(target=let_go)
        keeper.start()
        try:
            yield pixels
        finally:
            done.set()
            keeper.join()

    def write(self, top: int, rows: np.ndarray) -> None:
        """Write whole rows, uint8 (n, W, 3)."""
        self._file.seek(top * self.size_wh[0] * 3)
        self._file.write(np.ascontiguousarray(rows).data)
        self._file.flush()

    def read(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """A copy of a region, uint8 (height, width, 3)."""
        return np.array(self._mapped()[1][top : top + height, left : left + width])

    def close(self) -> None:
        """Give the room on the disk back."""
        self._file.close()
