"""Reads tables as spreadsheets save them: any common separator, UTF-8 or UTF-16, blank lines; errors name the line."""

import codecs
import csv
import io
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations.source import content_of, read_text

SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        line: number of the line in which the row ends, counted from 1.
        fields: texts of the fields as written.
        separator: separator of the table.
    """

    line: int
    fields: list[str]
    separator: str


def read_table(path: Path, max_rows: int | None = None) -> list[Row]:
    """Read all rows that are not blank, including the header.

    The separator is the one that splits the first line with text into the most fields, unless the file declares one.

    Args:
        path: the file.
        max_rows: number of rows to read; None: all.

    Raises:
        InputError: the encoding is neither UTF-8 nor UTF-16, a quote is not closed, or a field is too long.
    """
    text, skipped_lines = _text(path), 0
    first, _, rest = text.partition("\n")
    line = next((line for line in text.splitlines() if line.strip()), "")
    if re.fullmatch(r"sep=.", first.strip(), re.IGNORECASE):  # Excel's declaration of the separator
        text, skipped_lines, separator = rest, 1, first.strip()[-1]
    else:
        separator = max(SEPARATORS, key=lambda s: _n_fields(line, s))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    rows = (Row(reader.line_num + skipped_lines, fields, separator) for fields in reader)
    try:
        return list(islice((row for row in rows if any(field.strip() for field in row.fields)), max_rows))
    except csv.Error as error:
        line_number = reader.line_num + skipped_lines
        raise InputError(f"{path}: line {line_number} is not a row of a table ({error}); look for a missing or extra quote") from None


def _n_fields(line: str, separator: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=separator)))
    except csv.Error:  # the field is longer than csv.field_size_limit
        return 0


def _text(path: Path) -> str:
    content = content_of(path)
    if not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = read_text(path)
    else:
        try:
            text = content.decode("utf-16")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: byte {error.start} is not UTF-16; save the file as UTF-8 (in Excel: CSV UTF-8)") from None
    if "\0" in text:
        raise InputError(f"{path}: contains zero bytes, so it is not a table in UTF-8; save it as UTF-8 (in Excel: CSV UTF-8)")
    return text
