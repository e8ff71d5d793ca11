"""LabelMe's JSON (Wada 2016, github.com/wkentaro/labelme): one file an image, shapes as points in pixels."""

import math
from pathlib import PureWindowsPath
from typing import Any

from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.outlines import Box, points_bounds
from malaria_cells.data.annotations.shapes import Shapes, expect, faults_named, is_file
from malaria_cells.data.annotations.source import RawImage, Source, declared_size

FORMAT = Format(
    name="labelme",
    title="LabelMe",
    recognised_by="a JSON file with `shapes` and `imagePath`",
    exported_by="LabelMe, AnyLabeling, X-AnyLabeling",
    not_read="points, lines, flags, the image inside the file; outlines, circles, masks and turned boxes serve as their bounding boxes, "
    "and outlines of one label and group as one cell",
    suffixes=(".json",),
    per_image=True,
)
_EXPECTED = '{"imagePath": .., "shapes": [{"label": .., "shape_type": "rectangle", "points": [[x, y], [x, y]]}]}'
_LEAST_POINTS = {"rectangle": 2, "circle": 2, "polygon": 3, "mask": 2, "rotation": 3, "oriented_rectangle": 3}
_TURNED = {"rotation", "oriented_rectangle"}
_PARTS = {"polygon", "mask"}  # kinds of which several may be the visible parts of one cell; a rectangle or circle is drawn around all of it


def recognises(source: Source) -> bool:
    """Whether the file holds a list of `shapes` and an `imagePath`."""
    content = source.json
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def read(source: Source) -> list[RawImage]:
    """Read the one image; without a name in the file it is named as the file.

    Raises:
        InputError: a part of the format is missing.
    """
    with faults_named(source, _EXPECTED):
        content = expect(source.json, dict, "the file")
        name = _name(source, expect(content.get("imagePath") or source.path.stem, str, "`imagePath`"))
    shapes = Shapes(source, name)
    with faults_named(source, _EXPECTED, name):
        groups: dict[tuple[str, str], int] = {}
        for shape in expect(content["shapes"], list, "`shapes`"):
            _read_shape(shapes, expect(shape, dict, "a shape"), groups)
        if any(expect(content.get("flags") or {}, dict, "`flags`").values()):
            shapes.leave_out("flag", "of a whole image, not read", sum(map(bool, content["flags"].values())))
    return [shapes.image(declared_size(content.get("imageWidth"), content.get("imageHeight")))]


def _name(source: Source, written: str) -> str:
    """The image's path; where it is not beside the file, but one of the file's own name is, both were renamed together."""
    beside, last = source.path.parent, PureWindowsPath(written)
    own = source.path.stem + last.suffix
    if own == last.name or not is_file(beside / own) or is_file(beside / last.name) or is_file(beside / last.as_posix()):
        return written
    source.issues.note("image", "that its file calls by another name, found by the file's own name", f"{own} ({excerpt(last.name, 60)})")
    return own


def _read_shape(shapes: Shapes, shape: dict, groups: dict[tuple[str, str], int]) -> None:
    kind, points = shape.get("shape_type") or "polygon", expect(shape["points"], list, "`points`")
    if not isinstance(kind, str) or kind not in _LEAST_POINTS:
        return shapes.leave_out("shape", f"of the kind {excerpt(kind, 40)}, which has no box, left out")
    if len(points) < _LEAST_POINTS[kind]:
        return shapes.leave_out("outline", f"with fewer than {_LEAST_POINTS[kind]} points ({kind}), left out")
    if kind in _TURNED:
        shapes.leave_out("turned box", "taken as its upright bounding box")
    shapes.add(shape["label"], *_bounds(kind, points))
    return _join_group(shapes, shape.get("group_id"), groups) if kind in _PARTS else None


def _bounds(kind: str, points: list[Any]) -> Box:
    """The bounding box; a circle has its centre and a point on it."""
    if kind != "circle":
        return points_bounds(points)
    points_bounds(points[:2])  # sees that they are points
    (x, y), edge = points[0][:2], points[1][:2]
    radius = math.dist((x, y), edge)
    return x - radius, y - radius, x + radius, y + radius


def _join_group(shapes: Shapes, group: Any, groups: dict[tuple[str, str], int]) -> None:
    """Make one box of the last shape and an earlier one of its label and group, as LabelMe's own converters do."""
    if group is None:
        return
    key = shapes.categories[-1], str(group)
    first = groups.setdefault(key, len(shapes.boxes) - 1)
    if first == len(shapes.boxes) - 1:
        return
    shapes.categories.pop()
    last = shapes.boxes.pop()
    old = shapes.boxes[first]
    shapes.boxes[first] = [*map(min, old[:2], last[:2]), *map(max, old[2:], last[2:])]
    shapes.leave_out("outline", "of the same label and group_id as another, taken as one cell with it")
