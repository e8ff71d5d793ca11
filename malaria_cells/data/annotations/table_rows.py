"""The rows of a table as images: with a box in each row, or with a label of the whole image."""

from collections import defaultdict

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.columns import MISSING, Columns, plain
from malaria_cells.data.annotations.parts import part_named
from malaria_cells.data.annotations.source import RawImage, Source, declared_size, whole_image
from malaria_cells.data.annotations.tables import Row

Boxes = dict[int, list[float] | None]  # by the identity of their row; None where it says that there is no cell


def images_of_rows(source: Source, columns: Columns, rows: list[Row], one_hot: list[int]) -> list[RawImage]:
    """One image a row, which is an example of its label as a whole.

    Raises:
        InputError: a row without an image or a label, or an image with two labels; names the lines.
    """
    found: dict[str, tuple[str, Row]] = {}
    for row in rows:
        name, label = _needed(source, columns, row, "image"), _label(source, columns, row, one_hot)
        if name not in found:
            found[name] = label, row
        elif found[name][0] == label:
            _check_same(source, columns, found[name][1], row)
            source.issues.note("row", "that repeats another, left out", f"{name} (line {row.line})")
        else:
            first, before = found[name]
            raise InputError(
                f"{source.path}: image '{name}' is listed twice with labels '{first}' and '{label}' "
                f"(lines {before.line} and {row.line}), "
                "of which one can be right; remove the other"
            )
    images = [(whole_image(name, label), row) for name, (label, row) in found.items()]
    return [
        RawImage(p.name, p.categories, p.boxes_xyxy, size_wh=_size(columns, row), part=_part(columns, row), whole=True) for p, row in images
    ]


def _check_same(source: Source, columns: Columns, first: Row, second: Row) -> None:
    """See that two rows of one image and label are the same: else each may be of a cell, not of the image.

    Raises:
        InputError: they differ in another column; names the lines.
    """
    differing = [name for i, name in enumerate(columns.names) if name and _field(first, i) != _field(second, i)]
    if differing:
        raise InputError(
            f"{source.path}: lines {first.line} and {second.line} are of one image and label and differ in '{differing[0][:60]}': if "
            "each is of a cell, the four columns of its box are needed; if it is of the whole image, keep one"
        )


def boxes_of_rows(source: Source, columns: Columns, rows: list[Row]) -> list[RawImage]:
    """One box a row; a row with neither label nor box says that its image has no cells.

    Raises:
        InputError: a row that lacks something, or boxes in fractions of 1 without the image's size; names the line.
    """
    by_image: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_image[_needed(source, columns, row, "image")].append(row)
    boxes: Boxes = {id(row): _box(source, columns, row) for row in rows}
    scaled = _are_fractions([box for box in boxes.values() if box])
    if columns.kind == "corner and size" and _looks_centred(columns, rows, boxes):
        raise InputError(
            f"{source.path}: its x and y seem to be the centre of boxes: taken as a corner, boxes lie past the border of images; name "
            "the columns x_center and y_center if they are, or correct the boxes"
        )
    if columns.kind == "corner and size" and plain(columns.names[(columns.box or (0,))[0]]) == "x":
        source.issues.note("table", "whose columns x and y are taken as the left upper corner of boxes", source.path.name)
    images = []
    for name, own in by_image.items():
        sizes, parts = {_size(columns, row) for row in own}, {_part(columns, row) for row in own}
        if len(sizes) > 1 or len(parts) > 1:
            raise InputError(f"{source.path}: image '{name}' has rows with several sizes or parts (line {own[0].line} and below)")
        size, part = sizes.pop(), parts.pop()
        if scaled and size is None:
            raise InputError(
                f"{source.path}: its boxes are fractions of 1 (line {own[0].line} has {excerpt(boxes[id(own[0])])}); write pixels, or add "
                "the columns image_width and image_height"
            )
        boxed = _without_repeated(source, columns, own, boxes)
        corners = np.array([_corners(columns.kind, box) for box, _ in boxed], dtype=np.float64).reshape(-1, 4)
        categories = [label for _, label in boxed]
        images.append(RawImage(name, categories, corners * (size + size if scaled and size else 1), size_wh=size, part=part))
    return images


def _field(row: Row, i: int | None) -> str:
    return row.fields[i].strip() if i is not None and i < len(row.fields) else ""


def _needed(source: Source, columns: Columns, row: Row, what: str) -> str:
    """The field for the image or the label.

    Raises:
        InputError: it is empty, or goes over several lines, as where a quote is missing.
    """
    i = getattr(columns, what)
    text = _field(row, i)
    if what == "label" and text.startswith(("[{", '{"')):
        raise InputError(
            f"{source.path}: line {row.line} has the label {excerpt(text, 60)}, which holds shapes as JSON (Label Studio's CSV?); "
            "export JSON or COCO from the tool"
        )
    if not text or "\n" in text:
        fault = f"lacks {columns.names[i]}" if not text else f"has several lines in its {columns.names[i]} (a quote that is missing?)"
        raise InputError(f"{source.path}: line {row.line} {fault}; found {excerpt(row.fields)}")
    return text


def _label(source: Source, columns: Columns, row: Row, one_hot: list[int]) -> str:
    if not one_hot:
        label = _needed(source, columns, row, "label")
        if label.lower() in MISSING - {"none", "-"}:
            raise InputError(
                f"{source.path}: line {row.line} has the label '{label}', which stands for none; remove the row or write its label"
            )
        return label
    chosen = [columns.names[i] for i in one_hot if _field(row, i).startswith("1")]
    if len(chosen) != 1:
        raise InputError(
            f"{source.path}: line {row.line} has 1 for {', '.join(chosen) or 'none'} of its classes; an image as a whole has one class"
        )
    return chosen[0]


def _size(columns: Columns, row: Row) -> tuple[int, int] | None:
    return declared_size(*(_decimal(row, _field(row, i)) for i in columns.size)) if columns.size else None


def _part(columns: Columns, row: Row) -> str | None:
    return part_named(_field(row, columns.part))


def _decimal(row: Row, text: str) -> str:
    """A number with a decimal point; between semicolons or tabs a comma is one."""
    return text.replace(",", ".") if row.separator != "," and text.count(",") == 1 and "." not in text else text


def _box(source: Source, columns: Columns, row: Row) -> list[float] | None:
    """Four numbers, or None where the row says that there is no cell."""
    texts = [_field(row, i) for i in columns.box or ()]
    label = _field(row, columns.label)
    missing = [text.lower() in MISSING for text in texts]
    if all(missing):
        if label.lower() in MISSING:
            return None
        raise InputError(
            f"{source.path}: line {row.line} has the label '{label[:60]}' and no box; leave the label empty where an image has no cells, "
            "or write the box"
        )
    if _needed(source, columns, row, "label").lower() in MISSING:
        raise InputError(f"{source.path}: line {row.line} has a box with the label '{label}', which stands for none; write its label")
    try:
        return [float(_decimal(row, text)) for text in texts]
    except ValueError:
        named = ", ".join(columns.names[i] for i in columns.box or ())
        raise InputError(f"{source.path}: line {row.line} has {excerpt(texts)} as {named}; expected four numbers") from None


def _corners(kind: str, box: list[float]) -> list[float]:
    x, y, right, bottom = box
    if kind == "corners":
        return box
    left, top = (x, y) if kind == "corner and size" else (x - right / 2, y - bottom / 2)
    return [left, top, left + right, top + bottom]


def _are_fractions(boxes: list[list[float]]) -> bool:
    """Whether coordinates are fractions of the image: none is over 1, and some are not whole."""
    values = np.array(boxes, dtype=np.float64)
    return bool(values.size and (values <= 1.001).all() and (values >= -0.001).all() and (values % 1 != 0).any())


def _looks_centred(columns: Columns, rows: list[Row], boxes: Boxes) -> bool:
    """Whether boxes reach past the declared border if x and y are a corner, and none does if they are the centre."""
    known = [(box, size) for row in rows if (box := boxes[id(row)]) and (size := _size(columns, row))]
    if not known:
        return False
    values = [box for box, _ in known]
    xywh = np.array(values, dtype=np.float64)
    limits = np.ones((1, 2)) if _are_fractions(values) else np.array([size for _, size in known], dtype=np.float64)
    margin = 0.01 * limits
    past = xywh[:, :2] + xywh[:, 2:] > limits + margin
    low, high = xywh[:, :2] - xywh[:, 2:] / 2, xywh[:, :2] + xywh[:, 2:] / 2
    return bool(past.any() and (low >= -margin).all() and (high <= limits + margin).all())


def _without_repeated(source: Source, columns: Columns, rows: list[Row], boxes: Boxes) -> list[tuple[list[float], str]]:
    """Boxes with their labels; a row that repeats another is left out with a note."""
    found: dict[tuple, tuple[list[float], str]] = {}
    for row in rows:
        box, label = boxes[id(row)], _field(row, columns.label)
        if box is None:
            continue
        if (label, *box) in found:
            source.issues.note("row", "that repeats another, left out", f"{_field(row, columns.image)} (line {row.line})")
        found.setdefault((label, *box), (box, label))
    return list(found.values())
