"""CSV and TSV tables: one labelled image per row (Kaggle's ``train.csv``), or one box per row."""

from pathlib import Path, PureWindowsPath

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.columns import CENTRE_AND_SIZE, CORNER_AND_SIZE, CORNERS, Columns, columns_of
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.parts import part_named
from malaria_cells.data.annotations.readers import reader
from malaria_cells.data.annotations.source import RawImage, Source, is_number
from malaria_cells.data.annotations.table_rows import boxes_of_rows, images_of_rows
from malaria_cells.data.annotations.tables import Row, read_table
from malaria_cells.data.images import is_image

FORMAT = Format(
    name="csv",
    title="table",
    recognised_by="a table (comma, semicolon or tab) with a column for the image and one for the label, or one of 0 and 1 for each "
    "class, with or without the columns of a box (`xmin` .. `ymax` and the like)",
    exported_by="Kaggle, Excel, TensorFlow, Roboflow, VoTT, makesense, keras-retinanet",
    not_read="other columns; boxes in fractions of 1 are refused where the table has no width and height",
    suffixes=(".csv", ".tsv"),
)
_EXPECTED = (
    "one for the image (image_id, image, filename, file_name, file, path, id, id_code and the like) and one for the label (label, class, "
    "category, target, diagnosis)"
)
# Column names of tables that tools write without a header: keras-retinanet, makesense.
_WITHOUT_HEADER = (
    ["path", "x1", "y1", "x2", "y2", "class"],
    ["label_name", "bbox_x", "bbox_y", "bbox_width", "bbox_height", "image_name", "image_width", "image_height"],
)


def recognises(source: Source) -> bool:
    """Whether the file is a table with a column for the image and one for the label, or one of 0 and 1 per class.

    Raises:
        InputError: the table cannot be parsed: another encoding, a quote that is not closed.
    """
    if source.path.suffix.lower() not in FORMAT.suffixes or not source.path.is_file():
        return False
    columns, _ = _table(source.path, max_rows=2)
    if columns.image is None or columns.incomplete:
        return False
    if columns.label is not None:
        return True
    return bool(_one_hot(*_table(source.path)))


@reader(FORMAT, recognises, rank=120)
def read(source: Source) -> list[RawImage]:
    """Read every row.

    Raises:
        InputError: the header has no column for the image or the label, or some columns of a box but not all; or a row is incomplete
            (the message names the line).
    """
    columns, rows = _table(source.path)
    one_hot = _one_hot(columns, rows) if columns.image is not None and columns.label is None else []
    if columns.duplicates:
        raise InputError(f"{source.path}: has the column '{columns.duplicates[0][:60]}' twice; rename the one that is not to be read")
    if columns.incomplete:
        raise InputError(f"{source.path}: {'; '.join(_incomplete(columns))}")
    if columns.image is None or (columns.label is None and not one_hot):
        raise InputError(f"{source.path}: {'; '.join(_why_not(columns) or ())}")
    if columns.part is not None and not all(part_named(text) for row in rows if (text := _field(row, columns.part))):
        columns = Columns(**{**vars(columns), "part": None})  # the column names something other than train, validation and test
    not_read = [columns.names[i] for i in columns.unknown if i not in one_hot]
    if not_read:
        source.issues.note("column", "not read", _join_names(not_read[:5]), len(not_read))
    _check_lengths(source.path, columns, rows)
    return boxes_of_rows(source, columns, rows) if columns.box else images_of_rows(source, columns, rows, one_hot)


def why_not(source: Source) -> tuple[str, str] | None:
    """What is wrong with a table's columns, and what to do; None if nothing is wrong or the file is not a table.

    Raises:
        InputError: the table cannot be parsed.
    """
    if source.path.suffix.lower() not in {*FORMAT.suffixes, ".txt"}:
        return None
    columns, _ = _table(source.path)
    return _why_not(columns)


def _why_not(columns: Columns) -> tuple[str, str] | None:
    if {"BX", "BY", "Width", "Height"} <= set(columns.names):
        return (
            "holds measurements of ImageJ, whose labels combine the names of the image and the region",
            "write them as a table with the columns filename, label, x, y, width, height",
        )
    if columns.names and columns.names[0].startswith("# Exported using VGG Image Annotator"):
        return "was written by VIA 3", "annotate in VIA 2, whose CSV and JSON are read, or export COCO"
    if columns.incomplete:
        return _incomplete(columns)
    if columns.image is not None and columns.label is not None:
        return None
    problem = f"found the columns {_join_names(columns.names) or '(none)'}"
    if any(_may_be_image(name) for name in columns.names):
        return problem, "its first line seems to be a row; write the names of the columns above it, such as filename,label"
    return problem, f"expected {_EXPECTED}"


def _join_names(names: list[str]) -> str:
    """The names of columns for a message, cut to a reasonable length."""
    joined = ", ".join(name[:40] for name in names[:20])
    return joined + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _table(path: Path, max_rows: int | None = None) -> tuple[Columns, list[Row]]:
    """The columns of a table, and its rows without the header."""
    rows = read_table(path, max_rows)
    if not rows:
        return Columns([]), []
    for header in _WITHOUT_HEADER:
        columns = columns_of(header, [], [])
        if _fits(rows[0].fields, columns):
            return columns, rows
    second = rows[1].fields if len(rows) > 1 else []
    return columns_of(rows[0].fields, second, map(_may_be_image, second)), rows[1:]


def _fits(fields: list[str], columns: Columns) -> bool:
    """Whether a table's first line is not a header but a row of these columns: an image, with a box or with empty fields."""
    if len(fields) != len(columns.names) or columns.image is None or columns.box is None or not _may_be_image(fields[columns.image]):
        return False
    return all(is_number(fields[i]) for i in columns.box) or not any(f.strip() for i, f in enumerate(fields) if i != columns.image)


def _may_be_image(text: str) -> bool:
    return len(text) < 1024 and is_image(Path(PureWindowsPath(text.strip()).name))


def _field(row: Row, i: int) -> str:
    return row.fields[i].strip() if i < len(row.fields) else ""


def _one_hot(columns: Columns, rows: list[Row]) -> list[int]:
    """Indices of one-hot encoded classes: all unknown columns, if they are two or more and hold only 0 and 1; else empty."""
    if columns.box or columns.incomplete or columns.label is not None or not rows:
        return []
    classes = columns.unknown
    values = {_field(row, i) for row in rows for i in classes}
    return classes if len(classes) >= 2 and values <= {"0", "1", "0.0", "1.0", "0,0", "1,0"} else []


def _incomplete(columns: Columns) -> tuple[str, str]:
    expected = " or ".join("/".join(scheme) for scheme in (CORNERS[0], CORNER_AND_SIZE[-2], CENTRE_AND_SIZE[0]))
    return (
        f"found the columns {_join_names(columns.names)}, of which {', '.join(columns.incomplete)} seem to belong to boxes",
        f"expected all four columns of a box ({expected}), or none of them",
    )


def _check_lengths(path: Path, columns: Columns, rows: list[Row]) -> None:
    for row in rows:
        if any(field.strip() for field in row.fields[len(columns.names) :]):
            raise InputError(
                f"{path}: line {row.line} has {len(row.fields)} fields, but the table has {len(columns.names)} columns; found "
                f"{excerpt(row.fields)}; put a field in quotes if it contains the separator '{row.separator}'"
            )
