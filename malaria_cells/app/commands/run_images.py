"""The images of ``run``: they are read and processed in parallel, and what is written of each is written meanwhile."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.parallel import PREFETCHED, imap_ordered
from malaria_cells.base.progress import progress
from malaria_cells.data.images import read_image
from malaria_cells.results.run_results import RunResults

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Tables = TypeVar("Tables")


def process(
    step: Callable[[np.ndarray], Result],
    images: Mapping[str, Path],
    title: str,
    write: Callable[[str, np.ndarray, Result], None],
    tables: Callable[[RunResults], Tables],
    traces: bool,
) -> tuple[RunResults, Tables]:
    """Process images, write something of each, and write the tables of all.

    Args:
        step: function of an image, uint8 RGB (H, W, 3); several threads call it.
        images: the files by key.
        title: of the progress bar.
        write: called with key, image and result of `step`, by one thread.
        tables: called with the results of all images, before `write` is called for the last one: the tables are what one waits for, and
            drawing begins with a slow import.
        traces: whether the networks are traced by their first call, which must not count as time of an image.

    Returns:
        The results, with the images that `write` failed on, and what `tables` returns.
    """

    def read_and_step(key: str) -> tuple[np.ndarray, Result]:
        image = read_image(images[key])
        return image, step(image)

    finished = RunResults()
    with ThreadPoolExecutor(1) as writer:
        writing = _Writing(write, writer, finished)
        try:
            if traces:
                step(np.full((256, 256, 3), 200, dtype=np.uint8))
            started = time.perf_counter()
            for key, pending in progress(imap_ordered(read_and_step, images), len(images), title, "image"):
                if (done := _result(key, pending, finished)) is None:
                    continue
                image, result = done
                finished.add(key, (image.shape[1], image.shape[0]), result)
                finished.seconds = time.perf_counter() - started
                writing.add(key, image, result)
        except KeyboardInterrupt:
            finished.interrupted = True
        written = tables(finished)
        writing.finish()
    return finished, written


class _Writing(Generic[Result]):
    """Writes something of each image by one thread, of an image when the next one is added, so that the last one waits for `finish`."""

    def __init__(self, write: Callable[[str, np.ndarray, Result], None], writer: ThreadPoolExecutor, finished: RunResults):
        self._write, self._writer, self._finished = write, writer, finished
        self._last: tuple[str, np.ndarray, Result] | None = None
        self._pending: deque[tuple[str, Future[None]]] = deque()

    def add(self, key: str, image: np.ndarray, result: Result) -> None:
        """Write the image before this one, and wait if too many are not written."""
        self._submit_last()
        self._last = key, image, result
        while len(self._pending) >= PREFETCHED:
            _await(*self._pending.popleft(), self._finished)

    def finish(self) -> None:
        """Write the last image, and wait for all."""
        self._submit_last()
        for key, pending in self._pending:
            _await(key, pending, self._finished)

    def _submit_last(self) -> None:
        if self._last is not None:
            self._pending.append((self._last[0], self._writer.submit(self._write, *self._last)))
        self._last = None


def _result(key: str, pending: Future[Any], finished: RunResults) -> Any:
    """The result of an image, or None if it failed, which is recorded."""
    try:
        return pending.result()
    except InputError as error:
        finished.failed[key] = str(error)
    except Exception as error:  # an unexpected error in one image must not lose the results of the others
        log.exception(f"{key}: failed unexpectedly (please report); continuing with the other images")
        finished.failed[key] = f"{type(error).__name__}: {reason(error)}"
    return None


def _await(key: str, pending: Future[Any], finished: RunResults) -> None:
    """Wait until an image is drawn and written. An error is recorded, so the tables are still written."""
    try:
        pending.result()
    except OSError as error:
        log.warning(f"{key}: its annotated image could not be written ({reason(error)}); it is in the tables")
        finished.not_drawn[key] = reason(error)
    except Exception as error:
        log.exception(f"{key}: drawing failed unexpectedly (please report); the image is in the tables")
        finished.not_drawn[key] = f"{type(error).__name__}: {reason(error)}"
