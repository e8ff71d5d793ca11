"""Index of files by their paths and by the last components of their paths."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations.parts import part_of_path
from malaria_cells.data.annotations.written_paths import Parts, composed, folded
from malaria_cells.data.images import SUFFIXES, UNREADABLE_SUFFIXES


class FileIndex:
    """Index of files by their paths and by the last components of their paths.

    Names are compared exactly, then in Unicode normal form C (macOS decomposes accented letters), then ignoring case. The first of these
    comparisons that matches any file decides.

    Args:
        paths: paths of the files.
        root: folder that error messages name.
        folders_of: returns the folders of a file that are compared with the folders in a name; kept as an attribute.
    """

    def __init__(self, paths: Iterable[Path], root: Path, folders_of: Callable[[Path], Parts]):
        self.root = root
        self.folders_of = folders_of
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
        return frozenset(folded(part) for path in self._by_path.values() for part in self.folders_of(path))

    @cached_property
    def parts_of_folders(self) -> frozenset[str | None]:
        """The parts of a data set that have folders of their own; None is in it if some folders belong to no part."""
        return frozenset(part_of_path(self.folders_of(path)[-2:]) for path in self._by_path.values())

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


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in SUFFIXES or path.suffix.lower() in UNREADABLE_SUFFIXES else name
