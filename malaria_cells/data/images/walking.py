"""Lists the files below a folder, following links and skipping folders of other programs."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.text import number_of

log = logging.getLogger(__name__)

# Folders in which other programs keep internal files, such as thumbnails, which may have image names; hidden folders are skipped, too.
_INTERNAL_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})


@dataclass
class Walk:
    """The files below a folder, and the links and folders that could not be followed.

    Attributes:
        files: sorted paths, each starting with the root as it was given.
        linked: the `files` that were reached through a link and so may be listed under another name, too.
        broken: links to nothing.
        closed: folders that could not be opened, each with the reason.
    """

    files: list[Path] = field(default_factory=list)
    linked: set[Path] = field(default_factory=set)
    broken: list[Path] = field(default_factory=list)
    closed: list[tuple[Path, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Folder:
    path: Path
    inside: frozenset[tuple[int, int]]  # (device, inode) of all parent folders, to detect loops
    entered: set[tuple[int, int]] | None  # (device, inode) of the folders entered since the first link; None if no link led here


def is_searched(name: str) -> bool:
    """Whether a file or folder of this name is searched: it is neither hidden nor an internal folder of another program.

    Examples:
        >>> is_searched("slide 1"), is_searched(".git"), is_searched("@eaDir")
        (True, False, False)
    """
    return not name.startswith(".") and name.lower() not in _INTERNAL_FOLDERS


def walk_files(root: Path) -> list[Path]:
    """Find the files below a folder, recursively.

    Links to folders are followed, except those that lead back to a parent folder. A file that several links lead to is listed once per
    link, since an annotation may use any of these names. Hidden files and folders (``.git``, ``.thumbnails``, ``._a.jpg``) and internal
    folders of other programs (``__MACOSX``, ``@eaDir``) are left out.

    Returns:
        Sorted files; each path starts with `root` exactly as it was given.

    Raises:
        InputError: `root` is not a folder, or cannot be opened.
    """
    walk = walked(root)
    if walk.closed:
        path, why = walk.closed[0]
        log.warning(f"{root}: {number_of(len(walk.closed), 'folder')} left out, since opening failed; first: {path} ({why})")
    return walk.files


def walked(root: Path) -> Walk:
    """Find the files as `walk_files` does, with the links and folders that could not be followed.

    Raises:
        InputError: `root` is not a folder, or cannot be opened.
    """
    walk = Walk()
    try:
        pending = [_Folder(root, frozenset(), None)]
        os.scandir(root).close()
    except OSError as error:
        raise InputError(f"{root}: cannot be searched ({error.strerror or reason(error)}); name a folder that can be opened") from None
    while pending:
        folder = pending.pop()
        try:
            pending += _list_folder(folder, walk)
        except OSError as error:
            walk.closed.append((folder.path, error.strerror or reason(error)))
    walk.files.sort()
    walk.broken.sort()
    return walk


def _list_folder(folder: _Folder, walk: Walk) -> Iterator[_Folder]:
    status = folder.path.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in folder.inside or (folder.entered is not None and identity in folder.entered):
        return
    if folder.entered is not None:
        folder.entered.add(identity)
    inside = folder.inside | {identity}
    with os.scandir(folder.path) as entries:
        for entry in entries:
            if not is_searched(entry.name):
                continue
            path, kind = folder.path / entry.name, _kind(entry)
            if kind == "folder":
                first_link = folder.entered is None and entry.is_symlink()
                yield _Folder(path, inside, set() if first_link else folder.entered)
            elif kind == "file":
                walk.files.append(path)
                if folder.entered is not None or entry.is_symlink():
                    walk.linked.add(path)
            elif kind == "broken link":
                walk.broken.append(path)


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError:  # the link points to itself
        pass
    return "broken link" if entry.is_symlink() else "other"
