"""COCO's format of annotations and results, for scoring and for other tools."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import supervision as sv

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.labels import LabelSet


def categories(labels: LabelSet) -> list[dict[str, Any]]:
    """COCO's ``categories``, ids from 1 in the order of the labels."""
    return [{"id": i, "name": name} for i, name in enumerate(labels.names, start=1)]


def image_rows(sizes_wh: Mapping[str, tuple[int, int]]) -> list[dict[str, Any]]:
    """COCO's ``images``, ids from 1 in the mapping's order."""
    return [{"id": i, "file_name": key, "width": w, "height": h} for i, (key, (w, h)) in enumerate(sizes_wh.items(), start=1)]


def truth(images: list[AnnotatedImage], labels: LabelSet) -> dict[str, Any]:
    """Annotated images as a COCO data set; an ignore region becomes one crowd of every category.

    COCO's evaluation disregards ``ignore`` and honours ``iscrowd``: detections inside a crowd are neither hits nor misses.
    """
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        for box, class_id, ignore in zip(image.boxes_xyxy.tolist(), image.class_ids.tolist(), image.ignore.tolist(), strict=True):
            for category in range(1, len(labels) + 1) if ignore else [class_id + 1]:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": category,
                        "bbox": _xywh(box),
                        "area": (box[2] - box[0]) * (box[3] - box[1]),
                        "iscrowd": int(ignore),
                    }
                )
    return {
        "info": {},
        "images": image_rows({p.key: p.size_wh for p in images}),
        "annotations": annotations,
        "categories": categories(labels),
    }


def results(detections: list[sv.Detections]) -> list[dict[str, Any]]:
    """Detections, one entry an image in the order of the image ids, as COCO results with ids and areas.

    A detection that has ``data["label_scores"]`` comes once more for each further label that is not out of the question, since
    COCO's evaluation ranks each label by itself; such a row names the detection's first one, ``further_label_of``. Those that say
    what they are counted as have it as ``counted_as``, a category's id, or None for a mere suspicion or a further label.
    """
    rows: list[dict[str, Any]] = []
    for image_id, found in enumerate(detections, start=1):
        scores, class_ids = _columns(found)
        counted = [int(c) + 1 or None for c in found.data["counted_as"]] if "counted_as" in found.data else []
        further = np.array(found.data.get("label_scores", np.zeros((len(found), 0))))
        for i, (box, area) in enumerate(zip(found.xyxy.tolist(), boxes.areas(found.xyxy).tolist(), strict=True)):
            first = len(rows) + 1
            same = {"image_id": image_id, "bbox": _xywh(box), "area": area, "iscrowd": 0}
            said = {"counted_as": counted[i]} if counted else {}
            rows.append({"id": first, **same, "category_id": class_ids[i] + 1, "score": scores[i], **said})
            for label in np.flatnonzero(further[i]):
                if label != class_ids[i]:
                    also = {"id": len(rows) + 1, **same, "category_id": int(label) + 1, "score": float(further[i, label])}
                    rows.append(also | ({"counted_as": None} if counted else {}) | {"further_label_of": first})
    return rows


def _columns(found: sv.Detections) -> tuple[list[float], list[int]]:
    empty = np.zeros(0)
    scores = empty if found.confidence is None else found.confidence
    class_ids = empty if found.class_id is None else found.class_id
    return [float(s) for s in scores], [int(c) for c in class_ids]


def _xywh(box: list[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]
