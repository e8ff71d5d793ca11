"""Class names and parts of a YOLO data set, from ``data.yaml``, ``classes.txt`` or ``obj.names``."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt
from malaria_cells.base.yaml_text import load_yaml
from malaria_cells.data.annotations.source import Source, read_text

PARTS = {"train": "train", "val": "validation", "test": "test"}
CLASS_FILES = ("classes.txt", "obj.names", "_darknet.labels", "class_names.txt", "classes.names", "labels.txt", "predefined_classes.txt")
YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_YOLO_LISTS = CLASS_FILES[:5]  # names of YOLO tools' class lists; other tools write files of the last two names as well


@dataclass(frozen=True)
class Classes:
    """Class names of a YOLO data set.

    Attributes:
        file: path of the file with the names.
        names: class names by number.
        content: content of data.yaml, or the paths of the parts' lists of images by ``train``, ``val`` and ``test``.
    """

    file: Path
    names: dict[int, str]
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def key_point_values(self) -> int:
        """Number of values that follow a box for its key points: the product of `kpt_shape`.

        Raises:
            InputError: `kpt_shape` is not a list of positive integers.
        """
        shape = self.content.get("kpt_shape")
        if shape is None:
            return 0
        if not isinstance(shape, list) or not shape or not all(isinstance(n, int) and 0 < n < 1000 for n in shape):
            raise InputError(f"{self.file}: kpt_shape: found {excerpt(shape)}, expected two whole numbers such as [17, 3]")
        return math.prod(shape)


def is_data_yaml(content: Any) -> bool:
    """Whether the content of a YAML file names classes."""
    return isinstance(content, dict) and "names" in content


def yaml_files(folder: Source) -> list[Path]:
    """The YAML files of a data set at the highest level that has any: files called data.yaml or the like, or with `names` and a part."""
    yamls: list[Path] = []
    for path in sorted(folder.files, key=lambda p: (len(p.parts), p.name.lower() not in YAML_NAMES, p)):
        if path.suffix.lower() not in {".yaml", ".yml"} or (yamls and len(path.parts) > len(yamls[0].parts)):
            continue
        by_name = path.name.lower() in YAML_NAMES
        try:
            content = load_yaml(path)
        except InputError:
            if by_name:  # the error is raised again when the file is read
                yamls.append(path)
            continue
        if by_name or (is_data_yaml(content) and any(part in content for part in PARTS)):
            yamls.append(path)
    return yamls


def class_files(folder: Source) -> list[Path]:
    """The files with lists of class names, the likeliest first."""
    paths = [path for path in folder.files if path.name.lower() in CLASS_FILES]
    return sorted(paths, key=lambda p: (len(p.parts), CLASS_FILES.index(p.name.lower()), p))


def read_classes(folder: Source, named: Path) -> Classes:
    """Read the class names of a data set.

    Args:
        folder: folder of the data set.
        named: path that the user gave: the folder, or a file of class names in it.

    Raises:
        InputError: class names are missing, or several lists contradict each other.
    """
    if named.is_file() and named.suffix.lower() in {".yaml", ".yml"}:
        return _from_yaml(named, folder)
    files = [] if named.is_file() else yaml_files(folder)
    by_name = bool(files) and files[0].name.lower() in YAML_NAMES
    candidates = [path for path in files if path.name.lower() == files[0].name.lower()] if by_name else files
    if len(candidates) > 1:
        paths = ", ".join(path.relative_to(folder.path).as_posix() for path in candidates[:4])
        raise InputError(f"{folder.path}: several files name classes and parts ({paths}); name one of them, or its folder")
    if files:
        return _from_yaml(files[0], folder)
    lists = [named] if named.is_file() and named.name.lower() in CLASS_FILES else class_files(folder)
    if not lists:
        raise InputError(f"{folder.path}: has no file with the class names; write a data.yaml, classes.txt or obj.names")
    first = lists[0]
    names = _lines(first)
    other = next((path for path in lists if path.name.lower() in _YOLO_LISTS and path != first and _lines(path) != names), None)
    if other is not None:
        raise InputError(f"{other}: names other classes than {first}; expected one list of classes: correct or remove one of the files")
    return Classes(first, dict(enumerate(names)), _darknet(folder, first))


def _lines(path: Path) -> list[str]:
    """The class names in a file with one name per line, without the quotes or numbers that some tools write.

    Raises:
        InputError: a line between names is empty, which would shift the numbers of the following classes, or there is no name.
    """
    lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    if not lines or not all(lines):
        where = f"line {lines.index('') + 1} is empty" if lines else "names no class"
        raise InputError(f"{path}: {where}; expected one name per line, in the order of their numbers")
    matches = [re.fullmatch(r"(\d+)\s*[:,]\s*(.+)", line) for line in lines]
    if all(match is not None and int(match[1]) == i for i, match in enumerate(matches)):
        lines = [match[2].strip() for match in matches if match is not None]
    return [line[1:-1] if len(line) > 2 and line[0] == line[-1] and line[0] in "\"'" else line for line in lines]


def _darknet(folder: Source, names: Path) -> dict[str, Any]:
    """The paths of the parts' lists of images, from Darknet's ``obj.data``, or from lists called ``train.txt`` etc. beside the names."""
    files = {path.name.lower(): path for path in folder.files if path.parent == names.parent}
    content: dict[str, Any] = {}
    if "obj.data" in files:
        for line in read_text(files["obj.data"]).splitlines():
            key, _, value = (text.strip() for text in line.partition("="))
            if key in {"train", "valid", "val", "test"} and value:
                content["val" if key == "valid" else key] = value
    for name, key in (("train.txt", "train"), ("val.txt", "val"), ("valid.txt", "val"), ("test.txt", "test")):
        if name in files and key not in content and _lists_images(files[name]):
            content[key] = name
    return content


def _lists_images(path: Path) -> bool:
    first = next((line.strip() for line in read_text(path).splitlines() if line.strip()), "")
    return bool(re.search(r"\.\w{3,4}$", first))


def _from_yaml(path: Path, folder: Source) -> Classes:
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: found a {type(content).__name__}, expected keys such as names, train and val")
    names = content.get("names")
    name_of = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(name_of, dict) or not all(str(i).isdecimal() and len(str(i)) < 10 for i in name_of):
        raise InputError(f"{path}: names: found {excerpt(names)}, expected a list of class names")
    booleans = [name for name in name_of.values() if isinstance(name, bool)]
    if booleans:
        raise InputError(f"{path}: names: YAML reads yes, no, on and off as {booleans[0]}; write such names in quotes")
    if not all(isinstance(name, str | int | float) for name in name_of.values()):
        raise InputError(f"{path}: names: found {excerpt(names)}, expected a list of class names")
    if not name_of:
        raise InputError(f"{path}: names: is empty; expected the names of the classes, in the order of their numbers")
    by_number = {int(i): str(name) for i, name in name_of.items()}
    for other in class_files(folder):
        if other.name.lower() in _YOLO_LISTS and _lines(other) != list(by_number.values()):
            folder.issues.note(
                "list", f"of classes that differ from those in {path.name}, not used", other.relative_to(folder.path).as_posix()
            )
    return Classes(path, by_number, content)
