"""Input and output of the readers: a `Source` is an annotation file or folder, a `RawImage` is an image as read, before any check."""

import codecs
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree as SafeXml
import numpy as np
from defusedxml import DefusedXmlException

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.text import excerpt, shortened
from malaria_cells.data.annotations.cleaning import AnnotationIssues
from malaria_cells.data.images import is_image, walk_files


@dataclass(frozen=True)
class RawImage:
    """One image as read from its annotation file; its boxes and categories are not yet checked, clipped or mapped.

    Attributes:
        name: path of the image as written in the file.
        categories: name of the category of each box.
        boxes_xyxy: float64 (n, 4), in pixels; may contain NaN and swapped corners, and exceed the image.
        ignore: bool (n,), True for ignore regions of the format (COCO's crowds); empty if there are none.
        size_wh: declared width and height in pixels; None if the file declares none.
        part: ``train``, ``validation`` or ``test``, if the file assigns the image to a part; else None.
        whole: True if the only category belongs to the image as a whole; the box is a placeholder.
        relative: True if boxes are in fractions of the image's width and height, not in pixels.
        other_names: alternative paths of the image, tried in order if there is no image at `name`.
    """

    name: str
    categories: list[str]
    boxes_xyxy: np.ndarray
    ignore: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    size_wh: tuple[int, int] | None = None
    part: str | None = None
    whole: bool = False
    relative: bool = False
    other_names: tuple[str, ...] = ()


def whole_image(name: str, category: str) -> RawImage:
    """An image with one category as a whole (image classification)."""
    return RawImage(name, [category], np.zeros((1, 4)), whole=True)


@dataclass(frozen=True)
class Source:
    """An annotation file or folder, which is parsed at most once, with the issues found in it.

    Attributes:
        path: the file or folder.
        issues: everything that is corrected or left out.
        part: ``train``, ``validation`` or ``test``, if the path of the file names a part; a part in the content takes precedence.
    """

    path: Path
    issues: AnnotationIssues = field(default_factory=AnnotationIssues)
    part: str | None = None

    @cached_property
    def files(self) -> list[Path]:
        """All files in the folder and below, sorted."""
        return walk_files(self.path)

    @cached_property
    def images(self) -> list[Path]:
        """The images among `files`."""
        return [path for path in self.files if is_image(path)]

    @cached_property
    def image_folders(self) -> dict[Path, list[Path]]:
        """For each folder its subfolders with images, directly or below, sorted."""
        tree: dict[Path, set[Path]] = defaultdict(set)
        for folder in self.own_image_folders:
            while folder != self.path:
                tree[folder.parent].add(folder)
                folder = folder.parent
        return {parent: sorted(children) for parent, children in tree.items()}

    @cached_property
    def own_image_folders(self) -> frozenset[Path]:
        """The folders that contain images directly."""
        return frozenset(path.parent for path in self.images)

    @cached_property
    def json(self) -> Any:
        """The parsed content; None if the path is not a JSON file.

        Raises:
            InputError: the file has the extension of JSON, but is not valid JSON.
        """
        if self.path.suffix.lower() not in {".json", ".geojson"}:
            return None
        content = content_of(self.path)
        try:
            return json.loads(content, object_pairs_hook=_unique_keys)
        except RecursionError:
            raise InputError(f"{self.path}: its lists are nested too deeply for an annotation; export the file again") from None
        except ValueError as error:
            raise InputError(f"{self.path}: not valid JSON ({error}); the file may be truncated; download or export it again") from error

    @cached_property
    def xml(self) -> Element | None:
        """The root element; None if the path is not an XML file. Entities are never expanded.

        Raises:
            InputError: the file has the extension .xml, but is not valid XML or declares entities.
        """
        if self.path.suffix.lower() != ".xml":
            return None
        text = _xml_text(self.path)
        try:
            return SafeXml.fromstring(text)
        except DefusedXmlException:
            raise InputError(f"{self.path}: declares XML entities, which are not expanded; export the file again without them") from None
        except (ParseError, ValueError) as error:
            raise InputError(f"{self.path}: not valid XML ({error}); the file may be truncated; download or export it again") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object of its pairs.

    Raises:
        ValueError: a key has two different values, of which `json` would silently keep the last.
    """
    content = dict(pairs)
    if len(content) < len(pairs):
        for key, value in pairs:
            if content[key] is not value and content[key] != value:
                raise ValueError(f"the key {excerpt(key)} occurs twice with different values")
    return content


def content_of(path: Path) -> bytes:
    """Read the bytes of a file.

    Raises:
        InputError: it is no file that can be read: it vanished, is a folder, or a link that leads nowhere.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a file of an annotation that the system does not open."""
    return InputError(
        f"{path}: cannot be read ({error.strerror or reason(error)}); check that it is a file, still there and allowed to be read"
    )


def _xml_text(path: Path) -> str:
    """The text of an XML file, decoded by the encoding that its first line declares; expat supports only a few encodings."""
    content = content_of(path)
    declared = re.match(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""", content)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    else:
        encoding = declared[1].decode() if declared else "utf-8-sig"
    try:
        text = content.decode("utf-8-sig" if encoding.lower() == "utf-8" else encoding)
    except (LookupError, UnicodeError) as error:
        raise InputError(f"{path}: cannot be decoded as {shortened(encoding)} ({reason(error)}); save it as UTF-8") from None
    return re.sub(r"^\s*<\?xml.*?\?>", "", text, count=1, flags=re.DOTALL)


def read_text(path: Path) -> str:
    """Read a text file as UTF-8, with or without a byte order mark.

    Raises:
        InputError: the file cannot be read, or has another encoding.
    """
    content = content_of(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8 (in Excel: CSV UTF-8)") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")  # any line endings, as in text mode


def is_number(text: str) -> bool:
    """Whether `float` can parse a text."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def numbers(source: Path, image: str, *values: Any) -> list[float]:
    """Convert coordinates, which may be strings, to floats; None becomes NaN.

    Args:
        source: path of the annotation file, for the message.
        image: name of the image, for the message.
        *values: the coordinates.

    Raises:
        InputError: a value is not a number.
    """
    try:
        return [float("nan") if v is None else float(v) for v in values]
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{source}: image '{image}' has a box with the coordinates {excerpt(values)}; expected four numbers") from None


def declared_size(width: Any, height: Any) -> tuple[int, int] | None:
    """Width and height in pixels from the values in a file; None if they are missing or not positive numbers."""
    try:
        size = int(float(width)), int(float(height))
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def malformed(source: Path, expected: str, error: Exception) -> InputError:
    """The error for a file of a known format with a missing key or a value of the wrong type."""
    problem = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
    return InputError(f"{source}: {problem}; expected {expected}")
