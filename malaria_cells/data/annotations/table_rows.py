"""Converts the rows of a table to images: one box per row, or one label of a whole image per row."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.columns import MISSING, Columns, plain
from malaria_cells.data.annotations.parts import part_named
from malaria_cells.data.annotations.source import RawImage, Source, declared_size, whole_image
from malaria_cells.data.annotations.tables import Row

Boxes = dict[int, list[float] | None]  # the box of each row, by the row's `id`; None if the row says that the image has no cells


def images_of_rows(source: Source, columns: Columns, rows: list[Row], one_hot: list[int]) -> list[RawImage]:
    """Images with one label as a whole, from a table with one image per row.

    Raises:
        InputError: a row lacks the image or the label, or an image has two labels; the message names the lines.
    """
    label_of: dict[str, tuple[str, Row]] = {}
    for row in rows:
        name, label = _required(source, columns, row, "image"), _label(source, columns, row, one_hot)
        if name not in label_of:
            label_of[name] = label, row
        elif label_of[name][0] == label:
            _check_same(source, columns, label_of[name][1], row)
            source.issues.note("row", "that repeats another, left out", f"{name} (line {row.line})")
        else:
            first_label, first_row = label_of[name]
            raise InputError(
                f"{source.path}: image '{name}' is listed twice with labels '{first_label}' and '{label}' "
                f"(lines {first_row.line} and {row.line}); remove the row with the wrong label"
            )
    return [
        replace(whole_image(name, label), size_wh=_size(columns, row), part=_part(columns, row)) for name, (label, row) in label_of.items()
    ]


def _check_same(source: Source, columns: Columns, first: Row, second: Row) -> None:
    """Check that two rows of the same image and label are identical; otherwise each may be about one cell, not about the image.

    Raises:
        InputError: the rows differ in another column; the message names the lines.
    """
    differing = [name for i, name in enumerate(columns.names) if name and _field(first, i) != _field(second, i)]
    if differing:
        raise InputError(
            f"{source.path}: lines {first.line} and {second.line} have the same image and label, but differ in '{differing[0][:60]}'; if "
            "each row is a cell, add the four columns of its box; if it is a whole image, keep one row"
        )


def boxes_of_rows(source: Source, columns: Columns, rows: list[Row]) -> list[RawImage]:
    """Images with boxes, from a table with one box per row; a row with neither label nor box says that its image has no cells.

    Raises:
        InputError: a row is incomplete, or boxes are in fractions of 1 and the image's size is missing; the message names the line.
    """
    by_image: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_image[_required(source, columns, row, "image")].append(row)
    boxes: Boxes = {id(row): _box(source, columns, row) for row in rows}
    scaled = _are_fractions([box for box in boxes.values() if box])
    if columns.kind == "corner and size" and _looks_centred(columns, rows, boxes):
        raise InputError(
            f"{source.path}: x and y seem to be the centres of boxes, since as corners they give boxes that exceed the images; rename the "
            "columns to x_center and y_center if they are centres, or correct the boxes"
        )
    if columns.kind == "corner and size" and plain(columns.names[(columns.box or (0,))[0]]) == "x":
        source.issues.note("table", "whose columns x and y are read as the upper left corners of boxes", source.path.name)
    images = []
    for name, image_rows in by_image.items():
        sizes, parts = {_size(columns, row) for row in image_rows}, {_part(columns, row) for row in image_rows}
        if len(sizes) > 1 or len(parts) > 1:
            raise InputError(f"{source.path}: image '{name}' has rows with different sizes or parts (line {image_rows[0].line} and below)")
        size, part = sizes.pop(), parts.pop()
        if scaled and size is None:
            raise InputError(
                f"{source.path}: its boxes are fractions of 1 (line {image_rows[0].line} has {excerpt(boxes[id(image_rows[0])])}); write "
                "pixels, or add the columns image_width and image_height"
            )
        labelled_boxes = _unique_boxes(source, columns, image_rows, boxes)
        corners = np.array([_corners(columns.kind, box) for box, _ in labelled_boxes], dtype=np.float64).reshape(-1, 4)
        categories = [label for _, label in labelled_boxes]
        images.append(RawImage(name, categories, corners * (size + size if scaled and size else 1), size_wh=size, part=part))
    return images


def _field(row: Row, i: int | None) -> str:
    return row.fields[i].strip() if i is not None and i < len(row.fields) else ""


def _required(source: Source, columns: Columns, row: Row, what: str) -> str:
    """The text in the column ``image`` or ``label``.

    Raises:
        InputError: the text is empty, contains shapes as JSON, or has several lines, which happens if a quote is missing.
    """
    i = getattr(columns, what)
    text = _field(row, i)
    if what == "label" and text.startswith(("[{", '{"')):
        raise InputError(
            f"{source.path}: line {row.line} has the label {excerpt(text, 60)}, which is shapes as JSON (from Label Studio's CSV?); "
            "export JSON or COCO from the tool"
        )
    if not text or "\n" in text:
        fault = f"lacks {columns.names[i]}" if not text else f"has several lines in its {columns.names[i]} (is a quote missing?)"
        raise InputError(f"{source.path}: line {row.line} {fault}; found {excerpt(row.fields)}")
    return text


def _label(source: Source, columns: Columns, row: Row, one_hot: list[int]) -> str:
    if not one_hot:
        label = _required(source, columns, row, "label")
        if label.lower() in MISSING - {"none", "-"}:
            raise InputError(
                f"{source.path}: line {row.line} has the label '{label}', which means no label; remove the row or write its label"
            )
        return label
    classes = [columns.names[i] for i in one_hot if _field(row, i).startswith("1")]
    if len(classes) != 1:
        raise InputError(
            f"{source.path}: line {row.line} has 1 for {', '.join(classes) or 'none'} of its classes; expected 1 for exactly one class"
        )
    return classes[0]


def _size(columns: Columns, row: Row) -> tuple[int, int] | None:
    return declared_size(*(_decimal(row, _field(row, i)) for i in columns.size)) if columns.size else None


def _part(columns: Columns, row: Row) -> str | None:
    return part_named(_field(row, columns.part))


def _decimal(row: Row, text: str) -> str:
    """A number with a decimal point, which may be written as a comma if the separator is not one."""
    return text.replace(",", ".") if row.separator != "," and text.count(",") == 1 and "." not in text else text


def _box(source: Source, columns: Columns, row: Row) -> list[float] | None:
    """The four numbers of a row's box; None if the row says that the image has no cells."""
    texts = [_field(row, i) for i in columns.box or ()]
    label = _field(row, columns.label)
    missing = [text.lower() in MISSING for text in texts]
    if all(missing):
        if label.lower() in MISSING:
            return None
        raise InputError(
            f"{source.path}: line {row.line} has the label '{label[:60]}' and no box; write the box, or leave the label empty if "
            "the image has no cells"
        )
    if _required(source, columns, row, "label").lower() in MISSING:
        raise InputError(f"{source.path}: line {row.line} has a box with the label '{label}', which means no label; write its label")
    try:
        return [float(_decimal(row, text)) for text in texts]
    except ValueError:
        names = ", ".join(columns.names[i] for i in columns.box or ())
        raise InputError(f"{source.path}: line {row.line} has {excerpt(texts)} as {names}; expected four numbers") from None


def _corners(kind: str, box: list[float]) -> list[float]:
    """Convert a box of the given kind (see `Columns`) to left, top, right and bottom."""
    if kind == "corners":
        return box
    x, y, width, height = box
    left, top = (x, y) if kind == "corner and size" else (x - width / 2, y - height / 2)
    return [left, top, left + width, top + height]


def _are_fractions(boxes: list[list[float]]) -> bool:
    """Whether coordinates are fractions of the image's size: all are from 0 to 1, and some are not integers."""
    values = np.array(boxes, dtype=np.float64)
    return bool(values.size and (values <= 1.001).all() and (values >= -0.001).all() and (values % 1 != 0).any())


def _looks_centred(columns: Columns, rows: list[Row], boxes: Boxes) -> bool:
    """Whether some boxes exceed the declared image size if x and y are read as a corner, and none does if they are read as a centre."""
    sized = [(box, size) for row in rows if (box := boxes[id(row)]) and (size := _size(columns, row))]
    if not sized:
        return False
    values = [box for box, _ in sized]
    xywh = np.array(values, dtype=np.float64)
    limits = np.ones((1, 2)) if _are_fractions(values) else np.array([size for _, size in sized], dtype=np.float64)
    margin = 0.01 * limits
    outside = xywh[:, :2] + xywh[:, 2:] > limits + margin
    low, high = xywh[:, :2] - xywh[:, 2:] / 2, xywh[:, :2] + xywh[:, 2:] / 2
    return bool(outside.any() and (low >= -margin).all() and (high <= limits + margin).all())


def _unique_boxes(source: Source, columns: Columns, rows: list[Row], boxes: Boxes) -> list[tuple[list[float], str]]:
    """The boxes of an image with their labels; rows that repeat another row are left out and added to the issues."""
    unique: dict[tuple[Any, ...], tuple[list[float], str]] = {}
    for row in rows:
        box, label = boxes[id(row)], _field(row, columns.label)
        if box is None:
            continue
        if (label, *box) in unique:
            source.issues.note("row", "that repeats another, left out", f"{_field(row, columns.image)} (line {row.line})")
        unique.setdefault((label, *box), (box, label))
    return list(unique.values())
