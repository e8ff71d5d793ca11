"""Writes YOLO: ``data.yaml``, ``images/<part>``, ``labels/<part>``, for Ultralytics and Roboflow; ignore regions are left out."""

from collections.abc import Iterable
from pathlib import Path

import yaml

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.images import SUFFIXES, is_image
from malaria_cells.data.writers import writer
from malaria_cells.data.writers.image_copies import label_name, place, renamed, short_keys, written_as_png

_PARTS = {"train": "train", "validation": "val", "test": "test"}


@writer("yolo", rank=30)
def write(annotations: AnnotationSet, folder: Path) -> list[str]:
    """Write into an empty folder; returns one line for each kind of information that was changed or left out."""
    as_png = written_as_png(annotations.images)
    names = short_keys([p.key for p in annotations.images], label_files=True, as_png=as_png)
    _check_suffixes(names.values())
    ignored = 0
    for image in annotations.images:
        part = _PARTS[image.part or "train"]
        place(image, folder / "images" / part / names[image.key])
        label_file = folder / "labels" / part / label_name(names[image.key], ".txt")
        files.write_text(label_file, "".join(f"{line}\n" for line in _lines(image)))
        ignored += int(image.ignore.sum())
    present = {_PARTS[p.part or "train"] for p in annotations.images}
    # Ultralytics requires a validation part; the training part takes its place if there is none.
    content = {"path": ".", "train": "images/train", "val": "images/val" if "val" in present else "images/train"}
    content |= {"test": "images/test"} if "test" in present else {}
    description = {**content, "names": dict(enumerate(annotations.labels.names))}
    files.write_text(folder / "data.yaml", yaml.safe_dump(description, sort_keys=False, allow_unicode=True))
    return renamed(names, as_png) + ([f"{ignored} ignore regions, which YOLO cannot store, were left out"] if ignored else [])


def _check_suffixes(names: Iterable[str]) -> None:
    for name in names:
        if not is_image(Path(name)):
            raise InputError(
                f"{name}: YOLO's readers recognise images by suffix, and this is none of {', '.join(sorted(SUFFIXES))}; rename the file"
            )


def _lines(image: AnnotatedImage) -> list[str]:
    width, height = image.size_wh
    lines = []
    for (left, top, right, bottom), class_id in zip(image.cells_xyxy.tolist(), image.cell_class_ids.tolist(), strict=True):
        fractions = ((left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height)
        lines.append(" ".join([str(class_id), *(f"{s:.8f}" for s in fractions)]))
    return lines
