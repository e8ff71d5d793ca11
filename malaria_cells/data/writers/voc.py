"""Writes Pascal VOC: ``Annotations``, ``JPEGImages``, ``ImageSets/Main``, for LabelImg and LabelMe; ignore regions are `difficult`."""

import xml.etree.ElementTree as ET
from pathlib import Path

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.file_names import printable
from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.labels import IGNORED
from malaria_cells.data.writers import writer
from malaria_cells.data.writers.image_copies import flat_names, label_name, place, renamed, written_as_png

_LISTS = {"train": ("train", "trainval"), "validation": ("val", "trainval"), "test": ("test",)}
NO_CLASS = "difficult"  # name of ignore regions without a class


@writer("voc", rank=20)
def write(annotations: AnnotationSet, folder: Path) -> list[str]:
    """Write into an empty folder; returns one line for each kind of information that was changed or left out."""
    as_png = written_as_png(annotations.images)
    names = flat_names([p.key for p in annotations.images], as_png)
    _check_labels(annotations.labels.names)
    lists: dict[str, list[str]] = {}
    for image in annotations.images:
        name = names[image.key]
        place(image, folder / "JPEGImages" / name)
        tree = ET.ElementTree(_annotation(image, name, annotations.labels.names))
        ET.indent(tree)
        path = folder / "Annotations" / label_name(name, ".xml")
        path.parent.mkdir(parents=True, exist_ok=True)
        tree.write(path, encoding="utf-8")
        for part in _LISTS[image.part or "train"]:
            lists.setdefault(part, []).append(label_name(name))
    for part, stems in lists.items():
        files.write_text(folder / "ImageSets" / "Main" / f"{part}.txt", "\n".join(stems) + "\n")
    return renamed(names, as_png) + _without_objects(annotations)


def _check_labels(labels: tuple[str, ...]) -> None:
    for label in labels:
        if printable(label) != label or label.strip() != label or not label:
            raise InputError(f"label {excerpt(label)}: XML cannot hold this name; give it another name in the annotation, or write coco")


def _without_objects(annotations: AnnotationSet) -> list[str]:
    """A line about classes without an object, which are lost since VOC has no list of classes."""
    used = {int(i) for p in annotations.images for i in p.class_ids}
    absent = [name for i, name in enumerate(annotations.labels.names) if i not in used]
    return [f"VOC has no list of classes, so {', '.join(absent)} without a box was not written"] if absent else []


def _annotation(image: AnnotatedImage, name: str, labels: tuple[str, ...]) -> ET.Element:
    root = ET.Element("annotation")
    _add(root, folder="JPEGImages", filename=name)
    _add(ET.SubElement(root, "size"), width=image.size_wh[0], height=image.size_wh[1], depth=3)
    for box, class_id, ignore in zip(image.boxes_xyxy.tolist(), image.class_ids.tolist(), image.ignore.tolist(), strict=True):
        box_element = ET.SubElement(root, "object")
        _add(
            box_element, name=NO_CLASS if class_id == IGNORED else labels[class_id], pose="Unspecified", truncated=0, difficult=int(ignore)
        )
        left, top, right, bottom = box
        # VOC's coordinates start at 1, and both corners are inside the box.
        _add(ET.SubElement(box_element, "bndbox"), xmin=_number(left + 1), ymin=_number(top + 1), xmax=_number(right), ymax=_number(bottom))
    return root


def _add(parent: ET.Element, **values: object) -> None:
    for tag, value in values.items():
        ET.SubElement(parent, tag).text = str(value)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
