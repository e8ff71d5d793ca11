"""Decides which of several files the path in an annotation refers to."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from malaria_cells.data.annotations.file_index import FileIndex
from malaria_cells.data.annotations.parts import is_plain, part_of_path
from malaria_cells.data.annotations.written_paths import Parts, components, folded, spellings


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
    for spelling in spellings(name):
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
        folders = self.index.folders_of(path)
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
            return path.parent.parts != folder, _specific(self.index.folders_of(path)) != origin_folders, -n_shared

        minimum = min(map(distance, matching))
        return [path for path in matching if distance(path) == minimum]


def _specific(folders: Parts) -> Parts:
    """The folders whose names are specific (see `is_plain`), folded."""
    return tuple(folded(part) for part in folders if not is_plain(part))
