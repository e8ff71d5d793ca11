"""The two kinds of workers: one detects the cells of a part's images, the other writes what was found."""

import io
import logging
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from malaria_cells.base.errors import InputError, reason
from malaria_cells.cluster import images
from malaria_cells.cluster.images import UnreachableError
from malaria_cells.cluster.output import to_bytes, write_part
from malaria_cells.cluster.places import Place
from malaria_cells.cluster.rows import ImageResult, PartRows, cell_table, count_table, failed_table
from malaria_cells.cluster.tries import MAX_TRIES
from malaria_cells.data.images import LargeImage
from malaria_cells.inference.detector import Detector

log = logging.getLogger(__name__)

FETCHES = 4  # times that an image is fetched before it counts as failed
SECONDS_BETWEEN = 1.0  # before the second time; twice as long before each further one
AHEAD = 2  # images that are read while the cells of another one are detected


class BeginsImages(Protocol):
    """What a worker tells of its images, see `tries.Tries`."""

    def begin(self, key: str) -> bool:
        """Whether an image may be begun."""

    def end(self, key: str) -> None:
        """Note that an image is finished."""


@dataclass(frozen=True)
class Job:
    """What every worker of a run is told.

    Attributes:
        root: path or address of the folder of the images.
        model_name: name of the model's folder or file.
        model: the model, packed by `packed`.
        open_detector: opens the model at a path.
        force: whether a parasitemia is also given for images unlike anything learned.
        output: path or address of the output.
    """

    root: str
    model_name: str
    model: bytes
    open_detector: Callable[[Path], Detector]
    force: bool
    output: str


def packed(model: Path) -> bytes:
    """The files of a model folder, or a bare model, as one archive, for machines that do not have it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(model, arcname=model.name)
    return file.getvalue()


class PartDetector:
    """Detects the cells of the images of one part after the other; the model is loaded once."""

    def __init__(self, job: Job, tries: BeginsImages) -> None:
        self._job, self._tries = job, tries
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(fileobj=io.BytesIO(job.model)) as archive:
                archive.extractall(folder, filter="data")
            self.detector = job.open_detector(Path(folder) / job.model_name)
        self.detector.detect(np.full((256, 256, 3), 200, dtype=np.uint8))  # the first call reserves memory and is no time of an image

    def rows(self, keys: list[str]) -> PartRows:
        """Detect the cells of images; while those of one are detected, the next images are read.

        Raises:
            UnreachableError: none of the images could be fetched: the store is away, and not the images are wrong.
        """
        part, unreachable = PartRows(), {}
        for key, reading in self._read_ahead(keys):
            if not self._tries.begin(key):
                part.failed[key] = f"{MAX_TRIES} processes ended while they were at this image, perhaps for want of memory"
                continue
            try:
                part.results.append(self._detect(key, *reading.result()))
            except InputError as error:
                part.failed[key] = str(error)
            except UnreachableError as error:
                part.failed[key] = unreachable[key] = str(error)
            except Exception as error:  # an unexpected error in one image must not lose the results of the others
                log.exception(f"{key}: failed unexpectedly (please report); continuing with the other images")
                part.failed[key] = f"{type(error).__name__}: {reason(error)}"
            self._tries.end(key)
        if unreachable and len(unreachable) == len(keys):
            raise UnreachableError(next(iter(unreachable.values())))
        return part

    def _read_ahead(self, keys: list[str]) -> Iterator[tuple[str, Future[tuple[np.ndarray | LargeImage, float]]]]:
        with ThreadPoolExecutor(1) as reader:
            pending = [(key, reader.submit(self._read, key)) for key in keys[:AHEAD]]
            for following in [*keys[AHEAD:], *[None] * len(pending)]:
                yield pending.pop(0)
                if following is not None:
                    pending.append((following, reader.submit(self._read, following)))

    def _read(self, key: str) -> tuple[np.ndarray | LargeImage, float]:
        """Read an image; a store that does not answer is asked again. Returns the image and the seconds that it took."""
        started = time.perf_counter()
        for attempt in range(FETCHES):
            try:
                return images.read(self._job.root, key), time.perf_counter() - started
            except UnreachableError:
                if attempt == FETCHES - 1:
                    raise
                time.sleep(SECONDS_BETWEEN * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _detect(self, key: str, image: np.ndarray | LargeImage, seconds: float) -> ImageResult:
        started = time.perf_counter()
        detections = self.detector.detect(image)
        familiarity = self.detector.familiarity(image, detections)
        size_wh = (image.shape[1], image.shape[0])
        return ImageResult(key, detections, familiarity, size_wh, seconds + time.perf_counter() - started)

    def tables(self, keys: list[str]) -> dict[str, Any]:
        """Detect the cells of images; returns the content of the part's three files, and the numbers of images and failures."""
        part = self.rows(keys)
        return {
            "cells": to_bytes(cell_table(part, self.detector.labels)),
            "failed": to_bytes(failed_table(part.failed)),
            "counts": to_bytes(count_table(part, self.detector, self._job.force)),
            "images": len(keys),
            "failures": len(part.failed),
            "process": os.getpid(),
        }


class PartWriter:
    """Writes the files of parts."""

    def __init__(self, output: str) -> None:
        self._place = Place(output)

    def write(self, part: int, tables: dict[str, Any]) -> None:
        """Write a part, see `output.write_part`."""
        write_part(self._place, part, tables["cells"], tables["failed"], tables["counts"])
