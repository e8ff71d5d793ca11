"""Finds the files that an annotation names: whatever the slashes, the case, the Unicode form and the machine it was written on."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote

from malaria_cells.annotations.parts import is_plain
from malaria_cells.errors import InputError
from malaria_cells.pictures import SUFFIXES, UNREADABLE_SUFFIXES, is_picture, walk_files

Parts = tuple[str, ...]


class PictureFinder(Protocol):
    """Looks pictures up by the path that an annotation gives."""

    root: Path

    def find(self, name: str, beside: Path | None = None) -> Path | None:
        """Return the picture's file below `root`, or None; `beside` is the folder of the annotation file."""


class FileIndex:
    """Files below a folder, to be looked up by where they are or by the ends of their paths.

    Names are compared as they are, then in one Unicode form (macOS takes letters apart), then without regard to case. Whatever fits
    at the first of these steps counts, and has to be one file.
    """

    def __init__(self, paths: Iterable[Path], root: Path):
        self.paths = list(paths)
        self._root = root
        self._by_path: dict[str, Path] = {}
        self._by_folded: dict[str, list[Path]] = defaultdict(list)
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            self._by_path[path.as_posix()] = path
            self._by_folded[_folded(path.as_posix())].append(path)
            self._by_name[_folded(path.name)].append(path)
            self._by_stem[_folded(path.stem)].append(path)

    def at(self, folder: Path, parts: Parts) -> Path | None:
        """The file at a place.

        Raises:
            InputError: only the case tells several files apart there.
        """
        place = folder.joinpath(*parts).as_posix()
        if place in self._by_path:
            return self._by_path[place]
        return self._only(self._first([self._by_folded.get(_folded(place), [])], parts, _whole), parts)

    def ending(self, parts: Parts, fits: Callable[[Path], bool] = lambda _: True) -> Path | None:
        """The one file whose path ends with these components and fits otherwise.

        Raises:
            InputError: several files do.
        """
        return self._only(self._first([[p for p in self._by_name.get(_folded(parts[-1]), []) if fits(p)]], parts, _whole), parts)

    def ending_with_any_suffix(self, parts: Parts, fits: Callable[[Path], bool] = lambda _: True) -> Path | None:
        """The one file whose path ends so but for the suffix, which `parts` may leave out or have another of.

        Raises:
            InputError: several files do.
        """
        bare = (*parts[:-1], _without_suffix(parts[-1]))
        steps = [[p for p in self._by_stem.get(_folded(stem), []) if fits(p)] for stem in dict.fromkeys((parts[-1], bare[-1]))]
        return self._only(self._first(steps[:1], parts, _stem) or self._first(steps[1:], bare, _stem), parts)

    def _first(self, steps: list[list[Path]], parts: Parts, compared: Callable[[Path, int], Parts]) -> list[Path]:
        for candidates in steps:
            for form in (str, _composed, _folded):
                end = tuple(form(part) for part in parts)
                fitting = [p for p in candidates if tuple(form(part) for part in compared(p, len(end))) == end]
                if fitting:
                    return fitting
        return []

    def _only(self, fitting: list[Path], parts: Parts) -> Path | None:
        if len(fitting) > 1:
            name = "/".join(parts)
            raise InputError(
                f"{name}: fits several pictures in {self._root} ({fitting[0]}, {fitting[1]}); write the path from {self._root} on"
            )
        return fitting[0] if fitting else None


class PictureFolder:
    """A data set's folder, in which pictures are looked up by the path that an annotation gives.

    The path is tried beside the annotation file, from the root on, below ``images/``, then as the end of any picture's path in the folder
    (whole path components); the last must fit one picture only. Of a path that leads out of the folder (an absolute one, of the machine
    that the annotation was made on, or ``../``) the longest ending that fits counts. So it does of another path where the folders
    that are left over on both sides say nothing, as ``images`` does: a picture of one slide is never taken for that of another.
    Nothing outside the folder is ever found.
    """

    def __init__(self, root: Path):
        self.root = root

    def find(self, name: str, beside: Path | None = None) -> Path | None:
        """Return the picture's file, or None.

        Raises:
            InputError: several pictures fit.
        """
        places = [*([beside] if beside is not None else []), self.root, self.root / "images"]
        return _found(name, self._index, places, lambda path: path.relative_to(self.root).parts[:-1])

    @cached_property
    def files(self) -> list[Path]:
        """All files of the folder, sorted."""
        return walk_files(self.root)

    @cached_property
    def pictures(self) -> list[Path]:
        """The pictures among them."""
        return [p for p in self.files if is_picture(p)]

    @cached_property
    def _index(self) -> FileIndex:
        return FileIndex(self.pictures, self.root)


class PictureList:
    """Given pictures, in which those that an annotation names are looked up: the rest of the annotation is not wanted.

    Args:
        root: folder that the keys are relative to.
        keys: the pictures.
        annotation: the annotation file; a path relative to it is tried first.
    """

    def __init__(self, root: Path, keys: list[str], annotation: Path):
        self.root = root
        self._beside = annotation.resolve() if annotation.is_dir() else annotation.resolve().parent
        self._by_path = {(root / key).resolve(): root / key for key in keys}
        self._index = FileIndex(self._by_path, root)

    def find(self, name: str, beside: Path | None = None) -> Path | None:
        """Return the picture's file, or None.

        Raises:
            InputError: several pictures fit.
        """
        own = [beside.resolve()] if beside is not None else []
        places = [*own, self._beside, *(place / "images" for place in (*own, self._beside))]
        # The folder above the pictures may be that of one slide, so that nothing of a name may be left out that says something.
        path = _found(name, self._index, places, lambda path: path.parts[:-1])
        return None if path is None else self._by_path[path]


def _found(name: str, index: FileIndex, places: list[Path], folders_of: Callable[[Path], Parts]) -> Path | None:
    if not name or "\0" in name:
        return None
    literal = index.at(places[0], (name,)) if "\\" in name else None  # a zip of Windows leaves backslashes in names
    if literal is not None:
        return literal
    for spelled in dict.fromkeys((name, unquote(name))):
        parts, outside = _components(spelled)
        if not parts:
            continue
        at_place = None if outside else next((p for place in places if (p := index.at(place, parts))), None)
        if at_place is not None:
            return at_place
        for look_up in (index.ending, index.ending_with_any_suffix):
            path = _by_longest_ending(look_up, parts, outside, folders_of)
            if path is not None:
                return path
    return None


def _by_longest_ending(look_up: Callable, parts: Parts, outside: bool, folders_of: Callable[[Path], Parts]) -> Path | None:
    for first in range(len(parts)):
        end, left_out = parts[first:], parts[:first]

        def fits(path: Path, end: Parts = end, left_out: Parts = left_out) -> bool:
            if outside or not left_out:
                return True
            above = folders_of(path)
            above = above[: len(above) - (len(end) - 1)]
            return all(map(is_plain, left_out)) or all(map(is_plain, above))

        path = look_up(end, fits)
        if path is not None:
            return path
    return None


def leads_out(name: str) -> bool:
    """Whether a path, written with either slash, is absolute or climbs out of the folder that it starts from."""
    return _components(name)[1]


def _components(name: str) -> tuple[Parts, bool]:
    """The components of a path with either slash, and whether it leads out of the folder that it starts from."""
    pure = PurePosixPath(name.replace("\\", "/"))
    outside, parts = False, list[str]()
    for part in pure.parts:
        if part == "..":
            outside = outside or not parts
            parts = parts[:-1]
        elif part.startswith("/") or (not parts and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:", part)):  # C:, file:, https:
            outside = True
        elif part != ".":
            parts.append(part)
    return tuple(parts), outside


def _whole(path: Path, n: int) -> Parts:
    return path.parts[-n:]


def _stem(path: Path, n: int) -> Parts:
    return path.with_suffix("").parts[-n:]


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in SUFFIXES or path.suffix.lower() in UNREADABLE_SUFFIXES else name


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def inner_path(name: str) -> str | None:
    r"""A path as an annotation has it, with forward slashes, or None where it leads out of the folder or nowhere.

    Examples:
        >>> inner_path(r"a\b.png"), inner_path("../b.png"), inner_path("/b.png"), inner_path("a/../b.png")
        ('a/b.png', None, None, 'b.png')
    """
    parts, outside = _components(name)
    return None if outside or not parts or "\0" in name else "/".join(parts)
