"""What a reader says of the format that it reads; `docs/formats.md` has its table from here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """One format of annotation, as tables and messages describe it; `readers.reader` adds what reads it.

    Attributes:
        name: as in the config's `annotation_format`.
        title: as people call it.
        recognised_by: the evidence that is asked for, as a table cell.
        exported_by: tools and data sets that write it, as a table cell.
        not_read: parts of it that are not read, as a table cell.
        suffixes: endings of files that may hold it, in lower case; empty: the format is a whole folder.
        per_image: one file holds one image, so that a folder of such files is one data set.
    """

    name: str
    title: str
    recognised_by: str
    exported_by: str
    not_read: str
    suffixes: tuple[str, ...] = ()
    per_image: bool = False
