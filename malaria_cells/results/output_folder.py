"""The folder that a run writes into: what in it is a run's own, and that one run at a time writes there."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.file_names import LONGEST, distinct
from malaria_cells.inference.model_description import ABOUT
from malaria_cells.results.review import FOLDER as REVIEW

TABLES = ("detections.csv", "predictions.csv")
NAMES = (*TABLES, "counts.csv", "detections.json", "failed.csv", "metrics.json", "per_class.csv", "report.html")
ANNOTATED = "annotated"
COMPARED = "compared"
WITHOUT_RED_CELLS = "_without_red_cells"
# A file in the output and in each folder of drawn images while a run is at work: it stays where the run is killed, and says that what
# lies beside it is a run's. In the output it is the lock, too.
UNFINISHED = ".unfinished_malaria_cells_run"


def drawn_names(keys: Iterable[str]) -> dict[str, str]:
    """The path, without ``.png``, of each image below `ANNOTATED` and `COMPARED`: its key, if that is not too long or another's."""
    keys = list(keys)

    def files_of(name: str) -> tuple[str, str]:
        return f"{name}.png", f"{name}{WITHOUT_RED_CELLS}.png"

    return dict(zip(keys, distinct(keys, files_of, LONGEST - len(f"{WITHOUT_RED_CELLS}.png")), strict=True))


def check_output(folder: Path, images: Iterable[Path]) -> None:
    """See that a run may write into a folder: `clear` will remove files in it.

    Raises:
        InputError: it is a file or a model, or holds files of these names that are not a run's, or that this run is to read.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output {folder}: is a file; name a folder")
    if (folder / ABOUT).is_file():
        raise InputError(f"--output {folder}: is a model folder; choose another output folder")
    drawn = [folder / name for name in (ANNOTATED, COMPARED) if os.path.lexists(folder / name)]
    advice = "move it away, or name another --output"
    for place in drawn:
        if place.is_symlink() or not place.is_dir():
            raise InputError(f"--output {folder}: {place.name} in it is a link or a file, where a run makes a folder; {advice}")
        if not (_has_table(folder) or (place / UNFINISHED).is_file() or _is_empty(place)):
            raise InputError(f"--output {folder}: holds a folder `{place.name}` that no finished run wrote; {advice}")
    theirs = [name for name in NAMES if os.path.lexists(folder / name)]
    if theirs and not _has_table(folder) and not (folder / UNFINISHED).is_file():
        raise InputError(f"--output {folder}: holds {theirs[0]}, which no run wrote and which would be written over; {advice}")
    resolved = [place.resolve() for place in drawn]
    for image in images if drawn else ():
        if any(image.resolve().is_relative_to(place) for place in resolved):
            raise InputError(f"--output {folder}: {image} is to be read and would be written over; name another --output")


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder for one run, and leave a mark in it until the run has ended well.

    Raises:
        InputError: another run is at work there.
    """
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    was_killed = (folder / UNFINISHED).exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder)
    try:
        yield
    except BaseException as error:
        refused = isinstance(error, InputError) and not was_killed
        if refused or (folder.is_dir() and {p.name for p in folder.iterdir()} == {UNFINISHED}):  # it came to nothing: no trace is left
            _release(lock, folder)
            for place in new:
                with suppress(OSError):  # somebody has put something there
                    place.rmdir()
        raise
    else:
        for name in (ANNOTATED, COMPARED):
            (folder / name / UNFINISHED).unlink(missing_ok=True)
            if _is_empty(folder / name):
                (folder / name).rmdir()
        _release(lock, folder)
    finally:
        lock.release()


def clear(folder: Path) -> None:
    """Remove what earlier runs wrote, so that all tables belong together. Not the review: it may hold corrections."""
    for name in (ANNOTATED, COMPARED):
        if (folder / name).is_dir():
            begin_drawn(folder / name)
    for name in NAMES:
        (folder / name).unlink(missing_ok=True)
        files.sweep(folder / name)
    files.put_back(folder / REVIEW)
    files.sweep(folder / REVIEW)
    for name in (ANNOTATED, COMPARED):
        _clear_drawn(folder / name)


def begin_drawn(folder: Path) -> None:
    """Make a folder of drawn images that is known as a run's own from its beginning."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / UNFINISHED).touch()


def _clear_drawn(folder: Path) -> None:
    """Remove images and then empty folders: what else a person has put there stays."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            if name.endswith(".png"):
                (Path(place) / name).unlink()
        if {p.name for p in Path(place).iterdir()} <= {UNFINISHED}:
            (Path(place) / UNFINISHED).unlink(missing_ok=True)
            Path(place).rmdir()


def _has_table(folder: Path) -> bool:
    """Whether a table of a run is there: what another program wrote under its name begins with other columns."""
    for name in TABLES:
        path = folder / name
        if path.is_file():
            with path.open("rb") as file:
                start = file.read(len(b"image,label,score"))
            if start in {b"", b"image,label,score"}:
                return True
    return False


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _lock(folder: Path) -> FileLock:
    while True:
        lock = FileLock(folder / UNFINISHED, timeout=0)
        try:
            lock.acquire()
        except NotImplementedError:  # a file system without locks: it is a mark then, and no more
            (folder / UNFINISHED).touch()
            return lock
        except Timeout:
            raise InputError(f"--output {folder}: another run is writing into it; wait for its end, or name another --output") from None
        if (folder / UNFINISHED).exists():
            return lock
        lock.release()  # between opening and locking, the run that had it ended and removed it


def _release(lock: FileLock, folder: Path) -> None:
    """Remove the mark while it is locked, or right after that where a system does not remove what is open."""
    with suppress(PermissionError):
        (folder / UNFINISHED).unlink()
    lock.release()
    with suppress(OSError):
        if os.name == "nt":
            (folder / UNFINISHED).unlink(missing_ok=True)
