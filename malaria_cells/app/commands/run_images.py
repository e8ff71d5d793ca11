"""Processes the images of a run in parallel, and meanwhile draws the finished ones and enters them into the run's journal."""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.app.commands.run_resume import ResumableRun
from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.parallel import PREFETCHED, imap_ordered
from malaria_cells.base.progress import progress
from malaria_cells.data.images import read_image
from malaria_cells.results.journal_lines import FinishedImage, Stamp
from malaria_cells.results.run_results import RunResults

log = logging.getLogger(__name__)

Draw = Callable[[str, np.ndarray, Any], Path]


def process(step: Callable[[np.ndarray], Any], run: ResumableRun, title: str, draw: Draw | None = None) -> RunResults:
    """Process the images that are still to do.

    Args:
        step: function of an image, uint8 RGB (H, W, 3); several threads call it.
        run: the images, the results of those that are finished, and the journal.
        title: of the progress bar.
        draw: called with key, image and result of `step`, by one thread; returns the file that it wrote. None: nothing is drawn.

    Returns:
        The results of all images, in the order of their keys.
    """
    finished, seconds_before = run.finished, run.finished.seconds

    def read_and_step(key: str) -> tuple[np.ndarray, Any, Stamp | None]:
        stamp = Stamp.of(run.root / key)  # taken before the image is read, so that a resume notices a change meanwhile
        image = read_image(run.root / key)
        return image, step(image), stamp

    with _Writer(run, draw) as writer:
        try:
            if run.to_do:
                # The first call traces the network, which must not count as time of an image.
                step(np.full((256, 256, 3), 200, dtype=np.uint8))
            started = time.perf_counter()
            for key, pending in progress(imap_ordered(read_and_step, run.to_do), len(run.to_do), title, "image"):
                try:
                    image, result, stamp = pending.result()
                except InputError as error:
                    finished.failed[key] = str(error)
                    continue
                except Exception as error:  # an unexpected error in one image must not lose the results of the others
                    log.exception(f"{key}: failed unexpectedly (please report); continuing with the other images")
                    finished.failed[key] = f"{type(error).__name__}: {reason(error)}"
                    continue
                finished.sizes_wh[key] = (image.shape[1], image.shape[0])
                finished.results[key] = result
                finished.seconds = seconds_before + time.perf_counter() - started
                writer.submit(key, image, result, stamp)
        except KeyboardInterrupt:
            finished.interrupted = True
        writer.finish()
    finished.results = {key: finished.results[key] for key in run.keys if key in finished.results}
    return finished


class _Writer:
    """Draws images and enters them into the journal, in a thread of its own, as a context manager."""

    def __init__(self, run: ResumableRun, draw: Draw | None) -> None:
        self._run, self._draw = run, draw
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[tuple[str, Future[None]]] = deque()

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._run.journal.close()

    def submit(self, key: str, image: np.ndarray, result: Any, stamp: Stamp | None) -> None:
        """Take an image on, and wait until no more than `PREFETCHED` are waiting."""
        self._waiting.append((key, self._thread.submit(self._write, key, image, result, stamp, self._run.finished.seconds)))
        while len(self._waiting) > PREFETCHED:
            self._await_first()

    def finish(self) -> None:
        """Wait until all images are written."""
        while self._waiting:
            self._await_first()

    def _write(self, key: str, image: np.ndarray, result: Any, stamp: Stamp | None, seconds: float) -> None:
        drawn_bytes = None if self._draw is None else self._draw(key, image, result).stat().st_size
        if stamp is not None:
            size_wh = (image.shape[1], image.shape[0])
            self._run.journal.append(FinishedImage(key, stamp, size_wh, seconds, drawn_bytes, result))

    def _await_first(self) -> None:
        """Wait until the first image is written. An error is recorded, so the tables are still written."""
        key, pending = self._waiting.popleft()
        try:
            pending.result()
        except OSError as error:
            log.warning(f"{key}: its annotated image could not be written ({reason(error)}); it is in the tables")
            self._run.finished.not_drawn[key] = reason(error)
        except Exception as error:
            log.exception(f"{key}: drawing failed unexpectedly (please report); the image is in the tables")
            self._run.finished.not_drawn[key] = f"{type(error).__name__}: {reason(error)}"
