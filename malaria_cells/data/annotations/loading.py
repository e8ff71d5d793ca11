"""Loads an annotation file or folder as an `AnnotationSet`: recognises the format, finds the images, checks every box."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt, shortened
from malaria_cells.data.annotations.annotation_set import AnnotatedImage, AnnotationSet
from malaria_cells.data.annotations.cleaning import AnnotationIssues, clean_boxes
from malaria_cells.data.annotations.declared import compare_sizes
from malaria_cells.data.annotations.file_index import Origin, inner_path
from malaria_cells.data.annotations.grouping import grouped
from malaria_cells.data.annotations.locate import ImageFinder, ImageFolder
from malaria_cells.data.annotations.parts import ANNOTATION_FOLDERS
from malaria_cells.data.annotations.recognition import Recognised, recognise
from malaria_cells.data.annotations.source import RawImage, Source
from malaria_cells.data.images import UNREADABLE_SUFFIXES, image_size
from malaria_cells.data.labels import IGNORED, LabelSet

log = logging.getLogger(__name__)

MAX_ERRORS = 10  # unreadable images that one message names


@dataclass(frozen=True)
class _Located:
    """Images as read, with the annotation file and the image file of each."""

    sources: list[Source]
    raw: list[RawImage]
    files: list[Path]


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
        folder = finder or _folder(path, root, pairs)
        if images == "declared":
            located, sizes = _declared(pairs, folder, path)
        else:
            located = _locate(pairs, folder, path, recognised.issues, may_miss=images == "found")
            sizes = _sizes(located.files)
            located = _compare_all(located, sizes, recognised.issues)
        if finder is None and path.is_dir():
            _note_unlisted(recognised, folder, located.files)
        labels = labels or _labels(located.raw, path)
        annotated = grouped(_images(located, sizes, labels, folder, recognised.issues, min_box_size), group, path)
    except InputError:
        _log(recognised.issues, path)
        raise
    if warn:
        _log(recognised.issues, path)
    return AnnotationSet(labels, tuple(sorted(annotated, key=lambda image: image.key)), recognised.issues.lines(path), str(recognised))


def found_categories(path: Path, *, root: Path | None = None, annotation_format: str = "auto") -> list[str]:
    """The categories of the images that exist, in alphabetical order; boxes are not checked and no warnings are logged.

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
    located = _locate(pairs, _folder(path, root, pairs), path, recognised.issues, may_miss=True)
    return sorted({category for raw in located.raw for category in raw.categories})


def _log(issues: AnnotationIssues, path: Path) -> None:
    for line in issues.lines(path):
        log.warning(line)


def _read(recognised: Recognised, path: Path) -> list[tuple[Source, RawImage]]:
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


def _folder(path: Path, root: Path | None, pairs: list[tuple[Source, RawImage]]) -> ImageFolder:
    """The folder of the images: see `root` of `load_annotations`."""
    folder = ImageFolder(root if root is not None else path if path.is_dir() else path.parent)
    if root is not None or folder.root.resolve().name.lower() not in ANNOTATION_FOLDERS:
        return folder
    if folder.images:
        return folder
    parent = ImageFolder(folder.root.resolve().parent if folder.root.name in {"", ".."} else folder.root.parent)
    return parent if any(_find_image(parent, raw, None) is not None for _, raw in pairs) else folder


def _find_image(folder: ImageFinder, raw: RawImage, origin: Origin | None) -> Path | None:
    """The file of an image by the first of its names that leads to one, or None."""
    return next((file for name in (raw.name, *raw.other_names) if (file := folder.find(name, origin)) is not None), None)


def _locate(pairs: list[tuple[Source, RawImage]], folder: ImageFinder, path: Path, issues: AnnotationIssues, may_miss: bool) -> _Located:
    """Find the image files; missing ones are left out, with a warning or an error unless they `may_miss`."""
    if not folder.root.is_dir():
        raise InputError(f"{folder.root}: no such folder of images")
    origin_of = _origins([source for source, _ in pairs], folder)
    candidates = [(source, raw, _find_image(folder, raw, origin_of[source.path])) for source, raw in pairs]
    missing = [raw.name for _, raw, file in candidates if file is None]
    if len(missing) > len(pairs) / 2 and not may_miss:
        raise InputError(
            f"{path}: {len(missing)} of {len(pairs)} images are not in {folder.root}; first: {shortened(missing[0])}; "
            "name the folder of the images (`train_images` in a config, --images of explore, convert and gallery)"
        )
    if missing and not may_miss:
        issues.note("image", f"missing in {folder.root}, left out", missing[0], len(missing))
    located = [(source, raw, file) for source, raw, file in candidates if file is not None]
    for _, raw, file in located:
        suffix = PurePosixPath(raw.name).suffix.lower()
        if (
            suffix
            and suffix != file.suffix.lower()
            and not raw.other_names
            and file.name != raw.name
            and file.stem != PurePosixPath(raw.name).name
        ):
            issues.note("image", "found with another file extension", f"{raw.name}, which is {file.name}")
    return _Located([source for source, _, _ in located], [raw for _, raw, _ in located], [file for _, _, file in located])


def _origins(sources: list[Source], folder: ImageFinder) -> dict[Path, Origin | None]:
    """The `Origin` of each annotation file by its path; None for files outside of the folder of the images."""
    homes = {source.path if source.path.is_dir() else source.path.parent for source in sources}
    if not isinstance(folder, ImageFolder):
        return {source.path: Origin(source.path if source.path.is_dir() else source.path.parent) for source in sources}
    with_images = {image.parent for image in folder.images}
    origins: dict[Path, Origin | None] = {}
    for source in {source.path: source for source in sources}.values():
        home = source.path if source.path.is_dir() else source.path.parent
        strict = len(homes) > 1 or home in with_images
        origins[source.path] = Origin(home, source.part, strict) if home.is_relative_to(folder.root) else None
    return origins


def _compare_all(located: _Located, sizes: list[tuple[int, int]], issues: AnnotationIssues) -> _Located:
    """Compare the declared sizes with those of the image files, see `compare_sizes`."""
    compared = [compare_sizes(raw, file, size, issues) for raw, file, size in zip(located.raw, located.files, sizes, strict=True)]
    return replace(located, raw=compared)


def _note_unlisted(recognised: Recognised, folder: ImageFinder, files: list[Path]) -> None:
    """Add image files in unsupported formats, and images that the annotation does not list, to the issues."""
    if not isinstance(folder, ImageFolder):
        return
    for path in folder.files:
        image_format = UNREADABLE_SUFFIXES.get(path.suffix.lower())
        if image_format is not None:
            key = path.relative_to(folder.root).as_posix()
            recognised.issues.note("file", f"in an unsupported format ({image_format}), left out; export it as PNG or TIFF", key)
    if recognised.lists_images:
        listed = set(files)
        for path in folder.images:
            if path not in listed:
                recognised.issues.note("image", "that the annotation does not list, left out", path.relative_to(folder.root).as_posix())


def _labels(images: list[RawImage], path: Path) -> LabelSet:
    categories = {category for raw in images for category in raw.categories}
    if not categories:
        raise InputError(f"{path}: has no labelled cell; expected one or more")
    return LabelSet(tuple(sorted(categories)))


def _images(
    located: _Located, sizes: list[tuple[int, int]], labels: LabelSet, folder: ImageFinder, issues: AnnotationIssues, min_box_size: float
) -> list[AnnotatedImage]:
    """Map the categories to class ids and clean the boxes.

    Raises:
        InputError: an unknown category, an image that is listed twice, or boxes in fractions of 1 instead of pixels.
    """
    annotation = str(located.sources[0].path) if len({source.path for source in located.sources}) == 1 else str(folder.root)
    _check_pixels(located.raw, annotation)
    class_ids = labels.class_ids([category for raw in located.raw for category in raw.categories], annotation)
    split_at = np.cumsum([len(raw.categories) for raw in located.raw])[:-1]
    ids_by_image = np.split(class_ids, split_at) if located.raw else []
    has_parts = len({source.part for source in located.sources if source.part}) > 1
    images: dict[str, AnnotatedImage] = {}
    listed_by: dict[str, Source] = {}
    for source, raw, file, size, ids in zip(located.sources, located.raw, located.files, sizes, ids_by_image, strict=True):
        key = file.relative_to(folder.root).as_posix()
        boxes_xyxy = np.array([[0, 0, *size]]) if raw.whole else raw.boxes_xyxy * [*size, *size] if raw.relative else raw.boxes_xyxy
        boxes_xyxy, keep = clean_boxes(boxes_xyxy, size, min_box_size, key, issues)
        ignore = (ids[keep] == IGNORED) | (raw.ignore[keep] if len(raw.ignore) else False)
        part = raw.part or (source.part if has_parts else None)
        if key in images:
            raise _twice(key, listed_by[key], source)
        images[key], listed_by[key] = AnnotatedImage(key, file, size, key, boxes_xyxy, ids[keep], ignore, part, raw.whole), source
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


def _sizes(files: list[Path]) -> list[tuple[int, int]]:
    """Width and height of all images in pixels.

    Raises:
        InputError: some images cannot be read; the message lists the first `MAX_ERRORS` of them.
    """
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(_size_or_error, files))
    errors = [str(size) for size in sizes if isinstance(size, InputError)]
    if errors:
        more = f"\nand {len(errors) - MAX_ERRORS} more images" if len(errors) > MAX_ERRORS else ""
        raise InputError("\n".join(errors[:MAX_ERRORS]) + more)
    return [size for size in sizes if not isinstance(size, InputError)]


def _size_or_error(file: Path) -> tuple[int, int] | InputError:
    try:
        return image_size(file)
    except InputError as error:
        return error


def _declared(pairs: list[tuple[Source, RawImage]], folder: ImageFinder, path: Path) -> tuple[_Located, list[tuple[int, int]]]:
    """The images with their paths and sizes as declared; the image files need not exist."""
    files, sizes = [], []
    for source, raw in pairs:
        inner = inner_path(raw.name)
        if inner is None:
            raise InputError(f"{source.path}: image {excerpt(raw.name)} leads out of {folder.root}; expected a path below it")
        if raw.size_wh is None:
            raise InputError(f"{path}: image '{raw.name}' has no declared size; the image files are needed")
        files.append(folder.root / inner)
        sizes.append(raw.size_wh)
    return _Located([source for source, _ in pairs], [raw for _, raw in pairs], files), sizes
