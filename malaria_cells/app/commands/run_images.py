"""The images of ``run``: they are read and processed in parallel; each is drawn and entered into the run's journal meanwhile."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from malaria_cells.app.commands.run_resume import ResumableRun
from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.parallel import MIN_WORKERS, PREFETCHED, imap_ordered
from malaria_cells.base.progress import progress
from malaria_cells.data.images import LargeImage, open_image, read_image
from malaria_cells.results.journal_lines import FinishedImage, ImageResult, Stamp
from malaria_cells.results.run_results import RunResults

log = logging.getLogger(__name__)

LARGE = 20_000_000  # pixels of an image from which only few are worked on at the same time, whatever the cores: 100 MB of memory and more

Result = TypeVar("Result", bound=ImageResult)
Tables = TypeVar("Tables")
Image = np.ndarray | LargeImage
Draw = Callable[[str, Any, Result], Path]


def process(
    step: Callable[[Any], Result],
    run: ResumableRun,
    title: str,
    tables: Callable[[RunResults], Tables],
    traces: bool,
    draw: Draw[Result] | None = None,
) -> tuple[RunResults, Tables]:
    """Process the images that are still to do, draw each, and write the tables of all.

    Args:
        step: function of an image, uint8 RGB (H, W, 3), or one whose regions are read; several threads call it.
        run: the images, the results of those that are finished, and the journal.
        title: of the progress bar.
        tables: called with the results of all images, in the order of their keys, before the last one is drawn: the tables are what one
            waits for, and drawing begins with a slow import.
        traces: whether the networks are traced by their first call, which must not count as time of an image.
        draw: called with key, image and result of `step`, by one thread; returns the file that it wrote. None: nothing is drawn, and images
            are held whole. Otherwise regions of a large image are read: it takes all cores, so only one is worked on at a time.

    Returns:
        The results of all images, with those that could not be drawn, and what `tables` returns.
    """
    finished, seconds_before = run.finished, run.finished.seconds
    few_large, one_in_regions = threading.Semaphore(MIN_WORKERS), threading.Semaphore(1)

    def read_and_step(key: str) -> tuple[Image, Result, Stamp | None]:
        stamp = Stamp.of(run.root / key)  # taken before the image is read, so that a resume notices a change meanwhile
        image = read_image(run.root / key) if draw is None else open_image(run.root / key)
        n_pixels = image.shape[0] * image.shape[1]
        with one_in_regions if isinstance(image, LargeImage) else few_large if n_pixels > LARGE else nullcontext():
            return image, step(image), stamp

    with _Writer(run, draw) as writer:
        try:
            if run.to_do and traces:
                step(np.full((256, 256, 3), 200, dtype=np.uint8))
            started = time.perf_counter()
            for key, pending in progress(imap_ordered(read_and_step, run.to_do), len(run.to_do), title, "image"):
                if (done := _result(key, pending, finished)) is None:
                    continue
                image, result, stamp = done
                finished.add(key, (image.shape[1], image.shape[0]), result)
                finished.seconds = seconds_before + time.perf_counter() - started
                writer.add(key, image, result, stamp)
        except KeyboardInterrupt:
            finished.interrupted = True
        finished.put_in_order(run.keys)
        written = tables(finished)
        writer.finish()
    return finished, written


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


class _Writer(Generic[Result]):
    """Draws images and enters them into the journal, in a thread of its own, as a context manager.

    The last image waits for `finish`.
    """

    def __init__(self, run: ResumableRun, draw: Draw[Result] | None) -> None:
        self._run, self._draw = run, draw
        self._thread = ThreadPoolExecutor(1)
        self._last: Callable[[], None] | None = None
        self._waiting: deque[tuple[str, Future[None]]] = deque()

    def __enter__(self) -> "_Writer[Result]":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._run.journal.close()

    def add(self, key: str, image: Image, result: Result, stamp: Stamp | None) -> None:
        """Take an image on, and wait until no more than `PREFETCHED` are waiting."""
        write = partial(self._write, key, image, result, stamp, self._run.finished.seconds)
        if key == self._run.to_do[-1]:
            self._last = write
        else:
            self._waiting.append((key, self._thread.submit(write)))
        while len(self._waiting) > PREFETCHED:
            self._await_first()

    def finish(self) -> None:
        """Draw the last image, and wait until all are written."""
        if self._last is not None:
            self._waiting.append((self._run.to_do[-1], self._thread.submit(self._last)))
        while self._waiting:
            self._await_first()

    def _write(self, key: str, image: Image, result: Result, stamp: Stamp | None, seconds: float) -> None:
        drawn_bytes = None if self._draw is None else self._draw(key, image, result).stat().st_size
        if stamp is not None:
            size_wh = (image.shape[1], image.shape[0])
            self._run.journal.append(FinishedImage(key, stamp, size_wh, seconds, drawn_bytes, result))

    def _await_first(self) -> None:
        """Wait until the first image is written. An error is recorded, so the tables are still written."""
        key, pending = self._waiting.popleft()
        try:
            pending.result()
        except (OSError, InputError) as error:
            log.warning(f"{key}: its annotated image could not be written ({reason(error)}); it is in the tables")
            self._run.finished.not_drawn[key] = reason(error)
        except Exception as error:
            log.exception(f"{key}: drawing failed unexpectedly (please report); the image is in the tables")
            self._run.finished.not_drawn[key] = f"{type(error).__name__}: {reason(error)}"
