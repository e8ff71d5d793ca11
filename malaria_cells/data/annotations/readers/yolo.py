"""YOLO data sets: one label file per image, and class names in ``data.yaml`` (Ultralytics), ``classes.txt`` or ``obj.names``."""

from pathlib import Path

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt, number_of
from malaria_cells.base.yaml_text import load_yaml
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.locate import ImageFolder
from malaria_cells.data.annotations.lookup import Origin
from malaria_cells.data.annotations.parts import part_named, part_of_path
from malaria_cells.data.annotations.readers import reader
from malaria_cells.data.annotations.source import RawImage, Source, read_text
from malaria_cells.data.annotations.written_paths import leads_out
from malaria_cells.data.annotations.yolo_classes import CLASS_FILES, PARTS, Classes, class_files, is_data_yaml, read_classes, yaml_files
from malaria_cells.data.annotations.yolo_labels import is_other, label_file_of_images, looks_like_labels, read_rows, text_files

FORMAT = Format(
    name="yolo",
    title="YOLO",
    recognised_by="`data.yaml` with `names`, or `classes.txt` or `obj.names` beside texts of numbers that are named as the images",
    exported_by="Ultralytics, Roboflow, CVAT (YOLO 1.1), Label Studio, LabelImg, makesense",
    not_read="scores; outlines, oriented boxes and key points serve as their bounding boxes",
)
_MAX_CHECKED = 20  # label files that are checked; one that looks like labels is enough evidence


def recognises(source: Source) -> bool:
    """Whether the source is a data.yaml with `names`, a file of class names beside label files, or a folder with one of these."""
    if source.path.is_file():
        if source.path.suffix.lower() in {".yaml", ".yml"}:
            return is_data_yaml(load_yaml(source.path))
        return (source.path.name.lower() in CLASS_FILES or source.path.name.lower() == "obj.data") and _has_labels(_folder(source))
    return bool(yaml_files(source)) or (bool(class_files(source)) and _has_labels(source))


def describe(source: Source) -> str:
    """The path of the file with the class names, for messages."""
    folder = _folder(source)
    return read_classes(folder, source.path).file.relative_to(folder.path).as_posix() if source.path.is_dir() else source.path.name


def why_not(source: Source) -> str:
    """What a folder with label files lacks to be recognised; empty if it has no label files."""
    if yaml_files(source) or class_files(source) or not _has_labels(source):
        return ""
    return (
        "It has YOLO label files, but no class names: write a classes.txt beside them, with one name per line in the order of their "
        "numbers, or a data.yaml with `names`, `train` and `val`."
    )


@reader(FORMAT, recognises, rank=130, describe=describe, why_not=why_not)
def read(source: Source) -> list[RawImage]:
    """Read the images of all parts; an image without a label file has no cells, and is added to the issues.

    Raises:
        InputError: class names, images or label files are missing, or a line of a label file is invalid.
    """
    folder = _folder(source)
    classes = read_classes(folder, source.path)
    label_files = text_files(folder.files)
    if not folder.images and label_files:
        return _without_images(folder, classes, label_files)
    images = _with_parts(folder, classes)
    labels_of = label_file_of_images(folder.images, label_files, folder.path)
    label_files = [file for file in label_files if file in labels_of.values() or not is_other(file)]
    if not images:
        raise InputError(f"{classes.file}: found no images in the folders of train, val and test; expected them in {folder.path}")
    if not images.keys() & labels_of.keys():
        first = next(iter(images))
        raise InputError(
            f"{classes.file}: none of {number_of(len(images), 'image')} has a label file; for {first.relative_to(folder.path)}, expected "
            f"{first.stem}.txt or {first.name}.txt beside it, or in a folder `labels` in the place of its folder `images`. "
            "Rename the folders to `images` and `labels`, or the label files to the names of their images"
        )
    first_image: dict[Path, Path] = {}
    for image in sorted(images.keys() & labels_of.keys()):
        first = first_image.setdefault(labels_of[image], image)
        if first != image:
            both = f"{first.relative_to(folder.path).as_posix()} and {image.relative_to(folder.path).as_posix()}"
            folder.issues.note("label file", "shared by two images, read for both", both)
    for image in sorted(images.keys() - labels_of.keys()):
        folder.issues.note("image", "without a label file, read as an image without cells", image.relative_to(folder.path).as_posix())
    for file in sorted(set(label_files) - set(labels_of.values())):
        folder.issues.note("label file", "without an image, left out", file.relative_to(folder.path).as_posix())
    return [_image(classes, image.relative_to(folder.path).as_posix(), labels_of.get(image), part) for image, part in images.items()]


def _without_images(folder: Source, classes: Classes, label_files: list[Path]) -> list[RawImage]:
    """Read a folder of label files only; the images are elsewhere and have the names of the label files without the extension."""
    names = {file: file.relative_to(folder.path).with_suffix("") for file in label_files if not is_other(file)}
    return [_image(classes, name.as_posix(), file, part_of_path(name.parts[:-1])) for file, name in names.items()]


def _image(classes: Classes, name: str, label_file: Path | None, part: str | None) -> RawImage:
    rows = read_rows(label_file, classes.key_point_values) if label_file is not None else []
    unknown = sorted({class_id for class_id, _ in rows} - classes.names.keys())
    if unknown:
        raise InputError(
            f"{label_file}: class {unknown[0]} has no name in {classes.file.name}, which has {number_of(len(classes.names), 'name')} "
            f"for the numbers up to {max(classes.names, default='none')}; add the name there, or correct the label file"
        )
    boxes = np.array([box for _, box in rows], dtype=np.float64).reshape(-1, 4)
    return RawImage(name, [classes.names[class_id] for class_id, _ in rows], boxes, part=part, relative=True)


def _folder(source: Source) -> Source:
    """The source itself if it is a folder, else the folder of the file."""
    return source if source.path.is_dir() else Source(source.path.parent, source.issues)


def _has_labels(folder: Source) -> bool:
    stems = {path.stem.casefold() for path in folder.images} | {path.name.casefold() for path in folder.images}
    candidates = [file for file in text_files(folder.files) if file.stem.casefold() in stems or not stems]
    return any(looks_like_labels(file) for file in candidates[:_MAX_CHECKED])


def _with_parts(folder: Source, classes: Classes) -> dict[Path, str | None]:
    """The images in the order of the parts, each with its part or None."""
    content, issues = classes.content, folder.issues
    declared = content.get("nc")
    if declared is not None and declared != len(classes.names):
        issues.note("declaration", f"nc: {excerpt(declared)} that contradicts {number_of(len(classes.names), 'name')}, ignored", "nc")
    if not any(content.get(part) for part in PARTS):
        return {image: part_of_path(image.relative_to(folder.path).parts[:-1]) for image in folder.images}
    part_of: dict[Path, str | None] = {}
    depth_of: dict[Path, int] = {}
    for key, part in PARTS.items():
        for image, depth in _images(folder, classes, key):
            if image in part_of and part_of[image] != part and depth == depth_of[image] and content.get(key) != content.get("train"):
                example = image.relative_to(folder.path).as_posix()
                issues.note("image", f"in several parts of {classes.file.name}, assigned to the first", example)
            # The deepest folder decides. Without a validation part, `val` often names the folder of `train`.
            if depth > depth_of.get(image, -1):
                part_of[image], depth_of[image] = part, depth
    for image in folder.images:
        if image not in part_of:
            issues.note("image", f"outside of the parts in {classes.file.name}, left out", image.relative_to(folder.path).as_posix())
    return part_of


def _images(folder: Source, classes: Classes, key: str) -> list[tuple[Path, int]]:
    """The images of a part, sorted, each with the depth (number of path components) of the entry that contains it."""
    entries = classes.content.get(key)
    entries = entries if isinstance(entries, list) else [] if entries in (None, "") else [entries]
    images: list[tuple[Path, int]] = []
    for entry in entries:
        if not isinstance(entry, str):
            raise InputError(f"{classes.file}: {key}: found {excerpt(entry)}, expected a folder, a list of images, or several of these")
        place = _place(folder, classes, entry)
        if place is None and key == "train" and leads_out(entry):
            raise InputError(
                f"{classes.file}: train: {excerpt(entry)} is not in {folder.path}, and files outside of that folder are not read; "
                "put the images there, or name a folder that contains both"
            )
        if place is None:
            folder.issues.note("part", f"of {classes.file.name} not found, left out", f"{key}: {entry}")
        elif place.is_file():
            images += [(image, len(image.parts)) for image in _from_list(folder, place)]
        else:
            images += [(image, len(place.parts)) for image in folder.images if place in image.parents]
    return sorted(images)


def _from_list(folder: Source, file: Path) -> list[Path]:
    """The images that a text file lists, one path per line."""
    finder, images = ImageFolder(folder.path), []
    for line in filter(None, map(str.strip, read_text(file).splitlines())):
        image = finder.find(line, Origin(file.parent))
        if image is None:
            folder.issues.note("line", f"of {file.name} with a missing image, left out", line)
        else:
            images.append(image)
    return images


def _place(folder: Source, classes: Classes, entry: str) -> Path | None:
    """The folder or list file that an entry names, by the longest matching end of its path, since data sets are moved between machines."""
    base = str(classes.content.get("path") or "")
    parts = [part for part in f"{base}/{entry}".replace("\\", "/").split("/") if part not in {"", "."}]
    while ".." in parts:
        i = parts.index("..")
        del parts[max(i - 1, 0) : i + 1]
    yaml_folder = classes.file.parent
    starts = [yaml_folder] if yaml_folder == folder.path or not yaml_folder.is_relative_to(folder.path) else [yaml_folder, folder.path]
    folders = {parent for path in folder.files for parent in path.parents if parent.is_relative_to(folder.path)}
    known = {path.as_posix().casefold(): path for path in [*sorted(folders), *folder.files]}
    for first in range(len(parts) or 1):
        if any(part_named(part) for part in parts[:first]):  # the rest of the path could match the folder of another part
            break
        for start in starts:
            place = known.get(start.joinpath(*parts[first:]).as_posix().casefold())
            if place is not None:
                return place
    return None
