"""Rows of COCO's annotation and result formats, for scoring and for other tools."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet


def categories(labels: LabelSet) -> list[dict[str, Any]]:
    """COCO's ``categories``, ids from 1 in the order of the labels."""
    return [{"id": i, "name": name} for i, name in enumerate(labels.names, start=1)]


def image_rows(sizes_wh: Mapping[str, tuple[int, int]]) -> list[dict[str, Any]]:
    """COCO's ``images``, ids from 1 in the mapping's order."""
    return [{"id": i, "file_name": key, "width": w, "height": h} for i, (key, (w, h)) in enumerate(sizes_wh.items(), start=1)]


def truth(images: list[AnnotatedImage], labels: LabelSet) -> dict[str, Any]:
    """Annotated images as a COCO data set; an ignore region becomes one crowd annotation per category.

    COCO's evaluation honours ``iscrowd`` alone, not ``ignore``: detections inside a crowd are neither true nor false positives.
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


def results(detections: list[Detections]) -> list[dict[str, Any]]:
    """Detections as COCO results, one list for all images; see `results_by_image`."""
    return [row for rows in results_by_image(detections) for row in rows]


def results_by_image(detections: Iterable[Detections]) -> Iterator[list[dict[str, Any]]]:
    """Detections as COCO results, with ids and areas, a list for each image.

    COCO's evaluation ranks each label by itself. So a detection with `label_scores` gets a secondary row for each other label
    whose score is not 0; its ``further_label_of`` is the id of the detection's first row. If `counted_as` is present, every
    row has ``counted_as``: a category id, or None for a detection that is not counted and for secondary rows.

    Args:
        detections: one entry per image, in the order of the image ids.
    """
    n_rows = 0
    for image_id, in_image in enumerate(detections, start=1):
        rows: list[dict[str, Any]] = []
        scores, class_ids = _columns(in_image)
        counted = [int(c) + 1 or None for c in in_image.counted_as] if "counted_as" in in_image.data else []
        label_scores = np.array(in_image.data.get("label_scores", np.zeros((len(in_image), 0))))
        for i, (box, area) in enumerate(zip(in_image.xyxy.tolist(), boxes.areas(in_image.xyxy).tolist(), strict=True)):
            first_id = n_rows + len(rows) + 1
            common = {"image_id": image_id, "bbox": _xywh(box), "area": area, "iscrowd": 0}
            counted_column = {"counted_as": counted[i]} if counted else {}
            rows.append({"id": first_id, **common, "category_id": class_ids[i] + 1, "score": scores[i], **counted_column})
            for label in np.flatnonzero(label_scores[i]):
                if label != class_ids[i]:
                    score = float(label_scores[i, label])
                    secondary = {"id": n_rows + len(rows) + 1, **common, "category_id": int(label) + 1, "score": score}
                    rows.append(secondary | ({"counted_as": None} if counted else {}) | {"further_label_of": first_id})
        n_rows += len(rows)
        yield rows


def _columns(detections: Detections) -> tuple[list[float], list[int]]:
    empty = np.zeros(0)
    scores = empty if detections.confidence is None else detections.confidence
    class_ids = empty if detections.class_id is None else detections.class_id
    return [float(s) for s in scores], [int(c) for c in class_ids]


def _xywh(box: list[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]
