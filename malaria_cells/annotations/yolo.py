"""YOLO's folders: ``data.yaml`` as Ultralytics and Roboflow write it, ``classes.txt`` and ``obj.names`` as others do; a text a picture."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.annotations.form import Form
from malaria_cells.annotations.locate import PictureFolder, leads_out
from malaria_cells.annotations.parts import part_named, part_of_path
from malaria_cells.annotations.source import RawPicture, Source, read_text
from malaria_cells.annotations.yolo_labels import is_other, label_texts, looks_like_labels, read_rows, texts_of
from malaria_cells.errors import InputError
from malaria_cells.wording import excerpt, number_of
from malaria_cells.yaml_text import load_yaml

FORM = Form(
    name="yolo",
    title="YOLO",
    recognised_by="`data.yaml` with `names`, or `classes.txt` or `obj.names` beside texts of numbers that are named as the pictures",
    exported_by="Ultralytics, Roboflow, CVAT (YOLO 1.1), Label Studio, LabelImg, makesense",
    not_read="scores; outlines, oriented boxes and key points serve as their bounding boxes",
)
_PARTS = {"train": "train", "val": "validation", "test": "test"}
_CLASS_FILES = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt", "class_names.txt", "labels.txt", "classes.names")
_USUAL_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_LOOKED_AT = 20  # texts, of which one that looks like labels is evidence enough


@dataclass(frozen=True)
class _Classes:
    """Class names by number, the file that they are from, and the parts that it names."""

    file: Path
    names: dict[int, str]
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def key_point_values(self) -> int:
        shape = self.content.get("kpt_shape")
        if shape is None:
            return 0
        if not isinstance(shape, list) or not shape or not all(isinstance(n, int) and 0 < n < 1000 for n in shape):
            raise InputError(f"{self.file}: kpt_shape: found {excerpt(shape)}, expected two whole numbers such as [17, 3]")
        return math.prod(shape)


def recognises(source: Source) -> bool:
    """Whether it is a data.yaml with `names`, a file of class names beside label texts, or a folder that holds one of them."""
    if source.path.is_file():
        if source.path.suffix.lower() in {".yaml", ".yml"}:
            return _is_data_yaml(load_yaml(source.path))
        return (source.path.name.lower() in _CLASS_FILES or source.path.name.lower() == "obj.data") and _has_labels(_folder(source))
    return bool(_yaml_files(source)) or (bool(_class_files(source)) and _has_labels(source))


def describe(source: Source) -> str:
    """The file that names the classes, for people."""
    folder = _folder(source)
    return _classes(folder, source.path).file.relative_to(folder.path).as_posix() if source.path.is_dir() else source.path.name


def why_not(source: Source) -> str:
    """What is missing where label texts lie in a folder that was not recognised; nothing where there are none."""
    if _yaml_files(source) or _class_files(source) or not _has_labels(source):
        return ""
    return (
        "Its texts look like YOLO's labels, but nothing names the classes: write a classes.txt beside them, one name a line in the order "
        "of their numbers, or a data.yaml with `names`, `train` and `val`."
    )


def read(source: Source) -> list[RawPicture]:
    """Read every picture of every part; a picture without a text has no cells, and is counted.

    Raises:
        InputError: no class names, no pictures, no texts, or a line that is no label.
    """
    folder = _folder(source)
    classes = _classes(folder, source.path)
    texts = label_texts(folder.files)
    if not folder.pictures and texts:
        return _without_pictures(folder, classes, texts)
    pictures = _with_parts(folder, classes)
    text_of = texts_of(folder.pictures, texts, folder.path)
    texts = [text for text in texts if text in text_of.values() or not is_other(text)]
    if not pictures:
        raise InputError(f"{classes.file}: found no pictures in the folders of train, val and test; they are looked for in {folder.path}")
    if not pictures.keys() & text_of.keys():
        first = next(iter(pictures))
        raise InputError(
            f"{classes.file}: none of {number_of(len(pictures), 'picture')} has a text of labels; that of {first.relative_to(folder.path)} "
            f"was looked for in labels/.. in the place of images/.., and beside it, as {first.stem}.txt and {first.name}.txt"
        )
    for picture in sorted(pictures.keys() - text_of.keys()):
        folder.oddities.note("picture", "without a text of labels, taken to hold no cell", picture.relative_to(folder.path).as_posix())
    for text in sorted(set(texts) - set(text_of.values())):
        folder.oddities.note("text", "of labels without a picture, left out", text.relative_to(folder.path).as_posix())
    return [_picture(classes, p.relative_to(folder.path).as_posix(), text_of.get(p), part) for p, part in pictures.items()]


def _without_pictures(folder: Source, classes: _Classes, texts: list[Path]) -> list[RawPicture]:
    """Texts alone; their pictures lie elsewhere, and go by the texts' names without the ending."""
    places = {text: text.relative_to(folder.path).with_suffix("") for text in texts if not is_other(text)}
    return [_picture(classes, place.as_posix(), text, part_of_path(place.parts[:-1])) for text, place in places.items()]


def _picture(classes: _Classes, name: str, text: Path | None, part: str | None) -> RawPicture:
    rows = read_rows(text, classes.key_point_values) if text is not None else []
    unknown = sorted({class_id for class_id, _ in rows} - classes.names.keys())
    if unknown:
        raise InputError(
            f"{text}: class {unknown[0]} is not in {classes.file.name}'s names, which are {number_of(len(classes.names), 'name')} "
            f"for the numbers up to {max(classes.names, default='none')}; add it there, or mend the text"
        )
    boxes = np.array([box for _, box in rows], dtype=np.float64).reshape(-1, 4)
    return RawPicture(name, [classes.names[class_id] for class_id, _ in rows], boxes, part=part, relative=True)


def _folder(source: Source) -> Source:
    """The folder that is searched: the one of the file, or the folder itself."""
    return source if source.path.is_dir() else Source(source.path.parent, source.oddities)


def _has_labels(folder: Source) -> bool:
    stems = {path.stem.casefold() for path in folder.pictures} | {path.name.casefold() for path in folder.pictures}
    named = [text for text in label_texts(folder.files) if text.stem.casefold() in stems or not stems]
    return any(looks_like_labels(text) for text in named[:_LOOKED_AT])


def _is_data_yaml(content: Any) -> bool:
    return isinstance(content, dict) and "names" in content


def _yaml_files(folder: Source) -> list[Path]:
    """The files of the upper-most level that are a data.yaml by name, or by `names` and a part."""
    found: list[Path] = []
    for path in sorted(folder.files, key=lambda p: (len(p.parts), p.name.lower() not in _USUAL_YAML, p)):
        if path.suffix.lower() not in {".yaml", ".yml"} or (found and len(path.parts) > len(found[0].parts)):
            continue
        by_name = path.name.lower() in _USUAL_YAML
        try:
            content = load_yaml(path)
        except InputError:
            if by_name:  # it is told what is wrong with it as it is read
                found.append(path)
            continue
        if by_name or (_is_data_yaml(content) and any(part in content for part in _PARTS)):
            found.append(path)
    return found


def _is_usual(files: list[Path]) -> bool:
    return bool(files) and files[0].name.lower() in _USUAL_YAML


def _class_files(folder: Source) -> list[Path]:
    named = [path for path in folder.files if path.name.lower() in _CLASS_FILES]
    upper = min((len(path.parts) for path in named), default=0)
    return sorted((p for p in named if len(p.parts) == upper), key=lambda p: (_CLASS_FILES.index(p.name.lower()), p))


def _classes(folder: Source, named: Path) -> _Classes:
    if named.is_file() and named.suffix.lower() in {".yaml", ".yml"}:
        return _of_yaml(named)
    files = [] if named.is_file() else _yaml_files(folder)
    rivals = [p for p in files if p.name.lower() == files[0].name.lower()] if _is_usual(files) else files
    if len(rivals) > 1:
        shown = ", ".join(p.relative_to(folder.path).as_posix() for p in rivals[:4])
        raise InputError(f"{folder.path}: several files name classes and parts ({shown}); name one of them, or its folder")
    if files:
        return _of_yaml(files[0])
    of_names = [named] if named.is_file() and named.name.lower() in _CLASS_FILES else _class_files(folder)
    if not of_names:
        raise InputError(f"{folder.path}: holds no data.yaml, classes.txt or obj.names that names the classes; write one")
    read = {path: _lines(path) for path in of_names}
    first = of_names[0]
    other = next((path for path, names in read.items() if names != read[first] and path.name == first.name), None)
    if other is not None:
        raise InputError(f"{other}: names other classes than {first}; one set has one list of classes, mend or remove one of them")
    if not read[first]:
        raise InputError(f"{first}: names no class; expected one name a line, in the order of their numbers")
    return _Classes(first, dict(enumerate(read[first])))


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).rstrip().splitlines()]


def _of_yaml(path: Path) -> _Classes:
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: found a {type(content).__name__}, expected keys such as names, train and val")
    names = content.get("names")
    listed = dict(enumerate(names)) if isinstance(names, list) else names
    right = isinstance(listed, dict) and all(str(i).isdecimal() and len(str(i)) < 10 for i in listed)
    if not right or not all(isinstance(n, str | int | float) for n in listed.values()):  # type: ignore[union-attr]
        raise InputError(f"{path}: names: found {excerpt(names)}, expected a list of class names")
    if not listed:
        raise InputError(f"{path}: names: is empty; expected the names of the classes, in the order of their numbers")
    return _Classes(path, {int(i): str(n) for i, n in listed.items()}, content)  # type: ignore[union-attr]


def _with_parts(folder: Source, classes: _Classes) -> dict[Path, str | None]:
    """The pictures in the order of the parts, each with its part."""
    content, oddities = classes.content, folder.oddities
    declared = content.get("nc")
    if declared is not None and declared != len(classes.names):
        oddities.note("declaration", f"nc: {excerpt(declared)} that does not fit {number_of(len(classes.names), 'name')}, not used", "nc")
    if not any(content.get(part) for part in _PARTS):
        return {p: part_of_path(p.relative_to(folder.path).parts[:-1]) for p in folder.pictures}
    placed: dict[Path, str | None] = {}
    for key, part in _PARTS.items():
        for picture in _pictures(folder, classes, key):
            placed.setdefault(picture, part)  # where there is no validation part, `val` often names the training part again
    for picture in folder.pictures:
        if picture not in placed:
            oddities.note("picture", f"in no part that {classes.file.name} names, left out", picture.relative_to(folder.path).as_posix())
    return placed


def _pictures(folder: Source, classes: _Classes, key: str) -> list[Path]:
    entries = classes.content.get(key)
    listed = entries if isinstance(entries, list) else [] if entries in (None, "") else [entries]
    found: list[Path] = []
    for entry in listed:
        if not isinstance(entry, str):
            raise InputError(f"{classes.file}: {key}: found {excerpt(entry)}, expected a folder, a list of pictures, or a list of those")
        place = _place(folder, classes, entry)
        if place is None and key == "train" and leads_out(entry):
            raise InputError(
                f"{classes.file}: train: '{entry}' is not in {folder.path}, and nothing outside of it is read; "
                "put the pictures there, or name the folder that holds both"
            )
        if place is None:
            folder.oddities.note("part", f"of {classes.file.name} that is not there, left out", f"{key}: {entry}")
        elif place.is_file():
            found += _of_list(folder, place)
        else:
            found += [p for p in folder.pictures if place in p.parents]
    return sorted(found)


def _of_list(folder: Source, file: Path) -> list[Path]:
    finder, found = PictureFolder(folder.path), []
    for line in filter(None, map(str.strip, read_text(file).splitlines())):
        picture = finder.find(line, file.parent)
        if picture is None:
            folder.oddities.note("line", f"of {file.name} that names a picture which is not there, left out", line)
        else:
            found.append(picture)
    return found


def _place(folder: Source, classes: _Classes, entry: str) -> Path | None:
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
