"""Helps the readers of drawing tools: gathers an image's shapes as boxes, and names the image in which something is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.source import RawImage, Source, numbers

T = TypeVar("T")
_KINDS: dict[type, str] = {dict: "an object {..}", list: "a list [..]", str: "a text"}


def expect(value: Any, kind: type[T], what: str) -> T:
    """Return the value of a JSON file if it is of the kind that it must be.

    Raises:
        TypeError: it is not; names what it is.

    Examples:
        >>> expect([1], list, "`regions`")
        [1]
    """
    if not isinstance(value, kind):
        raise TypeError(f"{what} is {excerpt(value, 40)}, not {_KINDS.get(kind, kind.__name__)}")
    return value


def is_file(path: Path) -> bool:
    """Whether there is a file; a name that no file can have, too long for instance, is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


@contextmanager
def faults_named(source: Source, expected: str, image: Any = None) -> Iterator[None]:
    """Turn what a missing or wrong part of a file raises into an error that names the file, the image and the format expected.

    Raises:
        InputError: instead of a KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError or RecursionError.
    """
    try:
        yield
    except InputError:
        raise
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        found = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        where = f"image {excerpt(image)}: " if image is not None else ""
        raise InputError(f"{source.path}: {where}{found}; expected {expected}") from error


@dataclass
class Shapes:
    """The shapes of one image, as boxes, while they are read.

    Attributes:
        source: the file, which takes notes of what is left out.
        name: the image's path as written.
        categories: one name a box.
        boxes: left, top, right, bottom of each.
    """

    source: Source
    name: str
    categories: list[str] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)

    def add(self, category: Any, *box: Any) -> None:
        """Take a box; its coordinates may be written as strings.

        Raises:
            TypeError: a category that is not a text, or empty.
            InputError: a coordinate that is no number.
        """
        if not isinstance(category, str) or not category.strip():
            raise TypeError(f"a shape has the label {excerpt(category, 40)}, not a text")
        self.boxes.append(numbers(self.source.path, self.name, *box))
        self.categories.append(category.strip())

    def leave_out(self, what: str, reason: str, count: int = 1) -> None:
        """Count something of the image that is not read, or not as it is."""
        self.source.issues.note(what, reason, self.name, count)

    def image(self, size_wh: tuple[int, int] | None = None, part: str | None = None) -> RawImage:
        """All that was taken."""
        boxes = np.array(self.boxes, dtype=np.float64).reshape(-1, 4)
        return RawImage(self.name, self.categories, boxes, size_wh=size_wh, part=part)
