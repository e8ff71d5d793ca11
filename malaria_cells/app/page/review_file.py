"""Corrections made on the page, saved as a COCO data set with its images, on which ``train.py`` can train."""

import tempfile
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np

from malaria_cells.app.page.uploads import UploadedImage
from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.file_names import distinct, folded
from malaria_cells.base.locks import locked
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet, load_annotations
from malaria_cells.data.images import read_image
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.writers import WRITERS

ANNOTATIONS = "annotations.json"
NO_CELL = -1
# Mean absolute difference of pixel values, of 255, below which two images are the same. An image that was rotated upright and
# compressed again by an earlier version differs by one or two.
MAX_DIFFERENCE = 4.0


def save_correction(folder: Path, image: UploadedImage, boxes_xyxy: np.ndarray, class_ids: np.ndarray, labels: LabelSet) -> int:
    """Save a corrected image into the review folder, replacing an earlier version of it.

    An image is recognised by its content. Another image of the same name gets a different name.

    Args:
        folder: review folder; it is created if it does not exist.
        image: the image; its file is saved unchanged.
        boxes_xyxy: boxes of all its cells, float32 (n, 4), pixels.
        class_ids: int (n,), `NO_CELL` for a box that is no cell.
        labels: the classes.

    Returns:
        The number of images in the review folder.

    Raises:
        InputError: the annotation in the review folder cannot be read with these classes, or the folder cannot be written.
    """
    keep = class_ids != NO_CELL
    size_wh = (image.pixels.shape[1], image.pixels.shape[0])
    corrected = AnnotatedImage("", folder, size_wh, "", boxes_xyxy[keep], class_ids[keep], np.zeros(int(keep.sum()), dtype=bool))
    try:
        with locked(folder, f"{folder}: another page is saving to this folder; waiting for it", wait=True):
            return _save(folder, image, corrected, labels)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({reason(error)}); check that you have permission to write there and that the disk has room"
        ) from error


def _save(folder: Path, image: UploadedImage, corrected: AnnotatedImage, labels: LabelSet) -> int:
    saved = load_annotations(folder / ANNOTATIONS, labels).images if (folder / ANNOTATIONS).is_file() else ()
    is_same = [_is_same_image(p, image) for p in saved]
    other_images = tuple(p for p, same in zip(saved, is_same, strict=True) if not same)
    earlier_keys = [p.key for p, same in zip(saved, is_same, strict=True) if same]
    key = earlier_keys[0] if earlier_keys else _free_name(folder, image, other_images)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        path = Path(temporary) / PurePath(key).name
        path.write_bytes(image.content)
        all_images = tuple(sorted((*other_images, replace(corrected, key=key, group=key, path=path)), key=lambda p: PurePath(p.key).name))
        written = Path(temporary) / "written"
        WRITERS["coco"](AnnotationSet(labels, all_images), written)
        # Images are moved first, so the annotation never lists a missing image. Other files of the folder stay.
        for file in (*(p for p in (written / "images").rglob("*") if p.is_file()), written / ANNOTATIONS):
            target = folder / file.relative_to(written)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    return len(all_images)


def _is_same_image(image: AnnotatedImage, uploaded: UploadedImage) -> bool:
    if _has_bytes(image.path, uploaded):
        return True
    # An image that was rotated upright was saved as PNG, so only the names without suffix are compared.
    if folded(PurePath(image.key).stem) != folded(PurePath(uploaded.name).stem):
        return False
    pixels = read_image(image.path)
    if pixels.shape != uploaded.pixels.shape:
        return False
    return bool(np.abs(pixels.astype(np.int16) - uploaded.pixels.astype(np.int16)).mean() < MAX_DIFFERENCE)


def _free_name(folder: Path, image: UploadedImage, other_images: tuple[AnnotatedImage, ...]) -> str:
    """The image's name, with a number if another image or file in the folder has it; its own file is there if a save was killed."""
    images = folder / "images"
    taken = {p.relative_to(images).as_posix() for p in images.rglob("*") if p.is_file() and not _has_bytes(p, image)}
    taken |= {PurePath(p.key).name for p in other_images}
    return distinct([*sorted(taken), PurePath(image.name).name], numbered="{stem} ({number}){suffix}")[-1]


def _has_bytes(path: Path, image: UploadedImage) -> bool:
    return path.stat().st_size == len(image.content) and path.read_bytes() == image.content
