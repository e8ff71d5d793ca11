"""The files below a folder, links followed, what other programs keep for themselves left out."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.text import number_of

log = logging.getLogger(__name__)

# Folders in which other programs keep their own files, thumbnails and copies of names among them; so are those that start with a dot.
_OTHERS_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})


@dataclass
class Walk:
    """The files below a folder, and what could not be followed.

    Attributes:
        files: sorted, each below the root as the root was given.
        linked: those of `files` that are reached through a link, so that they may be listed under another name, too.
        broken: links to nothing.
        closed: folders that could not be opened, with the reason.
    """

    files: list[Path] = field(default_factory=list)
    linked: set[Path] = field(default_factory=set)
    broken: list[Path] = field(default_factory=list)
    closed: list[tuple[Path, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Folder:
    path: Path
    inside: frozenset[tuple[int, int]]  # devices and numbers of the folders that it lies in, by which a loop is noticed
    entered: set[tuple[int, int]] | None  # behind a link: the folders that were entered since; None: no link led here


def is_searched(name: str) -> bool:
    """Whether a file or folder of this name is somebody's own: neither hidden nor one in which other programs keep their files.

    Examples:
        >>> is_searched("slide 1"), is_searched(".git"), is_searched("@eaDir")
        (True, False, False)
    """
    return not name.startswith(".") and name.lower() not in _OTHERS_FOLDERS


def walk_files(root: Path) -> list[Path]:
    """Find the files below a folder, its own and those of its folders.

    Links to folders are followed, but for those that lead back to a folder they lie in. A file that several links lead to
    comes once for each of them, since an annotation may name it by any. Hidden files and folders (``.git``, ``.thumbnails``, ``._a.jpg``)
    and those of other programs (``__MACOSX``, ``@eaDir``) are left out.

    Returns:
        Sorted files; each path starts with `root` exactly as it was given.

    Raises:
        InputError: `root` is not a folder, or cannot be opened.
    """
    walk = walked(root)
    if walk.closed:
        path, why = walk.closed[0]
        log.warning(f"{root}: {number_of(len(walk.closed), 'folder')} could not be opened and not searched; first: {path} ({why})")
    return walk.files


def walked(root: Path) -> Walk:
    """Find the files as `walk_files`, and tell what could not be followed.

    Raises:
        InputError: `root` is not a folder, or cannot be opened.
    """
    walk = Walk()
    try:
        waiting = [_Folder(root, frozenset(), None)]
        os.scandir(root).close()
    except OSError as error:
        raise InputError(f"{root}: cannot be searched ({error.strerror or reason(error)}); name a folder that can be opened") from None
    while waiting:
        folder = waiting.pop()
        try:
            waiting += _look_into(folder, walk)
        except OSError as error:
            walk.closed.append((folder.path, error.strerror or reason(error)))
    walk.files.sort()
    walk.broken.sort()
    return walk


def _look_into(folder: _Folder, walk: Walk) -> Iterator[_Folder]:
    here = folder.path.stat()
    own = (here.st_dev, here.st_ino)
    if own in folder.inside or (folder.entered is not None and own in folder.entered):
        return
    if folder.entered is not None:
        folder.entered.add(own)
    inside = folder.inside | {own}
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


def _kind(entry: os.DirEntry) -> str:
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError:  # a link to itself
        pass
    return "broken link" if entry.is_symlink() else "other"
