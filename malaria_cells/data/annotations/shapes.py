"""Shared by the readers of annotation tools: collects an image's shapes as boxes, and adds file and image to error messages."""

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
# Names of the JSON types for messages.
_TYPE_NAMES: dict[type, str] = {dict: "an object {..}", list: "a list [..]", str: "a text"}


def expect(value: Any, kind: type[T], what: str) -> T:
    """Return a value of a JSON file if it has the expected type.

    Args:
        value: the value.
        kind: the expected type.
        what: name of the value, for the message.

    Raises:
        TypeError: the value has another type; the message shows it.

    Examples:
        >>> expect([1], list, "`regions`")
        [1]
    """
    if not isinstance(value, kind):
        raise TypeError(f"{what} is {excerpt(value, 40)}, not {_TYPE_NAMES.get(kind, kind.__name__)}")
    return value


def is_file(path: Path) -> bool:
    """Whether the path is a file; False also for names that the file system does not allow, such as too long ones."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


@contextmanager
def faults_named(source: Source, expected: str, image: Any = None) -> Iterator[None]:
    """Convert the exceptions that a missing or wrong part of a file raises to an error that names the file, the image and the format.

    Args:
        source: the file.
        expected: the expected structure of the file, for the message.
        image: name of the image, for the message.

    Raises:
        InputError: instead of a KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError or RecursionError.
    """
    try:
        yield
    except InputError:
        raise
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        problem = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        where = f"image {excerpt(image)}: " if image is not None else ""
        raise InputError(f"{source.path}: {where}{problem}; expected {expected}") from error


@dataclass
class Shapes:
    """Collects the shapes of one image as boxes.

    Attributes:
        source: the annotation file, to whose issues shapes that are left out are added.
        name: path of the image as written in the file.
        categories: name of the category of each box.
        boxes: left, top, right and bottom of each box, in pixels.
    """

    source: Source
    name: str
    categories: list[str] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)

    def add(self, category: Any, *box: Any) -> None:
        """Add a box with its category; coordinates may be strings.

        Raises:
            TypeError: the category is empty or not a text.
            InputError: a coordinate is not a number.
        """
        if not isinstance(category, str) or not category.strip():
            raise TypeError(f"a shape has the label {excerpt(category, 40)}, not a text")
        self.boxes.append(numbers(self.source.path, self.name, *box))
        self.categories.append(category.strip())

    def leave_out(self, what: str, reason: str, count: int = 1) -> None:
        """Add something of the image that is left out or changed to the issues; see `AnnotationIssues.note`."""
        self.source.issues.note(what, reason, self.name, count)

    def image(self, size_wh: tuple[int, int] | None = None, part: str | None = None) -> RawImage:
        """The image with all boxes that were added."""
        boxes = np.array(self.boxes, dtype=np.float64).reshape(-1, 4)
        return RawImage(self.name, self.categories, boxes, size_wh=size_wh, part=part)
