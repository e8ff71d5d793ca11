"""A folder a class, whole images being the examples: ``cell_images/Parasitized``, ``chest_xray/train/NORMAL``."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations.class_names import why_no_classes
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.parts import PARTS, part_named
from malaria_cells.data.annotations.source import RawImage, Source, whole_image
from malaria_cells.data.images import UNREADABLE_SUFFIXES, is_image

FORMAT = Format(
    name="folders",
    title="a folder a class",
    recognised_by="two or more folders of images whose names are classes, with or without `train`, `val` and `test` above them",
    exported_by="Kaggle, NIH malaria cells, Keras' `image_dataset_from_directory`",
    not_read="files that are no images",
)

_BY_SETTING = "If each folder does hold the examples of one class, say so: `annotation_format: folders` (--format folders)."


@dataclass(frozen=True)
class _Layout:
    classes: dict[Path, tuple[str, str | None]]  # folder: its class, and the part that it belongs to
    again: tuple[Path, ...] = ()  # folders that hold the classes once more
    groups: tuple[Path, ...] = ()  # folders that hold the folders of all classes each


def recognises(source: Source) -> bool:
    """Whether it is a folder without images of its own that has at least two folders of images, whose names can be classes."""
    return source.path.is_dir() and isinstance(_layout(source), _Layout)


def describe(source: Source) -> str:
    """The classes, for people."""
    layout = _layout(source)
    names = sorted({name for name, _ in layout.classes.values()}) if isinstance(layout, _Layout) else ["each folder"]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def why_not(source: Source) -> str:
    """Why the folders of images that are there were not taken for classes; nothing where there are none."""
    layout = _layout(source)
    return layout if isinstance(layout, str) else ""


def read(source: Source) -> list[RawImage]:
    """Read every image below every folder; the folder's name is the category. What is left out is counted.

    Raises:
        InputError: there are no folders of images, though the user said so.
    """
    layout = _layout(source)
    if isinstance(layout, str):  # the user said that it is such a folder, so that names decide nothing
        layout = _layout(source, trusted=True)
    if isinstance(layout, str):
        raise InputError(f"{source.path}: holds no folders of images, one for each class. {layout}".strip())
    found = []
    for path in source.files:
        key = path.relative_to(source.path).as_posix()
        folder = next((parent for parent in path.parents if parent in layout.classes), None)
        if any(again in path.parents for again in layout.again):
            source.issues.note("file", "of a folder that holds the classes' folders once more, left out", key)
        elif is_image(path) and folder is not None:
            category, part = layout.classes[folder]
            found.append(replace(whole_image(key, category), part=part))
        elif is_image(path):
            source.issues.note("image", "in no class's folder, left out", key)
        elif path.suffix.lower() not in UNREADABLE_SUFFIXES:  # those are told of for every format
            source.issues.note("file", "that cannot be an image, skipped", key)
    for group in layout.groups:
        source.issues.note(
            "folder", "with the folders of all classes in it, taken for no class; `group` can keep it on one side of a split", group.name
        )
    return found


def _layout(source: Source, trusted: bool = False) -> _Layout | str:
    """The folders of classes, or why there are none; an empty text where nothing looks like them.

    Args:
        source: the folder.
        trusted: the user said that folders are classes, so that their names are not judged.
    """
    base = source.path
    folders = _with_images(source, base)
    while len(folders) == 1 and not _own_images(source, base) and _with_images(source, folders[0]):
        base, folders = folders[0], _with_images(source, folders[0])
    if len(folders) < 2:
        return ""
    children = {folder: _with_images(source, folder) for folder in folders}
    again = _again(folders, children)
    folders = [folder for folder in folders if folder not in again]
    names = ", ".join(f"'{folder.name}'" for folder in folders[:4])
    if _own_images(source, base) and not trusted:
        return f"Images lie beside its folders {names}, which were therefore not taken for classes. {_BY_SETTING}"
    if all(_part(folder.name) for folder in folders) and (not trusted or any(children.values())):
        return _in_parts(folders, children, names, trusted)
    inner = [{child.name for child in children[folder]} for folder in folders]
    grouped = len(inner[0]) > 1 and all(names == inner[0] for names in inner)
    judged = sorted(inner[0]) if grouped else [folder.name for folder in folders]
    why = "" if trusted and not grouped else why_no_classes(judged)
    if why:
        return f"Its folders {names} were not taken for classes: {why}. {_BY_SETTING}"
    if grouped:
        return _Layout({child: (child.name, None) for folder in folders for child in children[folder]}, again, tuple(folders))
    return _Layout({folder: (folder.name, None) for folder in folders}, again)


def _part(name: str) -> str | None:
    """The part that a folder's name stands for, also where further words follow, as in ``TEST_SIMPLE``."""
    words = re.split(r"[^a-z]+", name.lower())
    return part_named(name) or (PARTS.get(words[0]) if words else None)


def _in_parts(folders: list[Path], children: dict[Path, list[Path]], names: str, trusted: bool) -> _Layout | str:
    with_classes = [folder for folder in folders if len(children[folder]) > 1]
    classes = {child: (child.name, _part(folder.name)) for folder in with_classes for child in children[folder]}
    alike = set.intersection(*[{child.name for child in children[folder]} for folder in with_classes]) if with_classes else set()
    if trusted and classes:
        return _Layout(classes)
    why = why_no_classes(sorted(alike)) if len(alike) > 1 else ""
    if len(alike) < 2 or why:
        return f"Its folders {names} are parts of a data set, not classes, and no annotation was found for them."
    return _Layout(classes)


def _again(folders: list[Path], children: dict[Path, list[Path]]) -> tuple[Path, ...]:
    """Folders that hold folders of the same names as lie beside them: zips that were packed with their own folder inside."""
    names = {folder.name for folder in folders}
    again = [folder for folder in folders if len(names) > 2 and names - {folder.name} <= {child.name for child in children[folder]}]
    return tuple(again)


def _with_images(source: Source, folder: Path) -> list[Path]:
    return [child for child in source.image_folders.get(folder, ()) if not child.name.startswith("__")]


def _own_images(source: Source, folder: Path) -> bool:
    return folder in source.own_image_folders
