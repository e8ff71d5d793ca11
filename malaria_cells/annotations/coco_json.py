"""COCO's JSON (Lin et al. 2014, arXiv:1405.0312), with the habits of COCO Camera Traps: string ids, labels without a box."""

from collections import defaultdict
from typing import Any

import numpy as np

from malaria_cells.annotations.form import Form
from malaria_cells.annotations.source import RawPicture, Source, declared_size, malformed, numbers

FORM = Form(
    name="coco",
    title="COCO",
    recognised_by="a JSON file with the lists `images`, `annotations` and `categories`",
    exported_by="CVAT, Roboflow, Label Studio, makesense, FiftyOne, COCO, Camera Traps",
    not_read="key points; outlines serve as their bounding boxes; crowds (`iscrowd`) are ignore regions",
    suffixes=(".json",),
)
_EXPECTED = (
    '{"images": [{"id", "file_name"}], "annotations": [{"image_id", "category_id", "bbox": [x, y, w, h]}], "categories": [{"id", "name"}]}'
)


def recognises(source: Source) -> bool:
    """Whether the file holds the three lists."""
    content = source.json
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def read(source: Source) -> list[RawPicture]:
    """Read every picture; crowds are ignore regions.

    Raises:
        InputError: a part of the format is missing.
    """
    try:
        names = {str(c["id"]): c["name"] for c in source.json["categories"]}
        listed = {str(image["id"]): image for image in source.json["images"]}
        boxed = _boxed(source, listed)
        return [_read_picture(source, image, boxed[key], names) for key, image in listed.items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise malformed(source.path, _EXPECTED, error) from error


def _boxed(source: Source, listed: dict[str, Any]) -> dict[str, list[dict]]:
    boxed = defaultdict(list)
    for annotation in source.json["annotations"]:
        key = str(annotation["image_id"])
        if key not in listed:
            source.oddities.note("annotation", "of a picture that `images` does not list, left out", f"image_id {key}")
        elif not annotation.get("bbox"):
            source.oddities.note("annotation", "without a box, left out", f"{listed[key]['file_name']}")
        else:
            boxed[key].append(annotation)
    return boxed


def _read_picture(source: Source, image: dict, annotations: list[dict], names: dict[str, str]) -> RawPicture:
    name = image["file_name"]
    corner_and_size = [numbers(source.path, name, *a["bbox"]) for a in annotations]
    if any(len(box) != 4 for box in corner_and_size):
        raise TypeError(f"picture '{name}' has a bbox that is not four numbers")
    boxes = np.array(corner_and_size, dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return RawPicture(
        name=name,
        categories=[names[str(a["category_id"])] for a in annotations],
        boxes_xyxy=boxes,
        ignore=np.array([bool(a.get("iscrowd")) for a in annotations], dtype=bool),
        size_wh=declared_size(image.get("width"), image.get("height")),
    )
