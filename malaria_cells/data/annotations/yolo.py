"""YOLO's folders: ``data.yaml`` as Ultralytics and Roboflow write it, ``classes.txt`` and ``obj.names`` as others do; a text an image."""

from pathlib import Path

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt, number_of
from malaria_cells.base.yaml_text import load_yaml
from malaria_cells.data.annotations.file_index import Origin, leads_out
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.locate import ImageFolder
from malaria_cells.data.annotations.parts import part_named, part_of_path
from malaria_cells.data.annotations.source import RawImage, Source, read_text
from malaria_cells.data.annotations.yolo_classes import CLASS_FILES, PARTS, Classes, class_files, is_data_yaml, read_classes, yaml_files
from malaria_cells.data.annotations.yolo_labels import is_other, label_texts, looks_like_labels, read_rows, texts_of

FORMAT = Format(
    name="yolo",
    title="YOLO",
    recognised_by="`data.yaml` with `names`, or `classes.txt` or `obj.names` beside texts of numbers that are named as the images",
    exported_by="Ultralytics, Roboflow, CVAT (YOLO 1.1), Label Studio, LabelImg, makesense",
    not_read="scores; outlines, oriented boxes and key points serve as their bounding boxes",
)
_LOOKED_AT = 20  # texts, of which one that looks like labels is evidence enough


def recognises(source: Source) -> bool:
    """Whether it is a data.yaml with `names`, a file of class names beside label texts, or a folder that holds one of them."""
    if source.path.is_file():
        if source.path.suffix.lower() in {".yaml", ".yml"}:
            return is_data_yaml(load_yaml(source.path))
        return (source.path.name.lower() in CLASS_FILES or source.path.name.lower() == "obj.data") and _has_labels(_folder(source))
    return bool(yaml_files(source)) or (bool(class_files(source)) and _has_labels(source))


def describe(source: Source) -> str:
    """The file that names the classes, for people."""
    folder = _folder(source)
    return read_classes(folder, source.path).file.relative_to(folder.path).as_posix() if source.path.is_dir() else source.path.name


def why_not(source: Source) -> str:
    """What is missing where label texts lie in a folder that was not recognised; nothing where there are none."""
    if yaml_files(source) or class_files(source) or not _has_labels(source):
        return ""
    return (
        "Its texts look like YOLO's labels, but nothing names the classes: write a classes.txt beside them, one name a line in the order "
        "of their numbers, or a data.yaml with `names`, `train` and `val`."
    )


def read(source: Source) -> list[RawImage]:
    """Read every image of every part; an image without a text has no cells, and is counted.

    Raises:
        InputError: no class names, no images, no texts, or a line that is no label.
    """
    folder = _folder(source)
    classes = read_classes(folder, source.path)
    texts = label_texts(folder.files)
    if not folder.images and texts:
        return _without_images(folder, classes, texts)
    images = _with_parts(folder, classes)
    text_of = texts_of(folder.images, texts, folder.path)
    texts = [text for text in texts if text in text_of.values() or not is_other(text)]
    if not images:
        raise InputError(f"{classes.file}: found no images in the folders of train, val and test; they are looked for in {folder.path}")
    if not images.keys() & text_of.keys():
        first = next(iter(images))
        raise InputError(
            f"{classes.file}: none of {number_of(len(images), 'image')} has a text of labels; that of {first.relative_to(folder.path)} "
            f"was looked for in labels/.. in the place of images/.., and beside it, as {first.stem}.txt and {first.name}.txt. "
            "Rename the folders to `images` and `labels`, or the texts to the names of their images"
        )
    by_text: dict[Path, Path] = {}
    for image in sorted(images.keys() & text_of.keys()):
        other = by_text.setdefault(text_of[image], image)
        if other != image:
            both = f"{other.relative_to(folder.path).as_posix()} and {image.relative_to(folder.path).as_posix()}"
            folder.issues.note("text", "of labels that two images share, whose cells both of them get", both)
    for image in sorted(images.keys() - text_of.keys()):
        folder.issues.note("image", "without a text of labels, taken to hold no cell", image.relative_to(folder.path).as_posix())
    for text in sorted(set(texts) - set(text_of.values())):
        folder.issues.note("text", "of labels without an image, left out", text.relative_to(folder.path).as_posix())
    return [_image(classes, p.relative_to(folder.path).as_posix(), text_of.get(p), part) for p, part in images.items()]


def _without_images(folder: Source, classes: Classes, texts: list[Path]) -> list[RawImage]:
    """Texts alone; their images lie elsewhere, and go by the texts' names without the ending."""
    places = {text: text.relative_to(folder.path).with_suffix("") for text in texts if not is_other(text)}
    return [_image(classes, place.as_posix(), text, part_of_path(place.parts[:-1])) for text, place in places.items()]


def _image(classes: Classes, name: str, text: Path | None, part: str | None) -> RawImage:
    rows = read_rows(text, classes.key_point_values) if text is not None else []
    unknown = sorted({class_id for class_id, _ in rows} - classes.names.keys())
    if unknown:
        raise InputError(
            f"{text}: class {unknown[0]} is not in {classes.file.name}'s names, which are {number_of(len(classes.names), 'name')} "
            f"for the numbers up to {max(classes.names, default='none')}; add it there, or mend the text"
        )
    boxes = np.array([box for _, box in rows], dtype=np.float64).reshape(-1, 4)
    return RawImage(name, [classes.names[class_id] for class_id, _ in rows], boxes, part=part, relative=True)


def _folder(source: Source) -> Source:
    """The folder that is searched: the one of the file, or the folder itself."""
    return source if source.path.is_dir() else Source(source.path.parent, source.issues)


def _has_labels(folder: Source) -> bool:
    stems = {path.stem.casefold() for path in folder.images} | {path.name.casefold() for path in folder.images}
    named = [text for text in label_texts(folder.files) if text.stem.casefold() in stems or not stems]
    return any(looks_like_labels(text) for text in named[:_LOOKED_AT])


def _with_parts(folder: Source, classes: Classes) -> dict[Path, str | None]:
    """The images in the order of the parts, each with its part."""
    content, issues = classes.content, folder.issues
    declared = content.get("nc")
    if declared is not None and declared != len(classes.names):
        issues.note("declaration", f"nc: {excerpt(declared)} that does not fit {number_of(len(classes.names), 'name')}, not used", "nc")
    if not any(content.get(part) for part in PARTS):
        return {p: part_of_path(p.relative_to(folder.path).parts[:-1]) for p in folder.images}
    placed: dict[Path, str | None] = {}
    depth: dict[Path, int] = {}
    for key, part in PARTS.items():
        for image, deep in _images(folder, classes, key):
            if image in placed and placed[image] != part and deep == depth[image] and content.get(key) != content.get("train"):
                said = image.relative_to(folder.path).as_posix()
                issues.note("image", f"in several parts of {classes.file.name}, of which the first counts", said)
            # The narrower folder counts; where there is no validation part, `val` often names the training part again.
            if deep > depth.get(image, -1):
                placed[image], depth[image] = part, deep
    for image in folder.images:
        if image not in placed:
            issues.note("image", f"in no part that {classes.file.name} names, left out", image.relative_to(folder.path).as_posix())
    return placed


def _images(folder: Source, classes: Classes, key: str) -> list[tuple[Path, int]]:
    """The images of a part, sorted, each with the number of folders by which it was named."""
    entries = classes.content.get(key)
    listed = entries if isinstance(entries, list) else [] if entries in (None, "") else [entries]
    found: list[tuple[Path, int]] = []
    for entry in listed:
        if not isinstance(entry, str):
            raise InputError(f"{classes.file}: {key}: found {excerpt(entry)}, expected a folder, a list of images, or a list of those")
        place = _place(folder, classes, entry)
        if place is None and key == "train" and leads_out(entry):
            raise InputError(
                f"{classes.file}: train: '{entry}' is not in {folder.path}, and nothing outside of it is read; "
                "put the images there, or name the folder that holds both"
            )
        if place is None:
            folder.issues.note("part", f"of {classes.file.name} not found, left out", f"{key}: {entry}")
        elif place.is_file():
            found += [(image, len(image.parts)) for image in _of_list(folder, place)]
        else:
            found += [(p, len(place.parts)) for p in folder.images if place in p.parents]
    return sorted(found)


def _of_list(folder: Source, file: Path) -> list[Path]:
    finder, found = ImageFolder(folder.path), []
    for line in filter(None, map(str.strip, read_text(file).splitlines())):
        image = finder.find(line, Origin(file.parent))
        if image is None:
            folder.issues.note("line", f"of {file.name} for an image that is not there, left out", line)
        else:
            found.append(image)
    return found


def _place(folder: Source, classes: Classes, entry: str) -> Path | None:
    """A folder or list inside the data set, by the longest ending of its path: sets move to other machines after they were written."""
    base = str(classes.content.get("path") or "")
    parts = [part for part in f"{base}/{entry}".replace("\\", "/").split("/") if part not in {"", "."}]
    while ".." in parts:
        at = parts.index("..")
        del parts[max(at - 1, 0) : at + 1]
    beside = classes.file.parent
    starts = [beside] if beside == folder.path or not beside.is_relative_to(folder.path) else [beside, folder.path]
    folders = {parent for path in folder.files for parent in path.parents if parent.is_relative_to(folder.path)}
    known = {path.as_posix().casefold(): path for path in [*sorted(folders), *folder.files]}
    for first in range(len(parts) or 1):
        if any(part_named(part) for part in parts[:first]):  # another part's folder must not stand for this one's
            break
        for start in starts:
            place = known.get(start.joinpath(*parts[first:]).as_posix().casefold())
            if place is not None:
                return place
    return None
