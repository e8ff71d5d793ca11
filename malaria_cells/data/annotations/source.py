"""What a reader is given, and what it returns before anything is checked."""

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

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.cleaning import AnnotationIssues
from malaria_cells.data.images import is_image, walk_files


@dataclass(frozen=True)
class RawImage:
    """One image as its annotation file has it: nothing clipped, dropped or mapped yet.

    Attributes:
        name: the image's path as written.
        categories: one name a box.
        boxes_xyxy: float64 (n, 4), may hold NaN, swapped corners, or lie outside.
        ignore: bool (n,), regions that the format itself marks as not to be scored (COCO's crowds).
        size_wh: width and height as declared, if the format declares them.
        part: ``train``, ``validation`` or ``test``, if the format says so.
        whole: the only category is of the image as a whole; the box is without meaning.
        relative: boxes are in fractions of the image's width and height, not in pixels.
        other_names: paths that the image may have instead, tried in order where `name` leads to none.
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
    """An image that is an example of a category as a whole."""
    return RawImage(name, [category], np.zeros((1, 4)), whole=True)


@dataclass(frozen=True)
class Source:
    """An annotation file or folder, parsed at most once, and what was odd about it.

    Attributes:
        path: the file or folder.
        issues: takes a note of everything that is mended or left out.
        part: ``train``, ``validation`` or ``test``, where the place of the file says so; what the content says counts more.
    """

    path: Path
    issues: AnnotationIssues = field(default_factory=AnnotationIssues)
    part: str | None = None

    @cached_property
    def files(self) -> list[Path]:
        """All files of the folder, sorted."""
        return walk_files(self.path)

    @cached_property
    def images(self) -> list[Path]:
        """The images among `files`."""
        return [path for path in self.files if is_image(path)]

    @cached_property
    def image_folders(self) -> dict[Path, list[Path]]:
        """For each folder the folders in it that have images, in them or below, sorted."""
        tree: dict[Path, set[Path]] = defaultdict(set)
        for folder in self.own_image_folders:
            while folder != self.path:
                tree[folder.parent].add(folder)
                folder = folder.parent
        return {parent: sorted(children) for parent, children in tree.items()}

    @cached_property
    def own_image_folders(self) -> frozenset[Path]:
        """The folders that images lie in directly."""
        return frozenset(path.parent for path in self.images)

    @cached_property
    def json(self) -> Any:
        """The parsed content, or None where the path is not a JSON file.

        Raises:
            InputError: a file that ends like JSON and is none.
        """
        if self.path.suffix.lower() not in {".json", ".geojson"}:
            return None
        try:
            return json.loads(self.path.read_bytes(), object_pairs_hook=_without_doubled_keys)
        except RecursionError:
            raise InputError(f"{self.path}: its lists are nested too deeply for an annotation; export it again") from None
        except ValueError as error:
            raise InputError(f"{self.path}: not valid JSON ({error}); the file may be cut off, fetch or export it again") from error

    @cached_property
    def xml(self) -> Element | None:
        """The root of the content, or None where the path is not an XML file. Entities are never expanded.

        Raises:
            InputError: a file that ends in .xml and is none, or that declares entities of its own.
        """
        if self.path.suffix.lower() != ".xml":
            return None
        try:
            return SafeXml.fromstring(_xml_text(self.path))
        except DefusedXmlException:
            raise InputError(f"{self.path}: declares XML entities, which no annotation tool writes and are not expanded") from None
        except (ParseError, ValueError) as error:
            raise InputError(f"{self.path}: not valid XML ({error}); the file may be cut off, fetch or export it again") from error


def _without_doubled_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        for key, value in pairs:  # of a key that is there twice the last value counts, and the others would be lost
            if content[key] is not value and content[key] != value:
                raise ValueError(f"the key {excerpt(key)} is there twice with different values")
    return content


def _xml_text(path: Path) -> str:
    """The text of an XML file in the encoding that its first line declares; expat itself knows only a few."""
    content = path.read_bytes()
    declared = re.match(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""", content)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    else:
        encoding = declared[1].decode() if declared else "utf-8-sig"
    try:
        text = content.decode("utf-8-sig" if encoding.lower() == "utf-8" else encoding)
    except (LookupError, UnicodeError) as error:
        raise InputError(f"{path}: its text is not in the encoding {encoding} ({error}); save it as UTF-8") from None
    return re.sub(r"^\s*<\?xml.*?\?>", "", text, count=1, flags=re.DOTALL)


def read_text(path: Path) -> str:
    """Read a text file as UTF-8, with or without a byte order mark.

    Raises:
        InputError: another encoding; names the file.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8 (in Excel: CSV UTF-8)") from None


def is_number(text: str) -> bool:
    """Whether a text is a number as `float` reads it."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def numbers(source: Path, image: str, *values: Any) -> list[float]:
    """Read coordinates that may be written as strings; None becomes NaN.

    Raises:
        InputError: a value that is no number; names the file and the image.
    """
    try:
        return [float("nan") if v is None else float(v) for v in values]
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{source}: image '{image}' has a box with the coordinates {excerpt(values)}; expected four numbers") from None


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
