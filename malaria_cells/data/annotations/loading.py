"""Loads an annotation file or folder as an `AnnotationSet`: recognises the format, finds the images, checks every box."""

import logging
from pathlib import Path
from typing import Literal

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt
from malaria_cells.data.annotations.annotation_set import AnnotatedImage, AnnotationSet
from malaria_cells.data.annotations.cleaning import AnnotationIssues, clean_boxes
from malaria_cells.data.annotations.grouping import grouped
from malaria_cells.data.annotations.locate import ImageFinder
from malaria_cells.data.annotations.located_images import (
    LocatedImage,
    Read,
    declared,
    find_images,
    image_folder,
    measured,
    note_unlisted,
)
from malaria_cells.data.annotations.recognition import Recognised, recognise
from malaria_cells.data.annotations.source import RawImage, Source
from malaria_cells.data.labels import IGNORED, LabelSet

log = logging.getLogger(__name__)


def load_annotations(
    path: str | Path,
    labels: LabelSet | None = None,
    *,
    root: Path | None = None,
    finder: ImageFinder | None = None,
    annotation_format: str = "auto",
    group: str | None = None,
    min_box_size: float = 4,
    images: Literal["required", "declared", "found"] = "required",
    warn: bool = True,
) -> AnnotationSet:
    """Read an annotation file, or the folder of a data set, in any known format.

    Args:
        path: the annotation file or folder; all annotation files of a folder are read as one set.
        labels: classes that the categories are mapped to; None: the categories of the annotation, in alphabetical order.
        root: folder of the images, which keys are relative to. By default it is the annotation's folder, or the parent of that if it is
            called ``annotations`` or the like and has no images.
        finder: looks up the images instead of `root`; it has a root of its own.
        annotation_format: one of `READERS`, or ``auto`` to look at the content.
        group: ``folder`` (the images of a folder are one group); a regular expression that is searched in the key and whose first
            group is the name of the image's group; None: every image is a group of its own.
        min_box_size: minimum of a box's shorter side in pixels; smaller boxes are dropped.
        images: ``required``: missing images are left out with a warning, or are an error if more than half are missing; ``found``:
            missing images are left out silently; ``declared``: image files are not needed, and the declared sizes are used.
        warn: whether to log `AnnotationSet.issues`; before an error they are always logged.

    Returns:
        The images in the order of their keys, and the labels.

    Raises:
        InputError: no such file, an unknown format or category, or too many missing images. The issues so far are logged first, since
            they may be the cause.

    Examples:
        >>> import tempfile
        >>> from malaria_cells.data.sample import write_sample
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_sample(Path(folder), training=2, test=1, seed=0, size_wh=(320, 240))
        ...     annotations = load_annotations(Path(folder) / "training.json", None)
        >>> len(annotations), annotations.images[0].boxes_xyxy.shape[1]
        (2, 4)
    """
    path = Path(path)
    recognised = recognise(path, annotation_format)
    try:
        pairs = _read(recognised, path)
        folder = finder or image_folder(path, root, pairs)
        if images == "declared":
            located = declared(pairs, folder, path)
        else:
            found = find_images(pairs, folder, path, recognised.issues, may_miss=images == "found")
            located = measured(found, recognised.issues)
        if finder is None and path.is_dir():
            note_unlisted(folder, [image.file for image in located], recognised.lists_images, recognised.issues)
        labels = labels or _labels(located, path)
        annotated = grouped(_images(located, labels, folder, recognised.issues, min_box_size), group, path)
    except InputError:
        _log(recognised.issues, path)
        raise
    if warn:
        _log(recognised.issues, path)
    return AnnotationSet(labels, tuple(sorted(annotated, key=lambda image: image.key)), recognised.issues.lines(path), str(recognised))


def read_categories(path: Path, *, root: Path | None = None, annotation_format: str = "auto") -> list[str]:
    """Read the categories of the images that exist, in alphabetical order; boxes are not checked and no warnings are logged.

    Args:
        path: the annotation file or folder, as for `load_annotations`.
        root: folder of the images, as for `load_annotations`.
        annotation_format: one of `READERS`, or ``auto``.

    Raises:
        InputError: no such file, an unknown format, or no image in the annotation.
    """
    path = Path(path)
    recognised = recognise(path, annotation_format)
    pairs = _read(recognised, path)
    found = find_images(pairs, image_folder(path, root, pairs), path, recognised.issues, may_miss=True)
    return sorted({category for _, raw, _ in found for category in raw.categories})


def _log(issues: AnnotationIssues, path: Path) -> None:
    for line in issues.lines(path):
        log.warning(line)


def _read(recognised: Recognised, path: Path) -> list[Read]:
    with np.errstate(over="ignore", invalid="ignore"):  # boxes that become infinite are dropped later, with a warning
        pairs = recognised.read()
    if not pairs:
        raise InputError(f"{path}: lists no image; expected one or more")
    for source, raw in pairs:
        if not all(str(category).strip() for category in raw.categories):
            raise InputError(f"{source.path}: image {excerpt(raw.name)} has a cell of a class without a name; name the class")
        for text in (raw.name, *raw.categories):
            if not isinstance(text, str):
                raise InputError(f"{source.path}: image {excerpt(raw.name)} has the name or category {excerpt(text)}; expected a text")
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                raise InputError(
                    f"{source.path}: {excerpt(text)} contains half of a character (a surrogate); export the annotation again"
                ) from None
    return pairs


def _labels(located: list[LocatedImage], path: Path) -> LabelSet:
    categories = {category for image in located for category in image.raw.categories}
    if not categories:
        raise InputError(f"{path}: has no labelled cell; expected one or more")
    return LabelSet(tuple(sorted(categories)))


def _images(
    located: list[LocatedImage], labels: LabelSet, folder: ImageFinder, issues: AnnotationIssues, min_box_size: float
) -> list[AnnotatedImage]:
    """Map the categories to class ids and clean the boxes.

    Raises:
        InputError: an unknown category, an image that is listed twice, or boxes in fractions of 1 instead of pixels.
    """
    annotation = str(located[0].source.path) if len({image.source.path for image in located}) == 1 else str(folder.root)
    _check_pixels([image.raw for image in located], annotation)
    class_ids = labels.class_ids([category for image in located for category in image.raw.categories], annotation)
    split_at = np.cumsum([len(image.raw.categories) for image in located])[:-1]
    ids_by_image = np.split(class_ids, split_at) if located else []
    has_parts = len({image.source.part for image in located if image.source.part}) > 1
    images: dict[str, AnnotatedImage] = {}
    listed_by: dict[str, Source] = {}
    for image, ids in zip(located, ids_by_image, strict=True):
        source, raw, size = image.source, image.raw, image.size_wh
        key = image.file.relative_to(folder.root).as_posix()
        boxes_xyxy = np.array([[0, 0, *size]]) if raw.whole else raw.boxes_xyxy * [*size, *size] if raw.relative else raw.boxes_xyxy
        boxes_xyxy, keep = clean_boxes(boxes_xyxy, size, min_box_size, key, issues)
        ignore = (ids[keep] == IGNORED) | (raw.ignore[keep] if len(raw.ignore) else False)
        part = raw.part or (source.part if has_parts else None)
        if key in images:
            raise _twice(key, listed_by[key], source)
        images[key], listed_by[key] = AnnotatedImage(key, image.file, size, key, boxes_xyxy, ids[keep], ignore, part, raw.whole), source
    return list(images.values())


def _check_pixels(images: list[RawImage], annotation: str) -> None:
    """Check that boxes are in pixels: boxes in fractions of 1 would all be dropped as too small.

    Raises:
        InputError: no coordinate is over 1.
    """
    boxes_xyxy = [raw.boxes_xyxy for raw in images if not raw.whole and not raw.relative and len(raw.boxes_xyxy)]
    all_boxes = np.concatenate(boxes_xyxy) if boxes_xyxy else np.zeros((0, 4))
    finite = all_boxes[np.isfinite(all_boxes).all(axis=1)]
    if len(finite) and finite.max() <= 1 and (finite[:, 2:] > finite[:, :2]).any():
        raise InputError(
            f"{annotation}: no coordinate of its boxes is over 1, so they seem to be fractions of the images' sizes; expected pixels: "
            "multiply them by width and height"
        )


def _twice(key: str, first: Source, second: Source) -> InputError:
    """The error for an image that two annotations list."""
    if first.path != second.path and first.path.suffix.lower() == ".xml":
        return InputError(
            f"{first.path} and {second.path} are both for the image '{key}'; correct the <filename> of the one for another image"
        )
    if first.path == second.path:
        return InputError(
            f"{first.path}: image '{key}' is listed twice; merge the boxes of both entries into one, or correct the name of one"
        )
    return InputError(
        f"image '{key}' is listed twice, in {first.path} and in {second.path}; name the file to read instead of the folder "
        "(`annotations` in a config), or merge the files"
    )
