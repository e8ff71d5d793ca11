"""From an annotation file or folder to an `AnnotationSet`: recognise the format, find the images, check every box."""

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

MOST_FAULTS = 10  # images that cannot be read, which one message names


@dataclass(frozen=True)
class _Located:
    """Images as their files have them, each with its source and its own file."""

    sources: list[Source]
    raw: list[RawImage]
    files: list[Path]


def load_annotations(
    path: Path,
    labels: LabelSet | None,
    *,
    root: Path | None = None,
    finder: ImageFinder | None = None,
    annotation_format: str = "auto",
    group: str | None = None,
    min_box_size: float = 4,
    images: Literal["required", "declared", "found"] = "required",
    warn: bool = True,
) -> AnnotationSet:
    """Read an annotation file, or the folder of a data set, of any format known.

    Args:
        path: the annotation file or folder; of a folder all files of its format are read together.
        labels: class names to map categories to; None: the categories found, in alphabetical order.
        root: folder of the images; the annotation's own folder by default, or the one around it where that is called ``annotations`` or
            the like and holds no images. Keys are relative to it.
        finder: looks the images up instead, with a root of its own.
        annotation_format: one of `FORMAT_NAMES`, or ``auto`` to look at the content.
        group: ``folder`` (images of one folder are one group), or a regular expression whose first group, searched
            in the key, names the image's group; None: every image on its own.
        min_box_size: boxes whose shorter side is under this many pixels are dropped.
        images: ``required``: those that are not there are left out with a warning, an error if they are more than
            half; ``found``: those that are not there are left out, silently; ``declared``: none need be there, the sizes
            are those that the annotation declares.
        warn: whether `AnnotationSet.issues` are logged, too; before an error they always are.

    Raises:
        InputError: no such file, unknown format or category, too many images missing. What was left out before is logged first,
            since it may be the reason.

    Examples:
        >>> import tempfile
        >>> from malaria_cells.data.sample import write_sample
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_sample(Path(folder), training=2, test=1, seed=0, size_wh=(320, 240))
        ...     annotations = load_annotations(Path(folder) / "training.json", None)
        >>> len(annotations), annotations.images[0].boxes_xyxy.shape[1]
        (2, 4)
    """
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
            _note_what_is_left(recognised, folder, located.files)
        labels = labels or _found_labels(located.raw, path)
        found = _images(located, sizes, labels, folder, recognised.issues, min_box_size)
        found = grouped(found, group, path)
    except InputError:
        _log(recognised.issues, path)
        raise
    if warn:
        _log(recognised.issues, path)
    return AnnotationSet(labels, tuple(sorted(found, key=lambda p: p.key)), recognised.issues.lines(path), str(recognised))


def found_categories(path: Path, *, root: Path | None = None, annotation_format: str = "auto") -> list[str]:
    """The categories that occur on images which are there, in alphabetical order; no box is looked at and nothing warned of.

    Args:
        path: as `load_annotations`.
        root: likewise.
        annotation_format: likewise.

    Raises:
        InputError: no such file, unknown format, no image listed.
    """
    recognised = recognise(path, annotation_format)
    pairs = _read(recognised, path)
    located = _locate(pairs, _folder(path, root, pairs), path, recognised.issues, may_miss=True)
    return sorted({category for r in located.raw for category in r.categories})


def _log(issues: AnnotationIssues, path: Path) -> None:
    for line in issues.lines(path):
        log.warning(line)


def _read(recognised: Recognised, path: Path) -> list[tuple[Source, RawImage]]:
    with np.errstate(over="ignore", invalid="ignore"):  # boxes that become infinite are dropped with a note
        pairs = recognised.read()
    if not pairs:
        raise InputError(f"{path}: holds no image")
    for source, r in pairs:
        if not all(str(category).strip() for category in r.categories):
            raise InputError(f"{source.path}: image {excerpt(r.name)} has a cell of a class without a name; name it")
        for text in (r.name, *r.categories):
            if not isinstance(text, str):
                raise InputError(f"{source.path}: image {excerpt(r.name)} has the name or category {excerpt(text)}; expected a text")
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                raise InputError(f"{source.path}: {excerpt(text)} holds half of a character and is no text; export it again") from None
    return pairs


def _folder(path: Path, root: Path | None, pairs: list[tuple[Source, RawImage]]) -> ImageFolder:
    own = ImageFolder(root if root is not None else path if path.is_dir() else path.parent)
    if root is not None or own.root.resolve().name.lower() not in ANNOTATION_FOLDERS:
        return own
    if own.images:
        return own
    around = ImageFolder(own.root.resolve().parent if own.root.name in {"", ".."} else own.root.parent)
    return around if any(_any_name(around, r, None) is not None for _, r in pairs) else own


def _any_name(folder: ImageFinder, r: RawImage, origin: Origin | None) -> Path | None:
    return next((file for name in (r.name, *r.other_names) if (file := folder.find(name, origin)) is not None), None)


def _locate(pairs: list[tuple[Source, RawImage]], folder: ImageFinder, path: Path, issues: AnnotationIssues, may_miss: bool) -> _Located:
    if not folder.root.is_dir():
        raise InputError(f"{folder.root}: no such folder of images")
    origin_of = _origins([source for source, _ in pairs], folder)
    placed = [(source, r, _any_name(folder, r, origin_of[source.path])) for source, r in pairs]
    missing = [r.name for _, r, file in placed if file is None]
    if len(missing) > len(pairs) / 2 and not may_miss:
        raise InputError(
            f"{path}: {len(missing)} of {len(pairs)} images are not in {folder.root}; first: {shortened(missing[0])}; "
            "name the folder that they are in (`train_images` in a config, --images of explore, convert and gallery)"
        )
    if missing and not may_miss:
        issues.note("image", f"missing in {folder.root}, left out", missing[0], len(missing))
    there = [(source, r, file) for source, r, file in placed if file is not None]
    for _, r, file in there:
        suffix = PurePosixPath(r.name).suffix.lower()
        if (
            suffix
            and suffix != file.suffix.lower()
            and not r.other_names
            and file.name != r.name
            and file.stem != PurePosixPath(r.name).name
        ):
            issues.note("image", "found under another ending", f"{r.name}, which is {file.name}")
    return _Located([s for s, _, _ in there], [r for _, r, _ in there], [file for _, _, file in there])


def _origins(sources: list[Source], folder: ImageFinder) -> dict[Path, Origin | None]:
    """Where each annotation file lies, as far as that tells which images it means."""
    homes = {s.path if s.path.is_dir() else s.path.parent for s in sources}
    if not isinstance(folder, ImageFolder):
        return {s.path: Origin(s.path if s.path.is_dir() else s.path.parent) for s in sources}
    with_images = {image.parent for image in folder.images}
    origins: dict[Path, Origin | None] = {}
    for source in {s.path: s for s in sources}.values():
        home = source.path if source.path.is_dir() else source.path.parent
        strict = len(homes) > 1 or home in with_images
        origins[source.path] = Origin(home, source.part, strict) if home.is_relative_to(folder.root) else None
    return origins


def _compare_all(located: _Located, sizes: list[tuple[int, int]], issues: AnnotationIssues) -> _Located:
    """Compare the sizes that annotations declare with those of the files; boxes that were drawn on a lying image are turned with it."""
    raw = [compare_sizes(r, file, size, issues) for r, file, size in zip(located.raw, located.files, sizes, strict=True)]
    return replace(located, raw=raw)


def _note_what_is_left(recognised: Recognised, folder: ImageFinder, files: list[Path]) -> None:
    if not isinstance(folder, ImageFolder):
        return
    for path in folder.files:
        kind = UNREADABLE_SUFFIXES.get(path.suffix.lower())
        if kind is not None:
            key = path.relative_to(folder.root).as_posix()
            recognised.issues.note("file", f"in a format that is not read ({kind}), left out; export it as PNG or TIFF", key)
    if recognised.lists_images:
        listed = set(files)
        for path in folder.images:
            if path not in listed:
                recognised.issues.note("image", "that the annotation does not list, left out", path.relative_to(folder.root).as_posix())


def _found_labels(raw: list[RawImage], path: Path) -> LabelSet:
    categories = {c for r in raw for c in r.categories}
    if not categories:
        raise InputError(f"{path}: holds no labelled cell")
    return LabelSet(tuple(sorted(categories)))


def _images(
    located: _Located, sizes: list[tuple[int, int]], labels: LabelSet, folder: ImageFinder, issues: AnnotationIssues, min_box_size: float
) -> list[AnnotatedImage]:
    raw = located.raw
    source = str(located.sources[0].path) if len({s.path for s in located.sources}) == 1 else str(folder.root)
    _check_pixels(raw, source)
    class_ids = labels.class_ids([c for r in raw for c in r.categories], source)
    split_at = np.cumsum([len(r.categories) for r in raw])[:-1]
    has_parts = len({s.part for s in located.sources if s.part}) > 1
    found: dict[str, AnnotatedImage] = {}
    listed_by: dict[str, Source] = {}
    each = zip(located.sources, raw, located.files, sizes, np.split(class_ids, split_at) if raw else [], strict=True)
    for of, r, file, size, ids in each:
        key = file.relative_to(folder.root).as_posix()
        boxes_xyxy = np.array([[0, 0, *size]]) if r.whole else r.boxes_xyxy * [*size, *size] if r.relative else r.boxes_xyxy
        kept_boxes, kept = clean_boxes(boxes_xyxy, size, min_box_size, key, issues)
        ignore = (ids[kept] == IGNORED) | (r.ignore[kept] if len(r.ignore) else False)
        part = r.part or (of.part if has_parts else None)
        if key in found:
            raise _twice(key, listed_by[key], of)
        found[key], listed_by[key] = AnnotatedImage(key, file, size, key, kept_boxes, ids[kept], ignore, part, r.whole), of
    return list(found.values())


def _check_pixels(raw: list[RawImage], source: str) -> None:
    """Refuse boxes in fractions of 1 where pixels are expected: all of them would be dropped as too small.

    Raises:
        InputError: no coordinate is over 1.
    """
    boxes_xyxy = [r.boxes_xyxy for r in raw if not r.whole and not r.relative and len(r.boxes_xyxy)]
    every = np.concatenate(boxes_xyxy) if boxes_xyxy else np.zeros((0, 4))
    finite = every[np.isfinite(every).all(axis=1)]
    if len(finite) and finite.max() <= 1 and (finite[:, 2:] > finite[:, :2]).any():
        raise InputError(
            f"{source}: no coordinate of its boxes is over 1: they are fractions of the images' sizes; multiply them by width and "
            "height, since this format counts pixels"
        )


def _twice(key: str, first: Source, second: Source) -> InputError:
    if first.path != second.path and first.path.suffix.lower() == ".xml":
        return InputError(
            f"{first.path} and {second.path} are both for the image '{key}'; mend the <filename> of the one that is for another image"
        )
    if first.path == second.path:
        return InputError(f"{first.path}: image '{key}' is listed twice; if both are for the same image, merge its boxes into one entry")
    return InputError(
        f"image '{key}' is listed twice, in {first.path} and in {second.path}; name the file that counts in the place of the folder "
        "(`annotations` in a config), or merge them"
    )


def _sizes(files: list[Path]) -> list[tuple[int, int]]:
    """Sizes of all images.

    Raises:
        InputError: some cannot be read; names the first few of them, so that they need not be found one by one.
    """
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(_size_or_fault, files))
    faults = [str(size) for size in sizes if isinstance(size, InputError)]
    if faults:
        more = f"\nand {len(faults) - MOST_FAULTS} more images" if len(faults) > MOST_FAULTS else ""
        raise InputError("\n".join(faults[:MOST_FAULTS]) + more)
    return [size for size in sizes if not isinstance(size, InputError)]


def _size_or_fault(file: Path) -> tuple[int, int] | InputError:
    try:
        return image_size(file)
    except InputError as error:
        return error


def _declared(pairs: list[tuple[Source, RawImage]], folder: ImageFinder, path: Path) -> tuple[_Located, list[tuple[int, int]]]:
    files, sizes = [], []
    for source, r in pairs:
        inner = inner_path(r.name)
        if inner is None:
            raise InputError(f"{source.path}: image {excerpt(r.name)} leads out of {folder.root}; expected a path below it")
        if r.size_wh is None:
            raise InputError(f"{path}: image '{r.name}' declares no size; the images themselves are needed")
        files.append(folder.root / inner)
        sizes.append(r.size_wh)
    return _Located([source for source, _ in pairs], [r for _, r in pairs], files), sizes
