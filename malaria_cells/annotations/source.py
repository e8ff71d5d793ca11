"""What a reader is given, and what it returns before anything is checked."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.annotations.cleaning import Oddities
from malaria_cells.errors import InputError


@dataclass(frozen=True)
class RawPicture:
    """One picture as its annotation file has it: nothing clipped, dropped or mapped yet.

    Attributes:
        name: the picture's path as written.
        categories: one name a box.
        boxes_xyxy: float64 (n, 4), may hold NaN, swapped corners, or lie outside.
        ignore: bool (n,), regions that the format itself marks as not to be scored (COCO's crowds).
        size_wh: width and height as declared, if the format declares them.
        part: ``train``, ``validation`` or ``test``, if the format says so.
        whole: the only category is of the picture as a whole; the box is without meaning.
    """

    name: str
    categories: list[str]
    boxes_xyxy: np.ndarray
    ignore: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    size_wh: tuple[int, int] | None = None
    part: str | None = None
    whole: bool = False


def whole_picture(name: str, category: str) -> RawPicture:
    """A picture that is an example of a category as a whole."""
    return RawPicture(name, [category], np.zeros((1, 4)), whole=True)


@dataclass(frozen=True)
class Source:
    """An annotation file or folder, parsed at most once, and what was odd about it."""

    path: Path
    oddities: Oddities = field(default_factory=Oddities)

    @cached_property
    def json(self) -> Any:
        """The parsed content, or None where the path is not a JSON file.

        Raises:
            InputError: a file that ends in .json and is none.
        """
        if self.path.suffix.lower() != ".json":
            return None
        try:
            return json.loads(self.path.read_bytes())
        except ValueError as error:
            raise InputError(f"{self.path}: not valid JSON ({error}); the file may be cut off, fetch or export it again") from error


def read_text(path: Path) -> str:
    """Read a text file as UTF-8, with or without a byte order mark.

    Raises:
        InputError: another encoding; names the file.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8 (in Excel: CSV UTF-8)") from None


def numbers(source: Path, picture: str, *values: Any) -> list[float]:
    """Read coordinates that may be written as strings; None becomes NaN.

    Raises:
        InputError: a value that is no number; names the file and the picture.
    """
    try:
        return [float("nan") if v is None else float(v) for v in values]
    except (TypeError, ValueError):
        raise InputError(f"{source}: picture '{picture}' has a box with the coordinates {values}; expected four numbers") from None


def declared_size(width: Any, height: Any) -> tuple[int, int] | None:
    """Width and height in pixels as a file declares them; None where it does not, or what it says is no size."""
    try:
        size = int(float(width)), int(float(height))
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def malformed(source: Path, expected: str, error: Exception) -> InputError:
    """The error for a file of a known format that lacks one of its parts."""
    found = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
    return InputError(f"{source}: {found}; expected {expected}")
