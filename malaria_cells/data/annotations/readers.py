"""All readers of annotations, a module a format; the list decides which formats there are and which one is asked first."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from malaria_cells.base.errors import InputError, nearest
from malaria_cells.data.annotations import (
    bbbc041,
    class_folders,
    coco_json,
    createml,
    csv_table,
    cvat_xml,
    iml,
    label_studio,
    labelme,
    qupath,
    via,
    voc,
    vott,
    yolo,
)
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.source import RawImage, Source


class Reader(Protocol):
    """A module that reads one format; see `Format`."""

    FORMAT: Format
    recognises: Callable[[Source], bool]
    read: Callable[[Source], list[RawImage]]


@runtime_checkable
class FolderReader(Reader, Protocol):
    """A reader of a format that is a whole folder."""

    describe: Callable[[Source], str]  # what was found in it, for people
    why_not: Callable[[Source], str]  # why a folder that looks a little like it was not recognised; else nothing


# The most particular first; a table may be many things, and folders of classes are the least evidence.
FORMATS: tuple[Reader, ...] = (  # type: ignore[assignment]
    bbbc041,
    iml,
    coco_json,
    label_studio,
    labelme,
    via,
    vott,
    createml,
    qupath,
    cvat_xml,
    voc,
    csv_table,
    yolo,
    class_folders,
)
FORMAT_NAMES = tuple(reader.FORMAT.name for reader in FORMATS)


def reader_named(name: str) -> Reader:
    """The reader of a format by the format's name.

    Raises:
        InputError: no such format.
    """
    for reader in FORMATS:
        if name == reader.FORMAT.name:
            return reader
    raise InputError(f"annotation_format: '{name}' is unknown{nearest(name, FORMAT_NAMES)}; expected auto, {', '.join(FORMAT_NAMES)}")


def table() -> str:
    """All formats as a table in Markdown, which `docs/formats.md` has."""
    head = ["| format | `annotation_format` | recognised by | written by | not read |", "|---|---|---|---|---|"]
    formats = [reader.FORMAT for reader in FORMATS]
    rows = [f"| {f.title} | `{f.name}` | {f.recognised_by} | {f.exported_by} | {f.not_read} |" for f in formats]
    return "\n".join([*head, *rows]) + "\n"
