"""Reads a table as spreadsheets save it: any usual separator, UTF-8 or UTF-16, blank lines; says in which line something is wrong."""

import codecs
import csv
import io
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations.source import read_text

SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        line: of the file, counted from 1, in which it ends.
        fields: as written.
        separator: of the table.
    """

    line: int
    fields: list[str]
    separator: str


def read_table(path: Path, most: int | None = None) -> list[Row]:
    """Read all rows that hold something; the first line with text decides on the separator: it is the one that cuts it into most fields.

    Args:
        path: the file.
        most: rows to read; None: all.

    Raises:
        InputError: an encoding that is not UTF-8 or UTF-16, a quote that is not closed, a field that never ends.
    """
    text, before = _text(path), 0
    first, _, rest = text.partition("\n")
    line = next((line for line in text.splitlines() if line.strip()), "")
    if re.fullmatch(r"sep=.", first.strip(), re.IGNORECASE):  # Excel's own way of naming the separator
        text, before, separator = rest, 1, first.strip()[-1]
    else:
        separator = max(SEPARATORS, key=lambda s: _n_fields(line, s))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    rows = (Row(reader.line_num + before, fields, separator) for fields in reader)
    try:
        return list(islice((row for row in rows if any(field.strip() for field in row.fields)), most))
    except csv.Error as error:
        line_number = reader.line_num + before
        raise InputError(
            f"{path}: line {line_number} is no row of a table ({error}); look for a quote that is missing or too many"
        ) from None


def _n_fields(line: str, separator: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=separator)))
    except csv.Error:  # a field of endless length
        return 0


def _text(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if not start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = read_text(path)
    else:
        try:
            text = path.read_bytes().decode("utf-16")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: byte {error.start} is not UTF-16; save the file as UTF-8 (in Excel: CSV UTF-8)") from None
    if "\0" in text:
        raise InputError(f"{path}: holds zero bytes, so that it is no table or not UTF-8; save it as UTF-8 (in Excel: CSV UTF-8)")
    return text
