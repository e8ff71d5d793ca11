"""YOLO's folder as Ultralytics and Roboflow write it: ``data.yaml``, ``images/..``, ``labels/..`` with one text file a picture."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from malaria_cells.annotations.form import Form
from malaria_cells.annotations.source import RawPicture, Source, read_text
from malaria_cells.errors import InputError
from malaria_cells.pictures import is_picture, picture_size

FORM = Form(
    name="yolo",
    title="YOLO",
    recognised_by="`data.yaml` with `names`, or `classes.txt` or `obj.names` beside texts of numbers that are named as the pictures",
    exported_by="Ultralytics, Roboflow, CVAT (YOLO 1.1), Label Studio, LabelImg, makesense",
    not_read="outlines, oriented boxes and key points serve as their bounding boxes",
)
_PARTS = {"train": "train", "val": "validation", "test": "test"}


def recognises(source: Source) -> bool:
    """Whether it is a data.yaml with `names`, or a folder that holds one."""
    path = _yaml_file(source.path)
    if path is None:
        return False
    try:
        return "names" in _content(path)
    except InputError:
        return False


def read(source: Source) -> list[RawPicture]:
    """Read every picture of every part; a picture without a text file has no cells.

    Raises:
        InputError: no such folders, or a line that is not ``class x_centre y_centre width height`` in shares of 1.
    """
    path = _yaml_file(source.path)
    if path is None:
        raise InputError(f"{source.path}: holds no data.yaml")
    content = _content(path)
    names = content.get("names")
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(names, dict) or not all(str(i).isdecimal() for i in names):
        raise InputError(f"{path}: names: found {names!r}, expected a list of class names")
    by_id = {int(i): str(n) for i, n in names.items()}
    placed: dict[Path, str] = {}
    for key, part in _PARTS.items():
        for picture in _pictures(path, content, key):
            placed.setdefault(picture, part)  # where there is no validation part, `val` often names the training part again
    found = [_read_picture(picture, path.parent, by_id, part) for picture, part in placed.items()]
    if not found:
        raise InputError(f"{path}: found no pictures in the folders of train, val and test; paths are looked for from {path.parent}")
    return found


def _yaml_file(path: Path) -> Path | None:
    candidates = [path] if path.suffix.lower() in {".yaml", ".yml"} else [path / "data.yaml", path / "dataset.yaml"]
    return next((p for p in candidates if p.is_file()), None)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: found a {type(content).__name__}, expected keys such as names, train and val")
    return content


def _pictures(path: Path, content: dict[str, Any], key: str) -> list[Path]:
    entries = content.get(key) or []
    found: list[Path] = []
    for entry in [entries] if isinstance(entries, str) else entries:
        place = _place(path.parent, str(content.get("path") or ""), entry)
        if place is None:
            continue
        if place.is_file():
            lines = read_text(place).split("\n")
            found += [p for line in lines if line.strip() and (p := _place(place.parent, "", line.strip()))]
        else:
            found += [p for p in place.rglob("*") if is_picture(p)]
    return sorted(found)


def _place(folder: Path, base: str, entry: str) -> Path | None:
    # Data sets move after they were written: absolute paths and leading "../" are tried from here as well.
    below = entry.removeprefix("./")
    while below.startswith("../"):
        below = below[3:]
    candidates = [folder / base / entry, folder / entry, folder / below, folder / Path(base).name / below]
    return next((p for p in candidates if p.exists()), None)


def _read_picture(picture: Path, root: Path, names: dict[int, str], part: str) -> RawPicture:
    width, height = size = picture_size(picture)
    rows = _rows(_label_file(picture))
    unknown = sorted({int(r[0]) for r in rows} - names.keys())
    if unknown:
        raise InputError(f"{_label_file(picture)}: class {unknown[0]} is not in data.yaml's names, which end at {max(names)}")
    boxes = np.array([_bounds(r[1:]) for r in rows], dtype=np.float64).reshape(-1, 4) * [width, height, width, height]
    inside = picture.is_relative_to(root)
    name = picture.relative_to(root).as_posix() if inside else picture.as_posix()
    return RawPicture(name, [names[int(r[0])] for r in rows], boxes, size_wh=size, part=part)


def _label_file(picture: Path) -> Path:
    parts = list(picture.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _rows(path: Path) -> list[list[float]]:
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            values = [float(v) for v in line.split()]
        except ValueError:
            values = [0.0]
        if values and (len(values) < 5 or not values[0].is_integer()):
            raise InputError(f"{path}: line {number} is {line!r}; expected: class x_centre y_centre width height, in shares of 1")
        if values:
            rows.append(values)
    return rows


def _bounds(values: list[float]) -> list[float]:
    """Corners in shares of 1, of a box with or without a score, or of an outline."""
    if len(values) <= 5:
        x, y, width, height = values[:4]
        return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    xs, ys = values[0::2], values[1::2]
    return [min(xs), min(ys), max(xs), max(ys)]
