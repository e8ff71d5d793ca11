"""Finds the files of the pictures that an annotation names."""

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

from malaria_cells.errors import InputError
from malaria_cells.pictures import is_picture


class PictureFinder(Protocol):
    """What looks pictures up by the path that an annotation gives."""

    root: Path

    def find(self, name: str) -> Path | None:
        """Return the picture's file below `root`, or None."""


class PictureFolder:
    """A data set's folder, in which pictures are looked up by the path that an annotation gives.

    The path is tried as it stands, then below ``images/``, then as the end of any picture's path in the folder
    (whole path components); the last must fit one picture only. Of an absolute path that leads nowhere, or elsewhere, the
    longest ending that fits counts.
    """

    def __init__(self, root: Path):
        self.root = root

    def find(self, name: str) -> Path | None:
        """Return the picture's file, or None.

        Raises:
            InputError: several pictures fit.
        """
        for candidate in (self.root / name, self.root / "images" / name):
            if candidate.is_file() and candidate.is_relative_to(self.root):  # an absolute path may lead elsewhere
                return candidate
        return _only_fitting(name, self._by_name, self.root)

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        return _by_name(p for p in sorted(self.root.rglob("*")) if is_picture(p))


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
        self._names = _by_name(self._by_path)

    def find(self, name: str) -> Path | None:
        """Return the picture's file, or None.

        Raises:
            InputError: several pictures fit.
        """
        for candidate in (self._beside / name, self._beside / "images" / name):
            if candidate.resolve() in self._by_path:
                return self._by_path[candidate.resolve()]
        fitting = _only_fitting(name, self._names, self.root)
        return None if fitting is None else self._by_path[fitting]


def _by_name(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Pictures by their names, with and without the suffix: some tables leave it out."""
    found = defaultdict(list)
    for path in paths:
        found[path.name].append(path)
        found[path.stem].append(path)
    return found


def _only_fitting(name: str, by_name: dict[str, list[Path]], root: Path) -> Path | None:
    parts = PurePosixPath(name.replace("\\", "/")).parts or ("",)
    from_elsewhere = parts[0] == "/" or parts[0].endswith(":")  # an absolute path of the machine that the annotation was made on
    fitting: list[Path] = []
    for first in range(1, len(parts)) if from_elsewhere else [0]:
        end = parts[first:]
        fitting = [p for p in by_name.get(end[-1], []) if end in {p.parts[-len(end) :], p.with_suffix("").parts[-len(end) :]}]
        if fitting:
            break
    if len(fitting) > 1:
        raise InputError(f"{name}: fits several pictures in {root} ({fitting[0]}, {fitting[1]}); write the path from {root} on")
    return fitting[0] if fitting else None
