"""Writes COCO: ``annotations.json`` beside ``images/``, for CVAT, Label Studio, FiftyOne; ignore regions become crowds."""

from collections import Counter
from pathlib import Path
from typing import Any

from malaria_cells.base import files
from malaria_cells.data import coco_rows
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.labels import IGNORED
from malaria_cells.data.writers import writer
from malaria_cells.data.writers.image_copies import place, renamed, short_keys, written_as_png

NO_CLASS = "ignore"  # category of ignore regions without a class


@writer("coco", rank=10)
def write(annotations: AnnotationSet, folder: Path) -> list[str]:
    """Write into an empty folder; returns one line for each kind of information that was changed or left out."""
    as_png = written_as_png(annotations.images)
    names = short_keys([p.key for p in annotations.images], as_png=as_png)
    rows: list[dict[str, Any]] = []
    for image_id, image in enumerate(annotations.images, start=1):
        place(image, folder / "images" / names[image.key])
        for box, class_id, ignore in zip(image.boxes_xyxy.tolist(), image.class_ids.tolist(), image.ignore.tolist(), strict=True):
            left, top, right, bottom = box
            width, height = right - left, bottom - top
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": image_id,
                    "category_id": class_id + 1 if class_id != IGNORED else len(annotations.labels) + 1,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": int(ignore),
                }
            )
    categories = coco_rows.categories(annotations.labels)
    if any((p.class_ids == IGNORED).any() for p in annotations.images):
        categories.append({"id": len(annotations.labels) + 1, "name": _free(NO_CLASS, annotations.labels.names)})
    sizes = {f"images/{names[p.key]}": p.size_wh for p in annotations.images}
    files.write_json(
        folder / "annotations.json", {"info": {}, "images": coco_rows.image_rows(sizes), "annotations": rows, "categories": categories}
    )
    return renamed(names, as_png) + _parts(annotations)


def _free(name: str, taken: tuple[str, ...]) -> str:
    while name in taken:
        name += " region"
    return name


def _parts(annotations: AnnotationSet) -> list[str]:
    parts = Counter(p.part for p in annotations.images if p.part)
    if len(parts) < 2:
        return []
    listed = ", ".join(f"{name} {n}" for name, n in parts.items())
    return [
        f"the data set's own parts ({listed}), which a COCO file cannot store, were left out; give them by split_file or test_annotations"
    ]
