"""COCO's JSON (Lin et al. 2014, arXiv:1405.0312), including COCO Camera Traps, which has string ids and labels without a box."""

from collections import defaultdict
from typing import Any

import numpy as np

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.text import excerpt, shortened
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.outlines import outline_bounds
from malaria_cells.data.annotations.readers import reader
from malaria_cells.data.annotations.source import RawImage, Source, declared_size, malformed, numbers

FORMAT = Format(
    name="coco",
    title="COCO",
    recognised_by="a JSON file with the lists `images`, `annotations` and `categories`",
    exported_by="CVAT, Roboflow, Label Studio, makesense, FiftyOne, COCO's own sets, Camera Traps",
    not_read="key points; outlines serve as their bounding boxes; crowds (`iscrowd`) are ignore regions",
    suffixes=(".json",),
)
_EXPECTED = (
    '{"images": [{"id", "file_name"}], "annotations": [{"image_id", "category_id", "bbox": [x, y, w, h]}], "categories": [{"id", "name"}]}'
)


def recognises(source: Source) -> bool:
    """Whether the file is a JSON object with the keys `images`, `annotations` and `categories`."""
    content = source.json
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


@reader(FORMAT, recognises, rank=30)
def read(source: Source) -> list[RawImage]:
    """Read every image; crowds become ignore regions, and an annotation without a box gets the bounding box of its outline.

    Raises:
        InputError: a required key is missing or has the wrong type, or two images or categories have the same id.
    """
    try:
        names = _by_id(source, "categories", "name")
        entries = {_id(entry["id"]): entry for entry in source.json["images"]}
        _by_id(source, "images", "file_name")
        annotations = _annotations_by_image(source, entries)
        images = [_read_image(source, entry, annotations[key], names) for key, entry in entries.items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise malformed(source.path, _EXPECTED, error) from error
    _check_corners(source, images)
    duplicates = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    for name in duplicates:
        source.issues.note("category", "listed under several ids, taken as one class", str(name))
    return images


def _id(value: Any) -> str:
    """An id as text, since tools write numbers, strings, or 1.0 for 1."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _by_id(source: Source, what: str, name: str) -> dict[str, str]:
    names: dict[str, str] = {}
    for entry in source.json[what]:
        key = _id(entry["id"])
        if names.setdefault(key, entry[name]) != entry[name]:
            raise InputError(
                f"{source.path}: {what}: the id {key} is listed twice, for {excerpt(names[key])} and {excerpt(entry[name])}; were two "
                "files joined? Give each entry an id of its own, or name the files one by one"
            )
    return names


def _annotations_by_image(source: Source, images: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The annotations that have a box or an outline, by the id of their image; `images` holds the entries of `images` by id."""
    by_image = defaultdict(list)
    for annotation in source.json["annotations"]:
        key = _id(annotation["image_id"])
        if key not in images:
            source.issues.note("annotation", "of an image that `images` does not list, left out", f"image_id {key}")
            continue
        name = str(images[key]["file_name"])
        box = annotation.get("bbox") or _outline(source, annotation, images[key], name)
        if not box:
            source.issues.note("annotation", "without a box, left out", name)
            continue
        if _is_crowd(annotation):
            reason = "marked as crowd (`iscrowd`: 1, as CVAT marks masks), taken as ignore region: neither trained on nor scored"
            source.issues.note("annotation", reason, name)
        _note_rotated(source, annotation, name)
        by_image[key].append({**annotation, "bbox": box})
    return by_image


def _is_crowd(annotation: dict[str, Any]) -> bool:
    return str(annotation.get("iscrowd") or 0).strip().lower() not in {"0", "0.0", "false", "no", ""}


def _note_rotated(source: Source, annotation: dict[str, Any], name: str) -> None:
    attributes = annotation.get("attributes")
    if isinstance(attributes, dict) and attributes.get("rotation"):
        source.issues.note("box", "with a `rotation`, which is not applied", name)


def _outline(source: Source, annotation: dict[str, Any], image: dict[str, Any], name: str) -> list[float] | None:
    """The bounding box ``[x, y, width, height]`` of an annotation's outline; None without an outline or an area."""
    if not annotation.get("segmentation"):
        return None
    try:
        bounds = outline_bounds(annotation["segmentation"], declared_size(image.get("width"), image.get("height")))
    except (TypeError, ValueError) as error:
        raise InputError(f"{source.path}: image {excerpt(name)}: {reason(error)}; export the boxes (`bbox`) with the outlines") from error
    if bounds is None:
        source.issues.note("outline", "with fewer than three points or without a pixel, left out", name)
        return None
    source.issues.note("outline", "without a box, replaced by its bounding box", name)
    left, top, right, bottom = bounds
    return [left, top, right - left, bottom - top]


def _category(source: Source, annotation: dict[str, Any], names: dict[str, str]) -> str:
    key = _id(annotation["category_id"])
    if key not in names:
        known = ", ".join(f"{shortened(category_id)}: {shortened(name)}" for category_id, name in list(names.items())[:8])
        raise InputError(
            f"{source.path}: annotations have the category_id {shortened(key)}, which `categories` does not list (it has {known or 'none'})"
        )
    return names[key]


def _check_corners(source: Source, images: list[RawImage]) -> None:
    """Check that boxes are written as corner and size, not as two corners.

    Raises:
        InputError: read as corner and size most boxes end outside of their images, and read as two corners none does.
    """
    outside = within = total = 0
    for image in images:
        if image.size_wh is not None and len(image.boxes_xyxy):
            size = np.array(image.size_wh)
            written = image.boxes_xyxy[:, 2:] - image.boxes_xyxy[:, :2]  # the last two numbers of each box as written in the file
            outside += int((image.boxes_xyxy[:, 2:] > size + 1).any(axis=1).sum())
            within += int(((written > image.boxes_xyxy[:, :2]) & (written <= size + 1)).all(axis=1).sum())
            total += len(image.boxes_xyxy)
    if total and outside > total / 2 and within == total:
        raise InputError(
            f"{source.path}: most boxes end outside of their images if read as [x, y, width, height], and none would as two corners; "
            "COCO's `bbox` is the upper left corner and the size: export the file again, or subtract the corner from the last two numbers"
        )


def _read_image(source: Source, image: dict[str, Any], annotations: list[dict[str, Any]], names: dict[str, str]) -> RawImage:
    name = image["file_name"]
    corner_and_size = [numbers(source.path, name, *a["bbox"]) for a in annotations]
    if any(len(box) != 4 for box in corner_and_size):
        raise TypeError(f"image '{name}' has a bbox that is not four numbers")
    boxes = np.array(corner_and_size, dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return RawImage(
        name=name,
        categories=[_category(source, a, names) for a in annotations],
        boxes_xyxy=boxes,
        ignore=np.array([_is_crowd(a) for a in annotations], dtype=bool),
        size_wh=declared_size(image.get("width"), image.get("height")),
    )
