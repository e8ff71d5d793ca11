"""CVAT's own XML 1.1 for images (docs.cvat.ai): all images of a task, with shapes in pixels."""

from collections.abc import Callable
from xml.etree.ElementTree import Element

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.outlines import Box, outline_bounds, points_bounds, rotated_bounds
from malaria_cells.data.annotations.parts import part_named
from malaria_cells.data.annotations.readers import reader
from malaria_cells.data.annotations.shapes import Shapes, expect, faults_named
from malaria_cells.data.annotations.source import RawImage, Source, declared_size, numbers

FORMAT = Format(
    name="cvat",
    title="CVAT for images 1.1",
    recognised_by="an XML file whose root is `<annotations>`, with `<image>`",
    exported_by="CVAT (CVAT for images 1.1)",
    not_read="tags of whole images, points, lines, skeletons, cuboids, attributes, tracks of a video; outlines, masks, ellipses "
    "and turned boxes serve as their bounding boxes",
    suffixes=(".xml",),
)
_EXPECTED = (
    '<annotations><image name=".." width=".." height=".."><box label=".." xtl=".." ytl=".." xbr=".." ybr=".."/></image></annotations>'
)
# Shapes without a box, by their XML tag, with their nouns for messages.
_WITHOUT_BOX = {"tag": "tag", "points": "point shape", "polyline": "line", "skeleton": "skeleton", "cuboid": "cuboid"}


def recognises(source: Source) -> bool:
    """Whether the root is `<annotations>` with an image, a track, or CVAT's `<meta>` of a task, project or job."""
    root = source.xml
    if root is None or root.tag != "annotations":
        return False
    return any(root.find(place) is not None for place in ("image", "track", "meta/task", "meta/project", "meta/job"))


@reader(FORMAT, recognises, rank=100)
def read(source: Source) -> list[RawImage]:
    """Read every image.

    Raises:
        InputError: a required attribute is missing, or the file holds the tracks of a video.
    """
    root = source.xml
    if root is None or root.tag != "annotations":
        raise InputError(f"{source.path}: is not an XML file with the root <annotations>; expected {_EXPECTED}")
    if root.find("track") is not None:
        raise InputError(f"{source.path}: holds tracks of a video (CVAT for video 1.1); export the task as `CVAT for images 1.1` instead")
    images = root.findall("image")
    declared = root.findtext("meta/task/size")
    if declared is not None and declared.strip().isdecimal() and int(declared[:18]) != len(images):
        source.issues.note("task", f"that declares {declared.strip()[:18]} images and lists {len(images)}", source.path.name)
    return [_read_image(source, image) for image in images]


def _read_image(source: Source, image: Element) -> RawImage:
    with faults_named(source, _EXPECTED):
        shapes = Shapes(source, expect(image.get("name"), str, "the `name` of an <image>"))
    with faults_named(source, _EXPECTED, shapes.name):
        for shape in image:
            _read_shape(shapes, shape)
    part = part_named(image.get("subset") or "")
    return shapes.image(declared_size(image.get("width"), image.get("height")), part)


def _read_shape(shapes: Shapes, shape: Element) -> None:
    if not isinstance(shape.tag, str):  # the node is a comment
        return None
    if shape.tag in _WITHOUT_BOX:
        return shapes.leave_out(_WITHOUT_BOX[shape.tag], "without a box, left out")
    if shape.tag not in _BOUNDS:
        return shapes.leave_out("shape", f"of the unknown type <{shape.tag[:40]}>, left out")
    if shape.find("attribute") is not None:
        shapes.leave_out("shape", "with attributes, which are not read")
    box = _BOUNDS[shape.tag](shapes, shape)
    if box is None:
        return shapes.leave_out("mask", "without a pixel, left out")
    return shapes.add(shape.get("label"), *box)


def _numbers(shapes: Shapes, shape: Element, *keys: str) -> list[float]:
    missing = [key for key in keys if shape.get(key) is None]
    if missing:
        raise TypeError(f"<{shape.tag}> lacks {', '.join(missing)}")
    return numbers(shapes.source.path, shapes.name, *(shape.get(key) for key in keys))


def _rotation(shapes: Shapes, shape: Element) -> float:
    degrees = numbers(shapes.source.path, shapes.name, shape.get("rotation") or 0)[0]
    if degrees:
        shapes.leave_out("rotated shape", "replaced by its axis-aligned bounding box")
    return degrees


def _box(shapes: Shapes, shape: Element) -> Box:
    left, top, right, bottom = _numbers(shapes, shape, "xtl", "ytl", "xbr", "ybr")
    degrees = _rotation(shapes, shape)
    if not degrees:
        return left, top, right, bottom
    return rotated_bounds(((left + right) / 2, (top + bottom) / 2), ((right - left) / 2, (bottom - top) / 2), degrees, ellipse=False)


def _ellipse(shapes: Shapes, shape: Element) -> Box:
    x, y, across, down = _numbers(shapes, shape, "cx", "cy", "rx", "ry")
    return rotated_bounds((x, y), (across, down), _rotation(shapes, shape), ellipse=True)


def _polygon(shapes: Shapes, shape: Element) -> Box:
    written = shape.get("points") or ""
    points = [numbers(shapes.source.path, shapes.name, *pair.split(",")) for pair in written.split(";") if pair.strip()]
    if len(points) < 3:
        raise TypeError(f"a polygon has the points {excerpt(written, 40)}, expected three or more")
    return points_bounds(points)


def _mask(shapes: Shapes, shape: Element) -> Box | None:
    """The bounding box of a mask. Its run lengths go along the rows of the mask's rectangle, whereas COCO's go down the columns."""
    left, top, width, height = _numbers(shapes, shape, "left", "top", "width", "height")
    runs = [int(run) for run in numbers(shapes.source.path, shapes.name, *(shape.get("rle") or "").split(","))]
    inside = outline_bounds({"size": [int(width), int(height)], "counts": runs}, None)
    return inside and (left + inside[1], top + inside[0], left + inside[3], top + inside[2])


_BOUNDS: dict[str, Callable[[Shapes, Element], Box | None]] = {"box": _box, "ellipse": _ellipse, "polygon": _polygon, "mask": _mask}
