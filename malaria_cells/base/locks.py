"""Locks between processes."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from malaria_cells.base.errors import InputError

log = logging.getLogger(__name__)

LOCKS = ".locks"
POLL_SECONDS = 0.05  # seconds between two attempts to acquire a lock


class BusyError(InputError):
    """Raised if another process holds the lock of a path."""


@contextmanager
def locked(path: Path, message: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a path while the block runs. The operating system releases the lock if the process is killed.

    The lock file lies in the folder `LOCKS` beside the path and is removed when the lock is released.

    Args:
        path: path of a file or folder, which need not exist.
        message: message of the error, or the text that is printed before waiting, if another process holds the lock.
        wait: whether to wait until the lock is free.

    Raises:
        BusyError: another process holds the lock and `wait` is False.
    """
    lock_file = path.parent / LOCKS / f"{path.name}.lock"
    lock = _acquired(lock_file, message, wait)
    try:
        yield
    finally:
        if lock is not None:
            with suppress(PermissionError):  # Windows cannot remove an open file
                lock_file.unlink(missing_ok=True)
            lock.release()
        with suppress(OSError):  # the folder holds the lock of another process
            lock_file.parent.rmdir()


def _acquired(lock_file: Path, message: str, wait: bool) -> FileLock | None:
    """Acquire the lock; None if the file system does not support locks.

    A process removes the lock file when it releases the lock, so the file that was opened and locked here may have been unlinked meanwhile.
    Only a lock on the file that is still at the path counts.
    """
    is_announced = False
    while True:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_file)
        try:
            opened = os.open(lock_file, os.O_CREAT | os.O_RDWR, 0o666)
        except FileNotFoundError:  # the folder has just been removed by another process
            continue
        try:
            lock.acquire(timeout=0)
            if os.path.samestat(os.fstat(opened), lock_file.stat()):
                return lock
            lock.release()
        except FileNotFoundError:
            continue
        except Timeout:
            if not wait:
                raise BusyError(message) from None
            if not is_announced:
                print(message, file=sys.stderr)
                is_announced = True
            time.sleep(POLL_SECONDS)
        except NotImplementedError:
            log.warning(f"{lock_file.parent}: the file system does not support locks; nothing prevents a second process from writing there")
            return None
        finally:
            os.close(opened)
