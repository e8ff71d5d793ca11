"""BBBC041's JSON (Ljosa et al., Nature Methods 2012): a list of images with boxes as corners in rows and columns."""

from typing import Any

import numpy as np

from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.readers import reader
from malaria_cells.data.annotations.source import RawImage, Source, declared_size, malformed, numbers

FORMAT = Format(
    name="bbbc041",
    title="BBBC041",
    recognised_by="a JSON list whose entries have `image` with `pathname`, and `objects`",
    exported_by="Broad Bioimage Benchmark Collection",
    not_read="checksums",
    suffixes=(".json",),
)
_EXPECTED = (
    'a list of {"image": {"pathname": ..}, "objects": [{"category": .., "bounding_box": {"minimum": {"r": .., "c": ..}, "maximum": ..}}]}'
)


def recognises(source: Source) -> bool:
    """Whether the file holds a list whose first entry has an `image` with a `pathname`."""
    content = source.json
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict) and isinstance(content[0].get("image"), dict)


@reader(FORMAT, recognises, rank=10)
def read(source: Source) -> list[RawImage]:
    """Read every image.

    Raises:
        InputError: a required key is missing or has the wrong type.
    """
    try:
        return [_read_image(source, entry) for entry in source.json]
    except (KeyError, TypeError, AttributeError) as error:
        raise malformed(source.path, _EXPECTED, error) from error


def _read_image(source: Source, entry: dict[str, Any]) -> RawImage:
    image, objects = entry["image"], entry["objects"]
    name = image["pathname"].lstrip("/")
    shape = image.get("shape")
    corners = [(o["bounding_box"]["minimum"], o["bounding_box"]["maximum"]) for o in objects]
    coordinates = [numbers(source.path, name, low["c"], low["r"], high["c"], high["r"]) for low, high in corners]
    return RawImage(
        name=name,
        categories=[o["category"] for o in objects],
        boxes_xyxy=np.array(coordinates, dtype=np.float64).reshape(-1, 4),
        size_wh=declared_size(shape["c"], shape["r"]) if shape else None,
    )
