"""Lists the images that a file, a folder or a glob pattern names, and logs what was left out."""

import fnmatch
import glob
import logging
import os
from collections.abc import Callable
from pathlib import Path

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.text import number_of
from malaria_cells.data.images.names import LISTED_SLIDES, SUFFIXES, UNREADABLE_SUFFIXES, is_image, reads_slides
from malaria_cells.data.images.refusal import export_advice
from malaria_cells.data.images.walking import Walk, is_searched, walked

log = logging.getLogger(__name__)


def list_images(where: str | Path, slides: bool = False) -> tuple[Path, list[str]]:
    """Find the images of one file, a directory (recursively) or a glob.

    An existing path is never read as a pattern. Links to folders are followed. If several paths lead to one image, one is listed, the
    image itself rather than a link. Files that are left out are logged, one line per reason.

    Args:
        where: a path, or a pattern with ``*``, ``?`` or ``[``; ``**`` crosses folders; a leading ``~`` is the home folder.
        slides: whether slides that `open_image` alone reads are listed, too, if the library for them is installed.

    Returns:
        The folder that keys are relative to, and the sorted keys (relative paths with forward slashes).

    Raises:
        InputError: the path does not exist, or there is no image.
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
    listed_slides = LISTED_SLIDES if slides and reads_slides() else frozenset()
    images = [p for p in walk.files if is_image(p) or (p.suffix.lower() in listed_slides and not p.name.startswith("."))]
    listed = _without_duplicates([p for p in images if _is_text(p)], walk.linked)
    walk.files = [p for p in walk.files if p.suffix.lower() not in listed_slides]
    _log_left_out(where, walk, [p for p in images if p not in listed])
    if not listed:
        raise InputError(f"{where}: found no image{_brackets(str(where))}; expected files ending in {', '.join(sorted(SUFFIXES))}")
    return root, sorted(p.relative_to(root).as_posix() for p in listed)


def _expanded(where: str | Path) -> Path:
    path = Path(where)
    if path.exists():
        return path
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise InputError(f"{where}: {reason(error)}; write the folder out") from None


def _is_text(path: Path) -> bool:
    """Whether a name can be written as text; on Linux, names may be bytes that are not valid text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _matching(pattern: Path) -> tuple[Path, Walk]:
    """Find the files that match a pattern; if none do, those that match with literal brackets, or case-insensitively."""
    root, parts = _longest_folder(pattern)
    literal = [part.replace("[", "[[]") for part in parts]
    attempts = (
        _matching_paths(root, wanted, matches_name)
        for matches_name in (fnmatch.fnmatch, _matches_in_any_case)
        for wanted in (parts, literal)
    )
    matches = next((paths for paths in attempts if any(is_image(p) for p in paths)), [])
    case_variants = [p for p in _matching_paths(root, parts, _matches_in_any_case) if is_image(p) and p.is_file() and p not in matches]
    if case_variants:
        log.warning(
            f"{pattern}: {number_of(len(case_variants), 'image')} left out that would match if case were ignored; first: {case_variants[0]}"
        )
    files = [p for p in matches if p.is_file()]
    return root, Walk(files, {p for p in files if _is_linked(p, root)}, [p for p in matches if p.is_symlink() and not p.exists()])


def _longest_folder(pattern: Path) -> tuple[Path, list[str]]:
    """Split a pattern after its longest prefix that is an existing folder, with brackets read literally."""
    parts = pattern.parts
    for count in range(len(parts) - 1, 0, -1):
        root = Path(*parts[:count])
        if root.is_dir():
            return root, list(parts[count:])
    return Path(), list(parts)


def _matching_paths(root: Path, parts: list[str], matches_name: Callable[[str, str], bool]) -> list[Path]:
    paths = [root]
    for index, part in enumerate(parts):
        folders = [p for p in paths if p.is_dir()]
        if part == "**":
            last = index == len(parts) - 1
            paths = [p for folder in folders for p in (walked(folder).files if last else _folders(folder))]
        elif glob.has_magic(part) or matches_name is _matches_in_any_case:
            paths = [
                p
                for folder in folders
                for p in folder.iterdir()
                if matches_name(p.name, part) and (is_searched(p.name) or part.startswith("."))
            ]
        else:
            paths = [p for folder in folders if os.path.lexists(p := folder / part)]
    return sorted(dict.fromkeys(paths))


def _matches_in_any_case(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name.casefold(), pattern.casefold())


def _folders(root: Path) -> list[Path]:
    """The folder and all folders below it that contain files at some depth."""
    return list(dict.fromkeys([root, *(parent for p in walked(root).files for parent in p.parents if root in parent.parents)]))


def _is_linked(path: Path, root: Path) -> bool:
    return any(p.is_symlink() for p in (path, *path.parents) if root in p.parents)


def _without_duplicates(paths: list[Path], linked: set[Path]) -> set[Path]:
    if not linked:
        return set(paths)
    by_target: dict[str, Path] = {}
    for p in sorted(paths, key=lambda p: (p in linked, p)):
        by_target.setdefault(os.path.realpath(p), p)
    return set(by_target.values())


def _log_left_out(where: str | Path, walk: Walk, left_out: list[Path]) -> None:
    by_format: dict[str, list[Path]] = {}
    for p in walk.files:
        if name := UNREADABLE_SUFFIXES.get(p.suffix.lower()):
            by_format.setdefault(name, []).append(p)
    for name, paths in sorted(by_format.items()):
        log.warning(
            f"{where}: {number_of(len(paths), 'file')} left out ({name}, which cannot be read), first: {paths[0]}; {export_advice(name)}"
        )
    unnamed = [p for p in left_out if not _is_text(p)]
    if unnamed:
        log.warning(
            f"{where}: {number_of(len(unnamed), 'image')} left out, since the name is not text; first: {str(unnamed[0])!a}; rename them"
        )
    doubles = [p for p in left_out if _is_text(p)]
    if doubles:
        log.warning(f"{where}: {number_of(len(doubles), 'link')} left out, since the image is already listed; first: {doubles[0]}")
    if walk.broken:
        log.warning(f"{where}: {number_of(len(walk.broken), 'link')} left out, since the target is missing; first: {walk.broken[0]}")
    if walk.closed:
        path, why = walk.closed[0]
        log.warning(f"{where}: {number_of(len(walk.closed), 'folder')} left out, since opening failed; first: {path} ({why})")


def _brackets(where: str) -> str:
    if "[" not in where:
        return ""
    return " ([ and ] stand for one of the letters between them; write [[] for a bracket of the name itself)"
