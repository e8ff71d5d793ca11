"""The journal of a run: a file in the output folder from which a run that was killed at any moment goes on where it was.

Its first line says what the run was asked for and lists its images. After that a line is appended for each image when everything of that
image is written. The first line is there whole or not at all, since the file is renamed into its place; a line that a kill tore apart has a
wrong checksum, and its image is done again. The journal is removed when the run has finished.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from malaria_cells.base import files
from malaria_cells.base.errors import InputError, reason
from malaria_cells.results.journal_lines import FinishedImage, content_of, from_json, line_of, to_json

log = logging.getLogger(__name__)

JOURNAL = ".malaria_cells_run_journal"
FORMAT = 1
# Seconds after which the lines are forced to the disk. A kill loses none of them anyway, a power failure those since then.
SYNC_SECONDS = 5.0


def read_head(folder: Path) -> dict[str, Any] | None:
    """Return the first line of the journal in an output folder; None if there is no journal.

    Raises:
        InputError: the journal is damaged, or another version wrote it.
    """
    path = folder / JOURNAL
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = content_of(file.readline())
    advice = "choose another --output, or delete this file to begin from the first image"
    if head is None:
        raise InputError(f"{path}: its first line is damaged, so the unfinished run cannot go on; {advice}")
    if head.get("format") != FORMAT:
        raise InputError(
            f"{path}: has the format {head.get('format')!r}, expected {FORMAT}; finish the run with the version that began it, or {advice}"
        )
    return head


def has_finished_images(folder: Path) -> bool:
    """Whether an output folder holds a journal with at least one line of an image."""
    path = folder / JOURNAL
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.readline()
        return bool(file.readline())


class RunJournal:
    """The journal of a run that is at work; one thread at a time may append to it.

    Attributes:
        path: the file.
        damaged: number of torn or damaged lines that `images` has met.
    """

    def __init__(self, folder: Path) -> None:
        """Open the journal in an output folder."""
        self.path = folder / JOURNAL
        self.damaged = 0
        self._file: FileIO | None = None
        self._synced = time.monotonic()
        self._is_failing = False

    @staticmethod
    def start(folder: Path, head: dict[str, Any]) -> "RunJournal":
        """Write a journal without images, in the place of one that is there.

        Args:
            folder: the output folder.
            head: content of the first line beside its format; JSON-serialisable.
        """
        journal = RunJournal(folder)
        files.sweep(journal.path)
        with files.replacing(journal.path) as temporary, temporary.open("wb") as file:
            file.write(line_of({"format": FORMAT, **head}))
            file.flush()
            os.fsync(file.fileno())
        return journal

    def images(self) -> Iterator[FinishedImage]:
        """Read the images in the order in which they were finished; an image that was done again comes again, and its last line counts.

        Torn and damaged lines are counted in `damaged`.
        """
        with self.path.open("rb") as file:
            file.readline()
            for line in file:
                image = _image_of(line)
                if image is None:
                    self.damaged += 1
                else:
                    yield image

    def append(self, image: FinishedImage) -> None:
        """Append the line of an image, whose other files must be written.

        If that fails, as on a full disk, a warning says once that such images will be done again on a resume; the run goes on.
        """
        line = line_of(to_json(image))
        try:
            file = self._opened()
            rest = memoryview(line)
            while rest:
                rest = rest[file.write(rest) :]
            if time.monotonic() - self._synced >= SYNC_SECONDS:
                os.fsync(file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            if not self._is_failing:
                log.warning(f"{self.path}: cannot be written ({reason(error)}); after a kill, --resume does images since here again")
            self._is_failing = True
            self._close()  # opening it again cuts a torn line off

    def _opened(self) -> FileIO:
        if self._file is None:
            self._file = self.path.open("r+b", buffering=0)
            end = _end_of_whole_lines(self._file)
            self._file.truncate(end)
            self._file.seek(end)
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # of a write that failed before, which a warning has named
                self._file.close()
            self._file = None

    def close(self) -> None:
        """Force the lines to the disk and close the file, which stays."""
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                log.warning(f"{self.path}: cannot be written ({reason(error)})")
            self._close()

    def remove(self) -> None:
        """Remove the journal of a run that has finished."""
        self.close()
        files.sweep(self.path)
        self.path.unlink(missing_ok=True)


def _image_of(line: bytes) -> FinishedImage | None:
    """Read a line; None if it is torn or damaged."""
    content = content_of(line)
    try:
        return None if content is None else from_json(content)
    except (ValueError, KeyError, TypeError):  # a whole line that holds something else
        return None


def _end_of_whole_lines(file: FileIO) -> int:
    """Return the position after the last line break, read from the end in steps."""
    end = file.seek(0, os.SEEK_END)
    step = 2**16
    while end > 0:
        start = max(end - step, 0)
        file.seek(start)
        last_break = file.read(end - start).rfind(b"\n")
        if last_break >= 0:
            return start + last_break + 1
        end = start
    return 0
