"""IML-Malaria's JSON (Arshad et al. 2022, arXiv:2102.08708): a list of images, boxes as corner and size in strings."""

from typing import Any

import numpy as np

from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.readers import reader
from malaria_cells.data.annotations.source import RawImage, Source, malformed, numbers

FORMAT = Format(
    name="iml",
    title="IML-Malaria",
    recognised_by="a JSON list whose entries have `image_name` and `objects`",
    exported_by="IML-Malaria",
    not_read="nothing",
    suffixes=(".json",),
)
_EXPECTED = 'a list of {"image_name": .., "objects": [{"type": .., "bbox": {"x": .., "y": .., "w": .., "h": ..}}]}'


def recognises(source: Source) -> bool:
    """Whether the file holds a list whose first entry has an `image_name`."""
    content = source.json
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict) and "image_name" in content[0]


@reader(FORMAT, recognises, rank=20)
def read(source: Source) -> list[RawImage]:
    """Read every image.

    Raises:
        InputError: a required key is missing or has the wrong type.
    """
    try:
        return [_read_image(source, entry) for entry in source.json]
    except (KeyError, TypeError) as error:
        raise malformed(source.path, _EXPECTED, error) from error


def _read_image(source: Source, entry: dict[str, Any]) -> RawImage:
    name, objects = entry["image_name"], entry["objects"]
    corner_and_size = [numbers(source.path, name, *(o["bbox"][k] for k in "xywh")) for o in objects]
    boxes = np.array(corner_and_size, dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return RawImage(name=name, categories=[o["type"] for o in objects], boxes_xyxy=boxes)
