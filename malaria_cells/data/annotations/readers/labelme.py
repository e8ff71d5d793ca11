"""LabelMe's JSON (Wada 2016, github.com/wkentaro/labelme): one file per image, with shapes as points in pixels."""

import math
from pathlib import PureWindowsPath
from typing import Any

from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.outlines import Box, points_bounds
from malaria_cells.data.annotations.readers import reader
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
# Minimum number of points of each shape type; other types have no box.
_MIN_POINTS = {"rectangle": 2, "circle": 2, "polygon": 3, "mask": 2, "rotation": 3, "oriented_rectangle": 3}
_ROTATED = {"rotation", "oriented_rectangle"}  # shape types of rotated rectangles
_PARTS = {"polygon", "mask"}  # shape types that may be one of several visible parts of a cell; rectangles and circles enclose a cell


def recognises(source: Source) -> bool:
    """Whether the file is a JSON object with a list of `shapes` and an `imagePath`."""
    content = source.json
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


@reader(FORMAT, recognises, rank=50)
def read(source: Source) -> list[RawImage]:
    """Read the one image; without an `imagePath` it has the name of the file.

    Raises:
        InputError: a required key is missing or has the wrong type.
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
    """The image's path. If only an image of the annotation file's name lies beside it, both were renamed together, and it is taken."""
    folder, image_path = source.path.parent, PureWindowsPath(written)
    renamed = source.path.stem + image_path.suffix
    if (
        renamed == image_path.name
        or not is_file(folder / renamed)
        or is_file(folder / image_path.name)
        or is_file(folder / image_path.as_posix())
    ):
        return written
    reason = "with another name in its annotation file, found by the name of that file"
    source.issues.note("image", reason, f"{renamed} ({excerpt(image_path.name, 60)})")
    return renamed


def _read_shape(shapes: Shapes, shape: dict[str, Any], groups: dict[tuple[str, str], int]) -> None:
    kind, points = shape.get("shape_type") or "polygon", expect(shape["points"], list, "`points`")
    if not isinstance(kind, str) or kind not in _MIN_POINTS:
        return shapes.leave_out("shape", f"of the type {excerpt(kind, 40)}, which has no box, left out")
    if len(points) < _MIN_POINTS[kind]:
        return shapes.leave_out("outline", f"with fewer than {_MIN_POINTS[kind]} points ({kind}), left out")
    if kind in _ROTATED:
        shapes.leave_out("rotated box", "replaced by its axis-aligned bounding box")
    shapes.add(shape["label"], *_bounds(kind, points))
    return _join_group(shapes, shape.get("group_id"), groups) if kind in _PARTS else None


def _bounds(kind: str, points: list[Any]) -> Box:
    """The bounding box of a shape; a circle is given by its centre and a point on it."""
    if kind != "circle":
        return points_bounds(points)
    points_bounds(points[:2])  # raises a TypeError if they are not points
    (x, y), edge = points[0][:2], points[1][:2]
    radius = math.dist((x, y), edge)
    return x - radius, y - radius, x + radius, y + radius


def _join_group(shapes: Shapes, group: Any, groups: dict[tuple[str, str], int]) -> None:
    """Merge the last shape's box with that of an earlier shape of the same label and group, as LabelMe's own converters do."""
    if group is None:
        return
    key = shapes.categories[-1], str(group)
    first = groups.setdefault(key, len(shapes.boxes) - 1)
    if first == len(shapes.boxes) - 1:
        return
    shapes.categories.pop()
    last = shapes.boxes.pop()
    earlier = shapes.boxes[first]
    shapes.boxes[first] = [*map(min, earlier[:2], last[:2]), *map(max, earlier[2:], last[2:])]
    shapes.leave_out("outline", "with the label and group_id of another one, taken as one cell with it")
