"""COCO: ``annotations.json`` beside ``images/``, for CVAT, Label Studio, FiftyOne; ignore regions become crowds."""

from pathlib import Path
from typing import Any

from malaria_cells import coco, files
from malaria_cells.annotations import AnnotationSet
from malaria_cells.labels import IGNORED
from malaria_cells.writers.placing import place, short_keys

NO_CLASS = "ignore"


def write(annotations: AnnotationSet, folder: Path) -> list[str]:
    """Write into an empty folder; returns what could not be said in this format, one line a kind."""
    names = short_keys([p.key for p in annotations.pictures])
    rows: list[dict[str, Any]] = []
    for image_id, picture in enumerate(annotations.pictures, start=1):
        place(picture, folder / "images" / names[picture.key])
        for box, class_id, ignore in zip(picture.boxes_xyxy.tolist(), picture.class_ids.tolist(), picture.ignore.tolist(), strict=True):
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
    categories = coco.categories(annotations.labels)
    if any((p.class_ids == IGNORED).any() for p in annotations.pictures):
        categories.append({"id": len(annotations.labels) + 1, "name": NO_CLASS})
    sizes = {f"images/{names[p.key]}": p.size_wh for p in annotations.pictures}
    files.write_json(folder / "annotations.json", {"info": {}, "images": coco.images(sizes), "annotations": rows, "categories": categories})
    return []
