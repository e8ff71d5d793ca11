"""Corrections made on the page, kept as a data set that ``train.py`` takes: COCO with the images beside it."""

import tempfile
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np

from malaria_cells.app.page.uploads import UploadedImage
from malaria_cells.base import files
from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.file_names import distinct, folded
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet, load_annotations
from malaria_cells.data.images import read_image
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.writers import WRITERS

ANNOTATIONS = "annotations.json"
NO_CELL = -1
# Levels of 255, mean: an image that an earlier version wrote upright and compressed again differs by one or two from what was dropped.
ALIKE = 4.0


def save_correction(folder: Path, image: UploadedImage, boxes_xyxy: np.ndarray, class_ids: np.ndarray, labels: LabelSet) -> int:
    """Put a corrected image into the review, in the place of an earlier version of it.

    An image is known by its content. Another one of the same name gets a name of its own.

    Args:
        folder: of the review; made if it is not there.
        image: its file goes into the review as it is.
        boxes_xyxy: all its cells, float32 (n, 4).
        class_ids: int (n,), `NO_CELL` for what is none.
        labels: the classes.

    Returns:
        How many images the review holds now.

    Raises:
        InputError: what the review holds cannot be read with these classes, or it cannot be written.
    """
    kept = class_ids != NO_CELL
    size_wh = (image.pixels.shape[1], image.pixels.shape[0])
    corrected = AnnotatedImage("", folder, size_wh, "", boxes_xyxy[kept], class_ids[kept], np.zeros(int(kept.sum()), dtype=bool))
    try:
        with files.locked(folder, f"{folder}: another page is saving into it; this one waits", wait=True):
            return _save(folder, image, corrected, labels)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({reason(error)}); see that you may write there, and that the disk has room"
        ) from error


def _save(folder: Path, image: UploadedImage, corrected: AnnotatedImage, labels: LabelSet) -> int:
    before = load_annotations(folder / ANNOTATIONS, labels).images if (folder / ANNOTATIONS).is_file() else ()
    is_same = [_is_of(p, image) for p in before]
    others = tuple(p for p, same in zip(before, is_same, strict=True) if not same)
    earlier = [p.key for p, same in zip(before, is_same, strict=True) if same]
    key = earlier[0] if earlier else _free_name(folder, image.name, others)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
        path = Path(beside) / PurePath(key).name
        path.write_bytes(image.content)
        everything = tuple(sorted((*others, replace(corrected, key=key, group=key, path=path)), key=lambda p: p.key))
        written = Path(beside) / "written"
        WRITERS["coco"](AnnotationSet(labels, everything), written)
        # Images first: whatever happens, the annotation lists none that is not there. What else lies in the folder stays.
        for file in (*(p for p in (written / "images").rglob("*") if p.is_file()), written / ANNOTATIONS):
            target = folder / file.relative_to(written)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    return len(everything)


def _is_of(image: AnnotatedImage, uploaded: UploadedImage) -> bool:
    if image.path.stat().st_size == len(uploaded.content) and image.path.read_bytes() == uploaded.content:
        return True
    # An image that is written upright becomes a PNG, so that its ending may be another.
    if folded(PurePath(image.key).stem) != folded(PurePath(uploaded.name).stem):
        return False
    pixels = read_image(image.path)
    return pixels.shape == uploaded.pixels.shape and bool(np.abs(pixels.astype(np.int16) - uploaded.pixels.astype(np.int16)).mean() < ALIKE)


def _free_name(folder: Path, wanted: str, others: tuple[AnnotatedImage, ...]) -> str:
    """The image's name, or it with a number: neither another image's, nor that of a file that lies there."""
    images = folder / "images"
    taken = {p.relative_to(images).as_posix() for p in images.rglob("*") if p.is_file()}
    taken |= {PurePath(p.key).name for p in others}
    return distinct([*sorted(taken), PurePath(wanted).name], numbered="{stem} ({number}){suffix}")[-1]
