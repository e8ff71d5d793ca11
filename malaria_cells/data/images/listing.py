"""The images of one file, a folder or a pattern, and what of it was left out."""

import fnmatch
import glob
import logging
import os
from collections.abc import Callable
from pathlib import Path

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.text import number_of
from malaria_cells.data.images.names import SUFFIXES, UNREADABLE_SUFFIXES, is_image
from malaria_cells.data.images.refusal import export_advice
from malaria_cells.data.images.walking import Walk, is_searched, walked

log = logging.getLogger(__name__)


def list_images(where: str | Path) -> tuple[Path, list[str]]:
    """Find the images of one file, a directory (recursively) or a glob.

    A path that exists is taken as it stands before it is taken for a pattern. Links to folders are followed; of several links to one
    image one is listed, and of the image and a link to it the image. What was left out is logged, one line a kind.

    Args:
        where: a path, or a pattern with ``*``, ``?`` or ``[``; ``**`` crosses folders; a leading ``~`` is the home folder.

    Returns:
        The folder that keys are relative to, and the sorted keys (relative paths with forward slashes).

    Raises:
        InputError: nothing is there, or nothing of it is an image.
    """
    try:
        path = _expanded(where)
        if path.is_file():
            return path.parent, [path.name]
        if path.is_dir():
            root, walk = path, walked(path)
        elif glob.has_magic(str(path)):
            root, walk = _matching(path)
        else:
            raise InputError(f"{where}: no such image or directory")
    except OSError as error:
        raise InputError(f"{where}: cannot be searched ({error.strerror or reason(error)}); name a folder or an image") from None
    found = [p for p in walk.files if is_image(p)]
    kept = _without_doubles([p for p in found if _is_text(p)], walk.linked)
    _tell_what_is_left_out(where, walk, [p for p in found if p not in kept])
    if not kept:
        raise InputError(f"{where}: found no image{_brackets(str(where))}; expected files ending in {', '.join(sorted(SUFFIXES))}")
    return root, sorted(p.relative_to(root).as_posix() for p in kept)


def _expanded(where: str | Path) -> Path:
    path = Path(where)
    if path.exists():
        return path
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise InputError(f"{where}: {reason(error)}; write the folder out") from None


def _is_text(path: Path) -> bool:
    """Whether a name can be written into a table; on Linux names may be bytes that are no text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _matching(pattern: Path) -> tuple[Path, Walk]:
    """Find the files that match a pattern; where none do, those that do with brackets as letters, or in other cases of the letters."""
    root, parts = _longest_folder(pattern)
    literal = [part.replace("[", "[[]") for part in parts]
    tried = (_fitting(root, wanted, fits) for fits in (fnmatch.fnmatch, _fits_in_any_case) for wanted in (parts, literal))
    found = next((paths for paths in tried if any(is_image(p) for p in paths)), [])
    others = [p for p in _fitting(root, parts, _fits_in_any_case) if is_image(p) and p.is_file() and p not in found]
    if others:
        log.warning(
            f"{pattern}: {number_of(len(others), 'image')} left out that would match in other cases of the letters; first: {others[0]}"
        )
    files = [p for p in found if p.is_file()]
    return root, Walk(files, {p for p in files if _is_linked(p, root)}, [p for p in found if p.is_symlink() and not p.exists()])


def _longest_folder(pattern: Path) -> tuple[Path, list[str]]:
    """Split a pattern behind the last folder that exists by that very name, brackets and all."""
    parts = pattern.parts
    for count in range(len(parts) - 1, 0, -1):
        root = Path(*parts[:count])
        if root.is_dir():
            return root, list(parts[count:])
    return Path(), list(parts)


def _fitting(root: Path, parts: list[str], fits: Callable[[str, str], bool]) -> list[Path]:
    found = [root]
    for place, part in enumerate(parts):
        folders = [p for p in found if p.is_dir()]
        if part == "**":
            last = place == len(parts) - 1
            found = [p for folder in folders for p in (walked(folder).files if last else _folders(folder))]
        elif glob.has_magic(part) or fits is _fits_in_any_case:
            found = [
                p for folder in folders for p in folder.iterdir() if fits(p.name, part) and (is_searched(p.name) or part.startswith("."))
            ]
        else:
            found = [p for folder in folders if os.path.lexists(p := folder / part)]
    return sorted(dict.fromkeys(found))


def _fits_in_any_case(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name.casefold(), pattern.casefold())


def _folders(root: Path) -> list[Path]:
    """The folder itself and those below it that lead to a file."""
    return list(dict.fromkeys([root, *(parent for p in walked(root).files for parent in p.parents if root in parent.parents)]))


def _is_linked(path: Path, root: Path) -> bool:
    return any(p.is_symlink() for p in (path, *path.parents) if root in p.parents)


def _without_doubles(found: list[Path], linked: set[Path]) -> set[Path]:
    if not linked:
        return set(found)
    kept: dict[str, Path] = {}
    for p in sorted(found, key=lambda p: (p in linked, p)):
        kept.setdefault(os.path.realpath(p), p)
    return set(kept.values())


def _tell_what_is_left_out(where: str | Path, walk: Walk, left_out: list[Path]) -> None:
    by_format: dict[str, list[Path]] = {}
    for p in walk.files:
        if name := UNREADABLE_SUFFIXES.get(p.suffix.lower()):
            by_format.setdefault(name, []).append(p)
    for name, paths in sorted(by_format.items()):
        log.warning(
            f"{where}: {number_of(len(paths), 'file')} left out ({name}, which is not read), first: {paths[0]}; {export_advice(name)}"
        )
    unnamed = [p for p in left_out if not _is_text(p)]
    if unnamed:
        log.warning(
            f"{where}: {number_of(len(unnamed), 'image')} left out with a name that is no text; first: {str(unnamed[0])!a}; rename them"
        )
    doubles = [p for p in left_out if _is_text(p)]
    if doubles:
        log.warning(f"{where}: {number_of(len(doubles), 'link')} left out, to images that are listed already; first: {doubles[0]}")
    if walk.broken:
        log.warning(f"{where}: {number_of(len(walk.broken), 'link')} left out, to nothing; first: {walk.broken[0]}")
    if walk.closed:
        path, why = walk.closed[0]
        log.warning(f"{where}: {number_of(len(walk.closed), 'folder')} could not be opened and not searched; first: {path} ({why})")


def _brackets(where: str) -> str:
    if "[" not in where:
        return ""
    return " ([ and ] stand for one of the letters between them; write [[] for a bracket of the name itself)"
