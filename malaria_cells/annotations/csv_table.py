"""A table of pictures and labels beside their folder (cassava's ``train.csv``); with corners in pixels, a table of boxes."""

import csv
import io
from collections import defaultdict

import numpy as np

from malaria_cells.annotations.form import Form
from malaria_cells.annotations.source import RawPicture, Source, numbers, read_text, whole_picture
from malaria_cells.errors import InputError

FORM = Form(
    name="csv",
    title="table",
    recognised_by="a table with a column for the picture and one for the label, with or without corners",
    exported_by="Kaggle, Excel, TensorFlow, Roboflow, VoTT",
    not_read="other columns",
    suffixes=(".csv",),
)
_PICTURE = ("image_id", "image", "filename", "file_name", "file", "path", "id", "id_code")
_LABEL = ("label", "class", "category", "target", "diagnosis")
_CORNERS = ("x_min", "y_min", "x_max", "y_max")


def recognises(source: Source) -> bool:
    """Whether it is a file that ends in .csv."""
    return source.path.suffix.lower() == ".csv" and source.path.is_file()


def read(source: Source) -> list[RawPicture]:
    """Read every row.

    Raises:
        InputError: columns for picture and label are not among those of the header, or a row lacks one.
    """
    table = csv.DictReader(io.StringIO(read_text(source.path), newline=""))
    header = [name.strip() for name in table.fieldnames or []]
    table.fieldnames = header
    picture = next((c for c in _PICTURE if c in header), None)
    label = next((c for c in _LABEL if c in header), None)
    if picture is None or label is None:
        raise InputError(
            f"{source.path}: found the columns {', '.join(header) or '(none)'}; expected one for the picture ({', '.join(_PICTURE)}) "
            f"and one for the label ({', '.join(_LABEL)})"
        )
    rows = list(table)
    for number, row in enumerate(rows, start=2):
        if not row[picture] or not row[label]:
            raise InputError(f"{source.path}: line {number} lacks {picture if not row[picture] else label}; found {row}")
    if not set(_CORNERS) <= set(header):
        return [whole_picture(row[picture].strip(), row[label].strip()) for row in rows]
    by_picture = defaultdict(list)
    for row in rows:
        by_picture[row[picture].strip()].append(row)
    return [
        RawPicture(
            name=name,
            categories=[row[label].strip() for row in own],
            boxes_xyxy=np.array([numbers(source.path, name, *(row[c] for c in _CORNERS)) for row in own], dtype=np.float64),
        )
        for name, own in by_picture.items()
    ]
