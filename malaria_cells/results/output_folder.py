"""The output folder of a run: which files in it belong to a run, and a lock so that one run at a time writes there."""

import errno
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.file_names import LONGEST, distinct
from malaria_cells.inference.model_description import ABOUT
from malaria_cells.results.review import FOLDER as REVIEW
from malaria_cells.results.run_journal import JOURNAL

TABLES = ("detections.csv", "predictions.csv")
NAMES = (*TABLES, "counts.csv", "detections.json", "failed.csv", "metrics.json", "per_class.csv", "report.html")
ANNOTATED = "annotated"
COMPARED = "compared"
WITHOUT_RED_CELLS = "_without_red_cells"
# Name of a marker file in the output folder and in each folder of drawn images while a run is at work. It stays after a kill and shows
# that the files beside it belong to a run. The marker in the output folder is also the lock.
UNFINISHED = ".unfinished_malaria_cells_run"


def drawn_names(keys: Iterable[str]) -> dict[str, str]:
    """Return the path, without ``.png``, of each image in `ANNOTATED` and `COMPARED`: its key, unless that is too long or taken."""
    keys = list(keys)

    def file_names(name: str) -> tuple[str, str]:
        return f"{name}.png", f"{name}{WITHOUT_RED_CELLS}.png"

    return dict(zip(keys, distinct(keys, file_names, LONGEST - len(f"{WITHOUT_RED_CELLS}.png")), strict=True))


def check_output(folder: Path, images: Iterable[Path]) -> None:
    """Check that a run may write into a folder, since `clear` removes files in it.

    Args:
        folder: the output folder; it need not exist.
        images: the images that the run reads.

    Raises:
        InputError: the folder is a file or a model folder, or holds files of the run's names that no run wrote or that this run reads.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output {folder}: is a file, expected a folder; choose another --output")
    if (folder / ABOUT).is_file():
        raise InputError(f"--output {folder}: is a model folder; choose another --output")
    folders = [folder / name for name in (ANNOTATED, COMPARED) if os.path.lexists(folder / name)]
    advice = "move it away, or choose another --output"
    for drawn_folder in folders:
        if drawn_folder.is_symlink() or not drawn_folder.is_dir():
            raise InputError(f"--output {folder}: {drawn_folder.name} in it is a link or a file, expected a folder; {advice}")
        if not (is_of_a_run(folder) or (drawn_folder / UNFINISHED).is_file() or _is_empty(drawn_folder)):
            raise InputError(f"--output {folder}: holds a folder `{drawn_folder.name}` that no finished run wrote; {advice}")
    existing = [name for name in NAMES if os.path.lexists(folder / name)]
    if existing and not is_of_a_run(folder) and not (folder / UNFINISHED).is_file():
        raise InputError(f"--output {folder}: holds {existing[0]}, which no run wrote and which would be overwritten; {advice}")
    resolved = [drawn_folder.resolve() for drawn_folder in folders]
    for image in images if folders else ():
        if any(image.resolve().is_relative_to(drawn_folder) for drawn_folder in resolved):
            raise InputError(f"--output {folder}: {image} is an input and would be overwritten; choose another --output")


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Lock a folder for one run, and keep a marker in it until the run has succeeded.

    Raises:
        InputError: another run is writing into the folder.
        FileNotFoundError: the folder was removed meanwhile, so that what is there now is only a part of the results.
    """
    new_folders = [new_folder for new_folder in (folder, *folder.parents) if not new_folder.exists()]
    was_killed = (folder / UNFINISHED).exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder)
    try:
        yield
    except BaseException as error:
        is_refused = isinstance(error, InputError) and not was_killed
        if is_refused or (
            folder.is_dir() and {p.name for p in folder.iterdir()} == {UNFINISHED}
        ):  # nothing was written, so the marker is removed
            _release(lock, folder)
            for new_folder in new_folders:
                with suppress(OSError):  # the folder is not empty
                    new_folder.rmdir()
        raise
    else:
        if not (folder / UNFINISHED).exists():
            reason = "was removed while the run was writing into it, and what is there now is not all; run the command again"
            raise FileNotFoundError(errno.ENOENT, reason, str(folder))
        for name in (ANNOTATED, COMPARED):
            (folder / name / UNFINISHED).unlink(missing_ok=True)
            if _is_empty(folder / name):
                (folder / name).rmdir()
        _release(lock, folder)
    finally:
        lock.release()


def clear(folder: Path, kept: Collection[Path] = ()) -> None:
    """Remove the files of earlier runs, so that all tables are of one run; the review stays, since it may hold corrections.

    Args:
        folder: the output folder.
        kept: paths of drawn images that stay, since this run goes on after them.
    """
    for name in (ANNOTATED, COMPARED):
        if (folder / name).is_dir():
            begin_drawn(folder / name)
    for name in NAMES:
        (folder / name).unlink(missing_ok=True)
        files.sweep(folder / name)
    files.put_back(folder / REVIEW)
    files.sweep(folder / REVIEW)
    for name in (ANNOTATED, COMPARED):
        _clear_drawn(folder / name, frozenset(kept))


def begin_drawn(folder: Path) -> None:
    """Create a folder of drawn images with the marker in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / UNFINISHED).touch()


def _clear_drawn(folder: Path, kept: Collection[Path]) -> None:
    """Remove the drawn images but `kept`, and the folders that are then empty; other files stay."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            drawn = Path(parent) / name
            if drawn.suffix == ".tif" and f"{drawn.stem}.png" in names:  # of a large image, of which the other is an overview
                drawn = drawn.with_suffix(".png")
            if drawn.suffix == ".png" and drawn not in kept:
                (Path(parent) / name).unlink()
        if {p.name for p in Path(parent).iterdir()} <= {UNFINISHED}:
            (Path(parent) / UNFINISHED).unlink(missing_ok=True)
            Path(parent).rmdir()


def is_of_a_run(folder: Path) -> bool:
    """Whether the folder holds the journal or a table of a run; a file of that name by another program starts with other columns."""
    if (folder / JOURNAL).is_file():
        return True
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
        except NotImplementedError:  # the file system has no locks, so the file is only a marker
            (folder / UNFINISHED).touch()
            return lock
        except Timeout:
            raise InputError(f"--output {folder}: another run is writing into it; wait until it ends, or choose another --output") from None
        if (folder / UNFINISHED).exists():
            return lock
        lock.release()  # the run that held it removed the file between opening and locking


def _release(lock: FileLock, folder: Path) -> None:
    """Remove the marker while it is locked, or right after that on systems that cannot remove an open file."""
    with suppress(PermissionError):
        (folder / UNFINISHED).unlink()
    lock.release()
    with suppress(OSError):
        if os.name == "nt":
            (folder / UNFINISHED).unlink(missing_ok=True)
