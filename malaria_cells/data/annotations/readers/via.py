"""VGG Image Annotator 2 (Dutta & Zisserman 2019, arXiv:1904.10699): projects, and annotations as JSON or CSV."""

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt, shortened
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.outlines import Box, points_bounds, rotated_bounds
from malaria_cells.data.annotations.readers import reader
from malaria_cells.data.annotations.shapes import Shapes, expect, faults_named
from malaria_cells.data.annotations.source import RawImage, Source, numbers
from malaria_cells.data.annotations.tables import read_table

FORMAT = Format(
    name="via",
    title="VIA",
    recognised_by="a JSON file whose entries have `filename` and `regions` (below `_via_img_metadata` in a project), or a CSV file with "
    "`region_shape_attributes`",
    exported_by="VGG Image Annotator 1 and 2 (project, annotations as JSON or CSV)",
    not_read="points, lines, attributes of files and all but one of regions; outlines, circles and ellipses serve as their bounding boxes",
    suffixes=(".json", ".csv"),
)
_EXPECTED = (
    '{"..": {"filename": .., "regions": [{"shape_attributes": {"name": "rect", "x": .., "y": .., "width": .., "height": ..}, '
    '"region_attributes": {"label": ..}}]}}'
)
_COLUMNS = ("filename", "region_shape_attributes", "region_attributes")
_CLASS_ATTRIBUTES = ("label", "class", "type", "category", "name", "cell")

# An image's name, and the `shape_attributes` and `region_attributes` of its regions.
Entry = tuple[str, list[tuple[dict[str, Any], dict[str, Any]]]]


def recognises(source: Source) -> bool:
    """Whether the file has entries with `filename` and `regions`, or is a table with VIA's columns."""
    if source.path.suffix.lower() == ".csv":
        rows = read_table(source.path, max_rows=1)
        return bool(rows) and set(_COLUMNS) <= set(_header(rows[0].fields))
    entries = list(_metadata(source.json).values())
    return bool(entries) and isinstance(entries[0], dict) and {"filename", "regions"} <= entries[0].keys()


@reader(FORMAT, recognises, rank=60)
def read(source: Source) -> list[RawImage]:
    """Read every image; the attribute of the regions that names the class is determined automatically.

    Raises:
        InputError: a required key is missing or has the wrong type, or the attribute that names the class is ambiguous.
    """
    with faults_named(source, _EXPECTED):
        entries = list(_from_table(source) if source.path.suffix.lower() == ".csv" else _from_json(source))
        attribute = _attribute(source, [attributes for _, regions in entries for _, attributes in regions])
    return [_read_image(source, name, regions, attribute) for name, regions in entries]


def _metadata(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        return {}
    inner = content.get("_via_img_metadata", content)
    return inner if isinstance(inner, dict) else {}


def _from_json(source: Source) -> Iterable[Entry]:
    for entry in expect(source.json, dict, "the file") and _metadata(source.json).values():
        name = expect(expect(entry, dict, "an image's entry")["filename"], str, "`filename`")
        with faults_named(source, _EXPECTED, name):
            regions = entry["regions"]
            _count_file_attributes(source, name, expect(entry.get("file_attributes") or {}, dict, "`file_attributes`"))
            listed = list(regions.values()) if isinstance(regions, dict) else expect(regions, list, "`regions`")  # VIA 1 numbers them
            yield name, [_region(expect(r, dict, "a region")["shape_attributes"], r.get("region_attributes")) for r in listed]


def _count_file_attributes(source: Source, name: str, attributes: dict[str, Any]) -> None:
    if any(map(_is_given, attributes.values())):
        source.issues.note("image", "with file attributes, which are not read", name)


def _region(shape: Any, attributes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return expect(shape, dict, "`shape_attributes`"), expect(attributes or {}, dict, "`region_attributes`")


def _header(fields: list[str]) -> list[str]:
    return [name.strip().lstrip("#").lower() for name in fields]


def _from_table(source: Source) -> Iterable[Entry]:
    rows = read_table(source.path)
    header = _header(rows[0].fields) if rows else []
    if not set(_COLUMNS) <= set(header):
        raise TypeError(f"found the columns {shortened(', '.join(header), 300) or '(none)'}")
    images: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    declared: dict[str, str] = {}
    for row in rows[1:]:
        fields = dict(zip(header, row.fields, strict=False))
        name = fields["filename"].strip()
        if not name or len(row.fields) < len(header):
            raise InputError(f"{source.path}: line {row.line} lacks {'filename' if not name else 'columns'}; found {excerpt(row.fields)}")
        if name not in images:
            _count_file_attributes(source, name, _parsed(source, row.line, fields.get("file_attributes", "")))
        regions = images.setdefault(name, [])
        declared[name] = fields.get("region_count", "").strip()
        shape = _parsed(source, row.line, fields["region_shape_attributes"])
        if shape:
            regions.append((shape, _parsed(source, row.line, fields["region_attributes"])))
    for name, regions in images.items():
        if declared[name].isdecimal() and int(declared[name][:9]) != len(regions):
            source.issues.note(
                "image", "with another number of rows than its region_count", f"{name} ({len(regions)} rows, not {declared[name]})"
            )
    return images.items()


def _parsed(source: Source, line: int, text: str) -> dict[str, Any]:
    try:
        return expect(json.loads(text or "{}"), dict, "an attribute")
    except (ValueError, TypeError, RecursionError):
        raise InputError(f"{source.path}: line {line} has {excerpt(text)}; expected JSON as VIA writes it") from None


def _attribute(source: Source, regions: list[dict[str, Any]]) -> str | None:
    """The attribute that names the class: the only one, or the only one of `_CLASS_ATTRIBUTES`; None without regions."""
    counts = Counter(name for attributes in regions for name, value in attributes.items() if _is_given(value))
    if not regions or len(counts) == 1:
        return next(iter(counts), None)
    candidates = [name for name in counts if name.strip().lower() in _CLASS_ATTRIBUTES]
    if len(candidates) != 1:
        listed = "the attributes " + ", ".join(f"{excerpt(name, 40)} ({count})" for name, count in counts.most_common(8))
        raise InputError(
            f"{source.path}: its regions have {listed if counts else 'no attribute with a value'}; expected one "
            f"attribute, or exactly one of the attributes {', '.join(_CLASS_ATTRIBUTES)}; rename or remove attributes in VIA"
        )
    source.issues.note(
        "attribute",
        f"of regions other than '{candidates[0]}', not read",
        str(next(name for name in counts if name != candidates[0])),
        len(counts) - 1,
    )
    return candidates[0]


def _is_given(value: Any) -> bool:
    return any(value.values()) if isinstance(value, dict) else value not in (None, "")


def _value(attributes: dict[str, Any], name: str, image: str) -> str | None:
    """The class of a region, or None; the value of a checkbox is an object with a truth value for each option."""
    value = attributes.get(name)
    if isinstance(value, dict):
        checked = [option for option, is_checked in value.items() if is_checked]
        if len(checked) > 1:
            raise TypeError(f"a region of {excerpt(image)} has several values of '{name}': {excerpt(checked)}; choose one in VIA")
        value = checked[0] if checked else None
    return None if value is None or value == "" else expect(value, str, f"the attribute '{name}' of a region")


def _read_image(source: Source, name: str, regions: list[tuple[dict[str, Any], dict[str, Any]]], attribute: str | None) -> RawImage:
    shapes = Shapes(source, name)
    with faults_named(source, _EXPECTED, name):
        for shape, attributes in regions:
            kind, category = shape["name"], attribute and _value(attributes, attribute, name)
            if kind in {"point", "polyline", "line"}:
                shapes.leave_out(f"{kind} shape", "without a box, left out")
            elif category is None:
                shapes.leave_out("region", f"without a value of '{attribute}', left out")
            else:
                shapes.add(category, *_bounds(shapes, expect(kind, str, "`name` of a shape"), shape))
    return shapes.image()


def _bounds(shapes: Shapes, kind: str, shape: dict[str, Any]) -> Box:
    def values(*keys: str) -> list[float]:
        return numbers(shapes.source.path, shapes.name, *(shape[key] for key in keys))

    if kind == "rect":
        x, y, width, height = values("x", "y", "width", "height")
        return x, y, x + width, y + height
    if kind == "circle":
        x, y, radius = values("cx", "cy", "r")
        return x - radius, y - radius, x + radius, y + radius
    if kind == "ellipse":
        x, y, radius_x, radius_y = values("cx", "cy", "rx", "ry")
        angle = numbers(shapes.source.path, shapes.name, shape.get("theta") or 0)[0]  # radians
        return rotated_bounds((x, y), (radius_x, radius_y), math.degrees(angle), ellipse=True)
    if kind == "polygon":
        xs, ys = (expect(shape[key], list, f"`{key}`") for key in ("all_points_x", "all_points_y"))
        if len(xs) != len(ys) or not xs:
            raise TypeError(f"a polygon has {len(xs)} x and {len(ys)} y")
        return points_bounds(list(zip(xs, ys, strict=True)))
    raise TypeError(f"a shape has the unknown type {excerpt(kind, 40)}")
