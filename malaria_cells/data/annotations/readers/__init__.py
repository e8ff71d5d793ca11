"""Readers of annotations, one file a format.

In: an annotation file, or a folder. Out: boxes and labels as the format has them, `RawImage`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from malaria_cells.base.registry import Registry
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.source import RawImage, Source

Read = Callable[[Source], list[RawImage]]


@dataclass(frozen=True)
class Reader:
    """What reads one format. All functions are given one file, or the folder where `Format.suffixes` is empty.

    Attributes:
        format: what it reads.
        recognises: whether a source holds that format, by positive evidence; it never raises on a source of another format.
        read: reads a source; raises `InputError` where it is damaged.
        describe: of a format that is a whole folder: what the folder holds, in words.
        why_not: of such a format: why a folder that resembles it was not recognised; an empty text where it does not.
    """

    format: Format
    recognises: Callable[[Source], bool]
    read: Read
    describe: Callable[[Source], str] | None = None
    why_not: Callable[[Source], str] | None = None


READERS: Registry[Reader] = Registry("annotation_format", __name__, also=("auto",))


def reader(
    format_: Format,
    recognises: Callable[[Source], bool],
    *,
    rank: int = 5,
    describe: Callable[[Source], str] | None = None,
    why_not: Callable[[Source], str] | None = None,
) -> Callable[[Read], Read]:
    """Return a decorator that adds a function as the reader of a format; see `Reader`.

    Args:
        format_: the format, whose name is that of the config key `annotation_format`.
        recognises: see `Reader`.
        rank: readers of a lower rank are asked first: the most particular ones, since a table may be many things.
        describe: see `Reader`.
        why_not: see `Reader`.
    """

    def decorate(read: Read) -> Read:
        READERS.add(format_.name, rank=rank)(Reader(format_, recognises, read, describe, why_not))
        return read

    return decorate


def all_readers() -> tuple[Reader, ...]:
    """Return every reader, in the order in which they are asked."""
    return tuple(READERS[name] for name in READERS)


def table() -> str:
    """Return all formats as a table in Markdown, which `docs/formats.md` has."""
    head = ["| format | `annotation_format` | recognised by | written by | not read |", "|---|---|---|---|---|"]
    formats = [each.format for each in all_readers()]
    rows = [f"| {f.title} | `{f.name}` | {f.recognised_by} | {f.exported_by} | {f.not_read} |" for f in formats]
    return "\n".join([*head, *rows]) + "\n"
