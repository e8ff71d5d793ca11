"""CreateML's JSON (Apple): a list of images, boxes as centre and size in pixels."""

from typing import Any

from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.readers import reader
from malaria_cells.data.annotations.shapes import Shapes, expect, faults_named
from malaria_cells.data.annotations.source import RawImage, Source, numbers

FORMAT = Format(
    name="createml",
    title="CreateML",
    recognised_by="a JSON list whose entries have `image` (or `imagefilename`) as a text, and `annotations`",
    exported_by="Roboflow, LabelImg, Apple's tools",
    not_read="nothing",
    suffixes=(".json",),
)
_EXPECTED = 'a list of {"image": .., "annotations": [{"label": .., "coordinates": {"x": .., "y": .., "width": .., "height": ..}}]}'
_NAMES = ("image", "imagefilename")
_LISTS = ("annotations", "annotation")  # keys of the list of boxes; Apple's own examples have the second


def recognises(source: Source) -> bool:
    """Whether the file is a list whose first entry has `image` and `annotations`, and the first annotation, if any, `coordinates`."""
    content = source.json
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return False
    named = any(isinstance(content[0].get(key), str) for key in _NAMES) and any(key in content[0] for key in _LISTS)
    lists = [entry.get(key) for entry in content if isinstance(entry, dict) for key in _LISTS]
    first = next((annotations[0] for annotations in lists if isinstance(annotations, list) and annotations), None)
    return named and (first is None or (isinstance(first, dict) and "coordinates" in first))


@reader(FORMAT, recognises, rank=80)
def read(source: Source) -> list[RawImage]:
    """Read every image.

    Raises:
        InputError: a required key is missing or has the wrong type.
    """
    with faults_named(source, _EXPECTED):
        return [_read_image(source, expect(entry, dict, "an image's entry")) for entry in expect(source.json, list, "the file")]


def _read_image(source: Source, entry: dict[str, Any]) -> RawImage:
    name = expect(next((entry[key] for key in _NAMES if key in entry), None), str, "`image`")
    shapes = Shapes(source, name)
    with faults_named(source, _EXPECTED, name):
        for annotation in expect(next((entry[key] for key in _LISTS if key in entry), None), list, "`annotations`"):
            coordinates = expect(annotation, dict, "an annotation")["coordinates"]
            x, y, width, height = numbers(source.path, name, *(coordinates[k] for k in ("x", "y", "width", "height")))
            shapes.add(annotation["label"], x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return shapes.image()
