"""Looks files up by the last components of their paths, and decides which of several files a name refers to."""

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
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # file name with the prefix of eight hexadecimal digits that Label Studio gives to uploads


@dataclass(frozen=True)
class Origin:
    """The place of the annotation file that a name comes from, which decides between images that match the name equally well.

    Attributes:
        folder: folder of the annotation file.
        part: part of the data set that the annotation file belongs to; None if unknown.
        strict: whether the images must be below folders of the same names: an image below a folder of another name (another slide's,
            say) never matches.
    """

    folder: Path
    part: str | None = None
    strict: bool = False


class FileIndex:
    """Index of files by their paths and by the last components of their paths.

    Names are compared exactly, then in Unicode normal form C (macOS decomposes accented letters), then ignoring case. The first of these
    comparisons that matches any file decides.

    Args:
        paths: paths of the files.
        root: folder that error messages name.
        folders_of: returns the folders of a file that are compared with the folders in a name.
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
        """The folded names of all folders that contain a file, directly or below."""
        return frozenset(folded(part) for path in self._by_path.values() for part in self._folders_of(path))

    @cached_property
    def parts_of_folders(self) -> frozenset[str | None]:
        """The parts of a data set that have folders of their own; None is in it if some folders belong to no part."""
        return frozenset(part_of_path(self._folders_of(path)[-2:]) for path in self._by_path.values())

    def at(self, folder: Path, parts: Parts) -> Path | None:
        """The file with the path `parts` below a folder, or None.

        Raises:
            InputError: several files match, and only the case of letters tells them apart.
        """
        path = folder.joinpath(*parts).as_posix()
        if path in self._by_path:
            return self._by_path[path]
        return self.only(_matching(self._by_folded.get(folded(path), []), parts, lambda file, n: file.parts[-n:]), parts)

    def ending(self, parts: Parts) -> list[Path]:
        """The files whose paths end with these components."""
        key = tuple(map(folded, parts[-2:]))
        return _matching(self._by_end.get(key, []), parts, lambda path, n: path.parts[-n:])

    def ending_with_any_suffix(self, parts: Parts) -> list[Path]:
        """The files whose paths end with these components, if the suffix of the last one is ignored."""
        for end in dict.fromkeys((parts, (*parts[:-1], _without_suffix(parts[-1])))):
            matching = _matching(self._by_stem.get(tuple(map(folded, end[-2:])), []), end, lambda path, n: path.with_suffix("").parts[-n:])
            if matching:
                return matching
        return []

    def folders(self, path: Path) -> Parts:
        """The folders of a file that are compared with the folders in a name."""
        return self._folders_of(path)

    def only(self, matching: Sequence[Path], parts: Parts) -> Path | None:
        """The one file that matches, or None.

        Raises:
            InputError: several files match.
        """
        if len(matching) > 1:
            name = "/".join(parts)
            raise InputError(
                f"{name}: matches several images in {self.root} ({matching[0]}, {matching[1]}); write the path relative to {self.root}, "
                "or name the folder of one of them"
            )
        return matching[0] if matching else None


def _matching(candidates: list[Path], end: Parts, components_of: Callable[[Path, int], Parts]) -> list[Path]:
    """The candidates whose last components, from `components_of`, are `end` by the strictest comparison that matches any."""
    for normalize in (str, composed, folded):
        wanted = tuple(normalize(part) for part in end)
        matching = [path for path in candidates if tuple(normalize(part) for part in components_of(path, len(end))) == wanted]
        if matching:
            return matching
    return []


def find_file(name: str, index: FileIndex, places: list[Path], origin: Origin | None) -> Path | None:
    """The file that a name refers to, or None.

    Args:
        name: a path with forward or backward slashes.
        index: index of the files.
        places: folders that the path is tried from, in this order, before it is compared with the last components of all paths.
        origin: place of the annotation file that the name comes from.

    Raises:
        InputError: several files match equally well.
    """
    if not name or "\0" in name:
        return None
    literal = index.at(places[0], (name,)) if "\\" in name else None  # zip files made on Windows may leave backslashes in file names
    if literal is not None:
        return literal
    for spelling in _spellings(name):
        parts, outside = components(spelling)
        if not parts:
            continue
        path = None if outside else next((file for place in places if (file := index.at(place, parts))), None)
        if path is not None:
            return path
        lookup = _Lookup(index, parts, outside, origin)
        for look_up in (index.ending, index.ending_with_any_suffix):
            path = lookup.by_longest_ending(look_up)
            if path is not None:
                return path
    return None


def _spellings(name: str) -> list[str]:
    """A name as written, then with URL escapes decoded, without a URL's query, and without the prefix of an upload."""
    spellings = [name, unquote(name)]
    if "://" in name:
        spellings.append(unquote(name.split("?")[0].split("#")[0]))
    uploaded = _UPLOADED.fullmatch(PurePosixPath(name.replace("\\", "/")).name)
    return list(dict.fromkeys([*spellings, *([uploaded[1]] if uploaded else [])]))


@dataclass(frozen=True)
class _Lookup:
    """Lookup of one name by its last components.

    Attributes:
        index: index of the files.
        parts: components of the name.
        outside: whether the name leads out of the folder (an absolute path, say), so that its first components need not match.
        origin: place of the annotation file that the name comes from.
    """

    index: FileIndex
    parts: Parts
    outside: bool
    origin: Origin | None

    def by_longest_ending(self, look_up: Callable[[Parts], list[Path]]) -> Path | None:
        for first in range(len(self.parts)):
            matching = [path for path in look_up(self.parts[first:]) if self._may_match(path, first)]
            if matching:
                return self.index.only(self._nearest(matching), self.parts)
        return None

    def _may_match(self, path: Path, first: int) -> bool:
        """Whether a file can be the named one although the first `first` components of the name were not compared."""
        folders = self.index.folders(path)
        above, unmatched = folders[: max(len(folders) - (len(self.parts) - first - 1), 0)], self.parts[:first]
        if not self.outside and unmatched and not (all(map(is_plain, unmatched)) or all(map(is_plain, above))):
            return False
        if self.outside and self._of_another_folder(above, unmatched):
            return False
        name_part, path_part = part_of_path(self.parts[-3:-1] if self.outside else self.parts[:-1]), part_of_path(folders[-2:])
        if name_part is None and self.origin is not None and self.origin.part in self.index.parts_of_folders:
            name_part = self.origin.part
        if name_part is not None and path_part is not None and name_part != path_part:
            return False
        return not (self.origin is not None and self.origin.strict and not unmatched and self._contradicts_origin(folders))

    def _of_another_folder(self, above: Parts, unmatched: Parts) -> bool:
        """Whether an unmatched component names another folder of the index, or differs from the file's folder only in a number."""
        known = {folded(part) for part in unmatched if not is_plain(part)} & self.index.folder_names
        if known - {folded(part) for part in above}:
            return True
        if not unmatched or not above or folded(unmatched[-1]) == folded(above[-1]):
            return False
        without_numbers = [re.sub(r"\d+", "0", folded(part)) for part in (unmatched[-1], above[-1])]
        return without_numbers[0] == without_numbers[1]

    def _contradicts_origin(self, folders: Parts) -> bool:
        """Whether a file's folders and those of the annotation file have specific names, and neither contains the other."""
        origin_folders, file_folders = set(self._origin_folders()), set(_specific(folders))
        return bool(origin_folders and file_folders) and not (origin_folders <= file_folders or file_folders <= origin_folders)

    def _origin_folders(self) -> Parts:
        if self.origin is None or not self.origin.folder.is_relative_to(self.index.root):
            return ()
        return _specific(self.origin.folder.relative_to(self.index.root).parts)

    def _nearest(self, matching: list[Path]) -> list[Path]:
        """The files that are nearest to the annotation file."""
        if self.origin is None or len(matching) == 1:
            return matching
        origin_folders, folder = self._origin_folders(), self.origin.folder.parts

        def distance(path: Path) -> tuple[bool, bool, int]:
            n_shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(path.parts, folder, strict=False)))
            return path.parent.parts != folder, _specific(self.index.folders(path)) != origin_folders, -n_shared

        minimum = min(map(distance, matching))
        return [path for path in matching if distance(path) == minimum]


def _specific(folders: Parts) -> Parts:
    """The folders whose names are specific (see `is_plain`), folded."""
    return tuple(folded(part) for part in folders if not is_plain(part))


def leads_out(name: str) -> bool:
    """Whether a path with forward or backward slashes is absolute, or leads out of its folder by ``..``."""
    return components(name)[1]


def components(name: str) -> tuple[Parts, bool]:
    """The components of a path with forward or backward slashes, and whether it leads out of its folder (see `leads_out`)."""
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
    r"""An annotation's path with forward slashes; None if it is empty or leads out of the folder.

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
    """A text in Unicode normal form C, with composed accents, as on Windows and Linux; macOS decomposes them."""
    return unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """A text for comparisons that ignore case and Unicode normal form."""
    return composed(composed(text).casefold())
