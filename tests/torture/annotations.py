"""A small whole data set in each format of annotations, from which mutants are made."""

import csv
import itertools
import json
from collections.abc import Callable
from pathlib import Path

from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.writers import WRITERS
from tests import test_formats, test_other_tools
from tests.conftest import bbbc041_entry, write_image

SIZE_WH = (200, 150)
NAMES = ("a.png", "b.png", "c.png")
BOXES = [("ring", 22, 23, 50, 33), ("red blood cell", 80, 40, 120, 60), ("leukocyte", 5, 90, 45, 140)]


def _json(content: object, name: str = "annotations.json", images: tuple[str, ...] = NAMES) -> Callable[[Path], Path]:
    return _text(json.dumps(content), name, images)


def _text(content: str, name: str, images: tuple[str, ...] = NAMES) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for image in images:
            write_image(folder / image, SIZE_WH)
        (folder / name).write_text(content, encoding="utf-8")
        return folder / name

    return write


def _written(format_name: str) -> Callable[[Path], Path]:
    """By our own writer."""

    def write(folder: Path) -> Path:
        import numpy as np

        labels = LabelSet(tuple(label for label, *_ in BOXES))
        boxes, ids = np.array([box for _, *box in BOXES], np.float32), np.arange(3)
        images = []
        for name in NAMES:
            write_image(folder.parent / "originals" / name, SIZE_WH, value=ord(name[0]))
            path = folder.parent / "originals" / name
            images.append(AnnotatedImage(name, path, SIZE_WH, name, boxes, ids, np.array([False, False, name == "c.png"])))
        WRITERS[format_name](AnnotationSet(labels, tuple(images)), folder)
        return folder

    return write


def _iml() -> list[object]:
    objects = [
        {"type": label, "bbox": dict(zip("xywh", map(str, (x, y, right - x, bottom - y)), strict=True))}
        for label, x, y, right, bottom in BOXES
    ]
    return [{"image_name": name, "objects": objects} for name in NAMES]


def _table(folder: Path) -> Path:
    for name in NAMES:
        write_image(folder / name, SIZE_WH)
    with (folder / "train.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("image", "width", "height", "label", "x_min", "y_min", "x_max", "y_max"))
        table.writerows((name, *SIZE_WH, *box) for name in NAMES for box in BOXES)
    return folder / "train.csv"


def _class_folders(folder: Path) -> Path:
    for part in ("train", "test"):
        for label in ("ring", "leukocyte"):
            for name in NAMES:
                write_image(folder / part / label / name, (20, 20))
    return folder


def _bccd(folder: Path) -> Path:
    return test_formats.bccd(folder, 4)


def _coco_with_habits(folder: Path) -> Path:
    """Outlines, crowds and keys that other tools add, for the readers of which the plain file has no work."""
    for name in NAMES:
        write_image(folder / "images" / name, SIZE_WH)
    images = [{"id": i, "file_name": name, "width": 200, "height": 150, "license": None} for i, name in enumerate(NAMES)]
    shapes = [[[22, 23, 50, 23, 50, 33]], {"size": [150, 200], "counts": [3000, 20, 9980, 4, 16996]}, []]
    boxes = []
    for i, (j, (_, left, top, right, bottom)) in itertools.product(range(3), enumerate(BOXES)):
        box = {"id": 10 * i + j, "image_id": i, "category_id": j, "bbox": [left, top, right - left, bottom - top]}
        boxes.append(box | {"segmentation": shapes[j], "area": 280.0, "iscrowd": int(j == 1)})
    categories = [{"id": j, "name": label, "supercategory": "cell"} for j, (label, *_) in enumerate(BOXES)]
    content = {"info": {"year": 2024}, "licenses": [], "images": images, "annotations": boxes, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "annotations.json"


# Format: one or more whole data sets. A mutant is of one of them.
WHOLE: dict[str, list[Callable[[Path], Path]]] = {
    "bbbc041": [_json([bbbc041_entry(f"/{name}", BOXES, SIZE_WH) for name in NAMES], "training.json")],
    "folders": [_class_folders],
    "coco": [_written("coco"), _coco_with_habits],
    "createml": [_json(test_other_tools.CREATEML)],
    "csv": [_table, _text("image;label;xmin;ymin;xmax;ymax\na.png;ring;18,0;14,0;46,0;42,0\nb.png;ring;18;14;46;42\n", "train.csv")],
    "cvat": [_text(test_other_tools.CVAT, "annotations.xml")],
    "iml": [_json(_iml())],
    "label_studio": [_json(test_other_tools.LABEL_STUDIO, images=("a b.png", "b.png", "c.png"))],
    "labelme": [_json(test_other_tools.LABELME, "a.json")],
    "qupath": [_json({"type": "FeatureCollection", "features": test_other_tools.QUPATH}, "a.geojson")],
    "via": [_json(test_other_tools.VIA), _text(test_other_tools.VIA_CSV, "via.csv")],
    "voc": [_written("voc"), _bccd],
    "vott": [_json({"name": "project", "tags": [], "assets": {"3f": test_other_tools.VOTT}})],
    "yolo": [_written("yolo"), test_formats.yolo],
}
