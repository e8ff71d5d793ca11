"""Looks files up by the ends of their paths, and decides which of several a name means."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations.parts import is_plain, part_of_path
from malaria_cells.data.images import SUFFIXES, UNREADABLE_SUFFIXES

Parts = tuple[str, ...]
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # Label Studio puts eight digits in front of the names of uploaded images


@dataclass(frozen=True)
class Origin:
    """Where a name was written, which tells apart images that it fits equally well.

    Attributes:
        folder: of the annotation file.
        part: of the data set, by the file's own place or content; None where that says none.
        strict: the folder is the home of its images: an image below a folder of another name, as that of another slide, is not meant.
    """

    folder: Path
    part: str | None = None
    strict: bool = False


class FileIndex:
    """Files, to be looked up by where they are or by the ends of their paths.

    Names are compared as they are, then in one Unicode normal form (macOS takes letters apart), then without regard to case. Whatever fits
    at the first of these steps counts.

    Args:
        paths: of the files.
        root: what errors name.
        folders_of: the folders of a file that are compared with those of a name.
    """

    def __init__(self, paths: Iterable[Path], root: Path, folders_of: Callable[[Path], Parts]):
        self.root = root
        self._folders_of = folders_of
        self._by_path: dict[str, Path] = {}
        self._by_folded: dict[str, list[Path]] = defaultdict(list)
        self._by_end: dict[Parts, list[Path]] = defaultdict(list)
        self._by_stem: dict[Parts, list[Path]] = defaultdict(list)
        for path in paths:
            self._by_path[path.as_posix()] = path
            self._by_folded[folded(path.as_posix())].append(path)
            name, stem, parent = folded(path.name), folded(path.stem), folded(path.parent.name)
            for n_parts, key in (((name,), (stem,)), ((parent, name), (parent, stem))):
                self._by_end[n_parts].append(path)
                self._by_stem[key].append(path)

    @cached_property
    def folder_names(self) -> frozenset[str]:
        """The names of all folders that files lie in, folded."""
        return frozenset(folded(part) for path in self._by_path.values() for part in self._folders_of(path))

    @cached_property
    def parts_of_folders(self) -> frozenset[str | None]:
        """The parts of a data set that have folders of their own."""
        return frozenset(part_of_path(self._folders_of(path)[-2:]) for path in self._by_path.values())

    def at(self, folder: Path, parts: Parts) -> Path | None:
        """The file at a place.

        Raises:
            InputError: only the case tells several files apart there.
        """
        place = folder.joinpath(*parts).as_posix()
        if place in self._by_path:
            return self._by_path[place]
        return self.only(_fitting(self._by_folded.get(folded(place), []), parts, lambda path, n: path.parts[-n:]), parts)

    def ending(self, parts: Parts) -> list[Path]:
        """The files whose paths end with these components."""
        key = tuple(map(folded, parts[-2:]))
        return _fitting(self._by_end.get(key, []), parts, lambda path, n: path.parts[-n:])

    def ending_with_any_suffix(self, parts: Parts) -> list[Path]:
        """The files whose paths end so but for the suffix, which `parts` may leave out or have another of."""
        for end in dict.fromkeys((parts, (*parts[:-1], _without_suffix(parts[-1])))):
            fitting = _fitting(self._by_stem.get(tuple(map(folded, end[-2:])), []), end, lambda path, n: path.with_suffix("").parts[-n:])
            if fitting:
                return fitting
        return []

    def folders(self, path: Path) -> Parts:
        """The folders of a file that are compared."""
        return self._folders_of(path)

    def only(self, fitting: Sequence[Path], parts: Parts) -> Path | None:
        """The one file that fits, or None.

        Raises:
            InputError: several fit.
        """
        if len(fitting) > 1:
            name = "/".join(parts)
            raise InputError(
                f"{name}: fits several images in {self.root} ({fitting[0]}, {fitting[1]}); write the path from {self.root} on, "
                "or name the folder of one of them"
            )
        return fitting[0] if fitting else None


def _fitting(candidates: list[Path], end: Parts, compared: Callable[[Path, int], Parts]) -> list[Path]:
    for normalize in (str, composed, folded):
        wanted = tuple(normalize(part) for part in end)
        fitting = [p for p in candidates if tuple(normalize(part) for part in compared(p, len(end))) == wanted]
        if fitting:
            return fitting
    return []


def found(name: str, index: FileIndex, places: list[Path], origin: Origin | None) -> Path | None:
    """The file that a name means, or None.

    Args:
        name: a path, with either slash.
        index: the files.
        places: folders that the path is tried from, in this order, before it is tried as an ending.
        origin: where the name was written.

    Raises:
        InputError: several files fit equally well.
    """
    if not name or "\0" in name:
        return None
    literal = index.at(places[0], (name,)) if "\\" in name else None  # a zip of Windows leaves backslashes in names
    if literal is not None:
        return literal
    for spelled in _spellings(name):
        parts, outside = components(spelled)
        if not parts:
            continue
        at_place = None if outside else next((p for place in places if (p := index.at(place, parts))), None)
        if at_place is not None:
            return at_place
        lookup = _Lookup(index, parts, outside, origin)
        for look_up in (index.ending, index.ending_with_any_suffix):
            path = lookup.by_longest_ending(look_up)
            if path is not None:
                return path
    return None


def _spellings(name: str) -> list[str]:
    """A name as it is written, then what it stands for where that is no file."""
    spellings = [name, unquote(name)]
    if "://" in name:
        spellings.append(unquote(name.split("?")[0].split("#")[0]))
    uploaded = _UPLOADED.fullmatch(PurePosixPath(name.replace("\\", "/")).name)
    return list(dict.fromkeys([*spellings, *([uploaded[1]] if uploaded else [])]))


@dataclass(frozen=True)
class _Lookup:
    """One name that is looked up by its ends.

    Attributes:
        index: the files.
        parts: the name's components.
        outside: the name leads out of the folder, so that its first components are of no meaning here.
        origin: where the name was written.
    """

    index: FileIndex
    parts: Parts
    outside: bool
    origin: Origin | None

    def by_longest_ending(self, look_up: Callable[[Parts], list[Path]]) -> Path | None:
        for first in range(len(self.parts)):
            fitting = [path for path in look_up(self.parts[first:]) if self._may_be(path, first)]
            if fitting:
                return self.index.only(self._nearest(fitting), self.parts)
        return None

    def _may_be(self, path: Path, first: int) -> bool:
        """Whether nothing tells that the name means a file of another folder; `first` components of the name are left over."""
        folders = self.index.folders(path)
        above, left_over = folders[: max(len(folders) - (len(self.parts) - first - 1), 0)], self.parts[:first]
        if not self.outside and left_over and not (all(map(is_plain, left_over)) or all(map(is_plain, above))):
            return False
        if self.outside and self._of_another_folder(above, left_over):
            return False
        of_name, of_path = part_of_path(self.parts[-3:-1] if self.outside else self.parts[:-1]), part_of_path(folders[-2:])
        if of_name is None and self.origin is not None and self.origin.part in self.index.parts_of_folders:
            of_name = self.origin.part
        if of_name is not None and of_path is not None and of_name != of_path:
            return False
        return not (self.origin is not None and self.origin.strict and not left_over and self._of_another_home(folders))

    def _of_another_folder(self, above: Parts, left_over: Parts) -> bool:
        """Whether a component that is left over is the name of another folder here, or differs from this one in its number alone."""
        known = {folded(part) for part in left_over if not is_plain(part)} & self.index.folder_names
        if known - {folded(part) for part in above}:
            return True
        if not left_over or not above or folded(left_over[-1]) == folded(above[-1]):
            return False
        numbered = [re.sub(r"\d+", "0", folded(part)) for part in (left_over[-1], above[-1])]
        return numbered[0] == numbered[1]

    def _of_another_home(self, folders: Parts) -> bool:
        own, other = self._home(), _meaning(folders)
        return bool(own) and bool(other) and not (set(own) <= set(other) or set(other) <= set(own))

    def _home(self) -> Parts:
        if self.origin is None or not self.origin.folder.is_relative_to(self.index.root):
            return ()
        return _meaning(self.origin.folder.relative_to(self.index.root).parts)

    def _nearest(self, fitting: list[Path]) -> list[Path]:
        """The files that are nearest to where the name was written."""
        if self.origin is None or len(fitting) == 1:
            return fitting
        home, folder = self._home(), self.origin.folder.parts

        def distance(path: Path) -> tuple[bool, bool, int]:
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(path.parts, folder, strict=False)))
            return path.parent.parts != folder, _meaning(self.index.folders(path)) != home, -shared

        least = min(map(distance, fitting))
        return [path for path in fitting if distance(path) == least]


def _meaning(folders: Parts) -> Parts:
    """The folders that say something, folded."""
    return tuple(folded(part) for part in folders if not is_plain(part))


def leads_out(name: str) -> bool:
    """Whether a path, written with either slash, is absolute or climbs out of the folder that it starts from."""
    return components(name)[1]


def components(name: str) -> tuple[Parts, bool]:
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


def inner_path(name: str) -> str | None:
    r"""A path as an annotation has it, with forward slashes, or None where it leads out of the folder or nowhere.

    Examples:
        >>> inner_path(r"a\b.png"), inner_path("../b.png"), inner_path("/b.png"), inner_path("a/../b.png")
        ('a/b.png', None, None, 'b.png')
    """
    parts, outside = components(name)
    return None if outside or not parts or "\0" in name else "/".join(parts)


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in SUFFIXES or path.suffix.lower() in UNREADABLE_SUFFIXES else name


def composed(text: str) -> str:
    """A text with accents and letters put together, as Windows and Linux write them; macOS takes them apart."""
    return unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """A text as it is compared without regard to case and Unicode normal form."""
    return composed(composed(text).casefold())
