"""The class names of a YOLO data set: ``data.yaml``, ``classes.txt``, ``obj.names``; and the parts that come with them."""

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
USUAL_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_OWN_LISTS = CLASS_FILES[:5]  # the other two may be lists of another tool


@dataclass(frozen=True)
class Classes:
    """Class names by number, the file that they are from, and the parts that it names."""

    file: Path
    names: dict[int, str]
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def key_point_values(self) -> int:
        """Numbers that follow a box for its key points.

        Raises:
            InputError: `kpt_shape` is no such shape.
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
    """The files of the upper-most level that are a data.yaml by name, or by `names` and a part."""
    found: list[Path] = []
    for path in sorted(folder.files, key=lambda p: (len(p.parts), p.name.lower() not in USUAL_YAML, p)):
        if path.suffix.lower() not in {".yaml", ".yml"} or (found and len(path.parts) > len(found[0].parts)):
            continue
        by_name = path.name.lower() in USUAL_YAML
        try:
            content = load_yaml(path)
        except InputError:
            if by_name:  # it is told what is wrong with it as it is read
                found.append(path)
            continue
        if by_name or (is_data_yaml(content) and any(part in content for part in PARTS)):
            found.append(path)
    return found


def class_files(folder: Source) -> list[Path]:
    """The lists of class names, the likeliest first."""
    named = [path for path in folder.files if path.name.lower() in CLASS_FILES]
    return sorted(named, key=lambda p: (len(p.parts), CLASS_FILES.index(p.name.lower()), p))


def read_classes(folder: Source, named: Path) -> Classes:
    """Read the class names of a data set.

    Args:
        folder: of the data set.
        named: what the user named: the folder, or a file of class names in it.

    Raises:
        InputError: no class names, or lists that contradict each other.
    """
    if named.is_file() and named.suffix.lower() in {".yaml", ".yml"}:
        return _of_yaml(named, folder)
    files = [] if named.is_file() else yaml_files(folder)
    usual = bool(files) and files[0].name.lower() in USUAL_YAML
    rivals = [p for p in files if p.name.lower() == files[0].name.lower()] if usual else files
    if len(rivals) > 1:
        shown = ", ".join(p.relative_to(folder.path).as_posix() for p in rivals[:4])
        raise InputError(f"{folder.path}: several files name classes and parts ({shown}); name one of them, or its folder")
    if files:
        return _of_yaml(files[0], folder)
    of_names = [named] if named.is_file() and named.name.lower() in CLASS_FILES else class_files(folder)
    if not of_names:
        raise InputError(f"{folder.path}: holds no data.yaml, classes.txt or obj.names that names the classes; write one")
    first = of_names[0]
    names = _lines(first)
    other = next((path for path in of_names if path.name.lower() in _OWN_LISTS and path != first and _lines(path) != names), None)
    if other is not None:
        raise InputError(f"{other}: names other classes than {first}; one set has one list of classes, mend or remove one of them")
    return Classes(first, dict(enumerate(names)), _darknet(folder, first))


def _lines(path: Path) -> list[str]:
    """The names of a list, one a line, without the quotes or numbers that some tools write.

    Raises:
        InputError: a line between names is empty, which would move the numbers of the others, or there is no name.
    """
    lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    if not lines or not all(lines):
        where = f"line {lines.index('') + 1} is empty" if lines else "names no class"
        raise InputError(f"{path}: {where}; expected one name a line, in the order of their numbers")
    numbered = [re.fullmatch(r"(\d+)\s*[:,]\s*(.+)", line) for line in lines]
    if all(match is not None and int(match[1]) == i for i, match in enumerate(numbered)):
        lines = [match[2].strip() for match in numbered if match is not None]
    return [line[1:-1] if len(line) > 2 and line[0] == line[-1] and line[0] in "\"'" else line for line in lines]


def _darknet(folder: Source, names: Path) -> dict[str, Any]:
    """The lists of images of each part: by Darknet's ``obj.data``, or by the lists' own names beside the class names."""
    beside = {path.name.lower(): path for path in folder.files if path.parent == names.parent}
    content: dict[str, Any] = {}
    if "obj.data" in beside:
        for line in read_text(beside["obj.data"]).splitlines():
            key, _, value = (text.strip() for text in line.partition("="))
            if key in {"train", "valid", "val", "test"} and value:
                content["val" if key == "valid" else key] = value
    for name, key in (("train.txt", "train"), ("val.txt", "val"), ("valid.txt", "val"), ("test.txt", "test")):
        if name in beside and key not in content and _lists_images(beside[name]):
            content[key] = name
    return content


def _lists_images(path: Path) -> bool:
    first = next((line.strip() for line in read_text(path).splitlines() if line.strip()), "")
    return bool(re.search(r"\.\w{3,4}$", first))


def _of_yaml(path: Path, folder: Source) -> Classes:
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: found a {type(content).__name__}, expected keys such as names, train and val")
    names = content.get("names")
    listed = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(listed, dict) or not all(str(i).isdecimal() and len(str(i)) < 10 for i in listed):
        raise InputError(f"{path}: names: found {excerpt(names)}, expected a list of class names")
    truths = [name for name in listed.values() if isinstance(name, bool)]
    if truths:
        raise InputError(f"{path}: names: YAML reads yes, no, on and off as {truths[0]}; write such names in quotes")
    if not all(isinstance(name, str | int | float) for name in listed.values()):
        raise InputError(f"{path}: names: found {excerpt(names)}, expected a list of class names")
    if not listed:
        raise InputError(f"{path}: names: is empty; expected the names of the classes, in the order of their numbers")
    by_number = {int(i): str(name) for i, name in listed.items()}
    for other in class_files(folder):
        if other.name.lower() in _OWN_LISTS and _lines(other) != list(by_number.values()):
            folder.issues.note("list", f"of other classes than {path.name} names, not used", other.relative_to(folder.path).as_posix())
    return Classes(path, by_number, content)
