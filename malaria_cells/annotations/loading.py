"""From an annotation file to an `AnnotationSet`: recognise the format, find the pictures, check every box."""

import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from malaria_cells.annotations import bbbc041, class_folders, coco_json, csv_table, iml, voc, yolo
from malaria_cells.annotations.annotation_set import AnnotationSet, Picture
from malaria_cells.annotations.cleaning import clean_boxes
from malaria_cells.annotations.locate import PictureFinder, PictureFolder
from malaria_cells.annotations.source import RawPicture, Source
from malaria_cells.errors import InputError, nearest
from malaria_cells.labels import IGNORED, LabelSet
from malaria_cells.pictures import picture_size

log = logging.getLogger(__name__)

FORMATS = (bbbc041, iml, coco_json, csv_table, yolo, voc, class_folders)  # folders of classes last: they are the least particular
FORMAT_NAMES = tuple(module.FORM.name for module in FORMATS)


def load_annotations(
    path: Path,
    labels: LabelSet | None,
    *,
    root: Path | None = None,
    finder: PictureFinder | None = None,
    annotation_format: str = "auto",
    group: str | None = None,
    min_box_size: float = 4,
    pictures: Literal["required", "declared", "found"] = "required",
) -> AnnotationSet:
    """Read an annotation file of any format known.

    Args:
        path: the annotation file or folder.
        labels: class names to map categories to; None: the categories found, in alphabetical order.
        root: folder of the pictures; the annotation's own folder by default. Keys are relative to it.
        finder: looks the pictures up instead, with a root of its own.
        annotation_format: one of `FORMAT_NAMES`, or ``auto`` to look at the content.
        group: ``folder`` (pictures of one folder are one group), or a regular expression whose first group, searched
            in the key, names the picture's group; None: every picture on its own.
        min_box_size: boxes whose shorter side is under this many pixels are dropped.
        pictures: ``required``: those that are not there are left out with a warning, an error if they are more than
            half; ``found``: those that are not there are left out, silently; ``declared``: none need be there, the sizes
            are those that the annotation declares.

    Raises:
        InputError: no such file, unknown format or category, too many pictures missing.

    Examples:
        >>> import tempfile
        >>> from malaria_cells.sample import write_sample
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_sample(Path(folder), training=2, test=1, seed=0, size_wh=(320, 240))
        ...     annotations = load_annotations(Path(folder) / "training.json", None)
        >>> len(annotations), annotations.pictures[0].boxes_xyxy.shape[1]
        (2, 4)
    """
    source, raw = _read(path, annotation_format)
    folder = finder or _folder(path, root)
    if pictures == "declared":
        files, sizes = [folder.root / r.name for r in raw], _declared_sizes(raw, path)
    else:
        raw, files = _files(raw, folder, source, may_miss=pictures == "found")
        sizes = _sizes(files)
    categories = [c for r in raw for c in r.categories]
    if labels is None and not categories:
        raise InputError(f"{path}: holds no labelled cell")
    labels = labels or LabelSet(tuple(sorted(set(categories))))
    class_ids = labels.class_ids(categories, str(path))
    split_at = np.cumsum([len(r.categories) for r in raw])[:-1]
    found = []
    for r, file, size, ids in zip(raw, files, sizes, np.split(class_ids, split_at) if raw else [], strict=True):
        key = file.relative_to(folder.root).as_posix()
        boxes_xyxy = np.array([[0, 0, *size]]) if r.whole else r.boxes_xyxy
        kept_boxes, kept = clean_boxes(boxes_xyxy, size, min_box_size, key, source.oddities)
        ignore = (ids[kept] == IGNORED) | (r.ignore[kept] if len(r.ignore) else False)
        found.append(Picture(key, file, size, _group(key, group), kept_boxes, ids[kept], ignore, r.part, r.whole))
    _check_unique(found, path)
    for line in source.oddities.lines(path):
        log.warning(line)
    return AnnotationSet(labels, tuple(sorted(found, key=lambda p: p.key)), source.oddities.lines(path))


def found_categories(path: Path, *, root: Path | None = None, annotation_format: str = "auto") -> list[str]:
    """The categories that occur on pictures which are there, in alphabetical order; no box is looked at and nothing warned of.

    Args:
        path: as `load_annotations`.
        root: likewise.
        annotation_format: likewise.

    Raises:
        InputError: no such file, unknown format, no picture listed.
    """
    source, raw = _read(path, annotation_format)
    there, _ = _files(raw, _folder(path, root), source, may_miss=True)
    return sorted({category for r in there for category in r.categories})


def find_annotation(root: Path, usual_names: tuple[str, ...]) -> Path | None:
    """The annotation of a data set's folder: the first of the usual files that is there, or the folder itself, or None."""
    for name in usual_names:
        if (root / name).is_file():
            return root / name
    source = Source(root)
    return root if any(module.recognises(source) for module in FORMATS) else None


def _read(path: Path, annotation_format: str) -> tuple[Source, list[RawPicture]]:
    if not path.exists():
        raise InputError(f"{path}: no such annotation file")
    source = Source(path)
    with np.errstate(over="ignore", invalid="ignore"):  # boxes that become infinite are dropped with a note
        raw = _reader(source, annotation_format)(source)
    if not raw:
        raise InputError(f"{path}: holds no picture")
    for r in raw:
        for text in (r.name, *r.categories):
            if not isinstance(text, str):
                raise InputError(f"{path}: picture {r.name!r} has the name or category {text!r}; expected a text")
    return source, raw


def _folder(path: Path, root: Path | None) -> PictureFolder:
    return PictureFolder(root if root is not None else path if path.is_dir() else path.parent)


def _reader(source: Source, annotation_format: str) -> Callable[[Source], list[RawPicture]]:
    if annotation_format != "auto":
        for module in FORMATS:
            if annotation_format == module.FORM.name:
                return module.read
        raise InputError(
            f"annotation_format: '{annotation_format}' is unknown{nearest(annotation_format, FORMAT_NAMES)}; "
            f"expected auto, {', '.join(FORMAT_NAMES)}"
        )
    for module in FORMATS:
        if module.recognises(source):
            return module.read
    raise InputError(f"{source.path}: not an annotation of a known format; expected one of {', '.join(FORMAT_NAMES)}")


def _files(raw: list[RawPicture], folder: PictureFinder, source: Source, may_miss: bool) -> tuple[list[RawPicture], list[Path]]:
    if not folder.root.is_dir():
        raise InputError(f"{folder.root}: no such folder of pictures")
    pairs = [(r, folder.find(r.name)) for r in raw]
    missing = [r.name for r, file in pairs if file is None]
    if len(missing) > len(raw) / 2 and not may_miss:
        raise InputError(f"{source.path}: {len(missing)} of {len(raw)} pictures are not in {folder.root}; first: {missing[0]}")
    if missing and not may_miss:
        source.oddities.note("picture", f"missing in {folder.root}, left out", missing[0], len(missing))
    found = [(r, file) for r, file in pairs if file is not None]
    return [r for r, _ in found], [file for _, file in found]


def _sizes(files: list[Path]) -> list[tuple[int, int]]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(picture_size, files))


def _declared_sizes(raw: list[RawPicture], source: Path) -> list[tuple[int, int]]:
    sizes = [r.size_wh for r in raw]
    if None in sizes:
        raise InputError(f"{source}: picture '{raw[sizes.index(None)].name}' declares no size; the pictures themselves are needed")
    return [size for size in sizes if size is not None]


def _group(key: str, group: str | None) -> str:
    if group is None:
        return key
    if group == "folder":
        return PurePosixPath(key).parent.as_posix()
    try:
        found = re.search(group, key)
        return found.group(1) if found else key
    except (re.error, IndexError) as error:
        raise InputError(f"group: '{group}' is not a regular expression with one (group): {error}") from error


def _check_unique(pictures: list[Picture], source: Path) -> None:
    seen: set[str] = set()
    for picture in pictures:
        if picture.key in seen:
            raise InputError(f"{source}: picture '{picture.key}' is listed twice; merge its boxes into one entry")
        seen.add(picture.key)
