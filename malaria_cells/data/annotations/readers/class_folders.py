"""Image classification folders, one folder per class: ``cell_images/Parasitized``, ``chest_xray/train/NORMAL``."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations.class_names import why_no_classes
from malaria_cells.data.annotations.format import Format
from malaria_cells.data.annotations.parts import PARTS, part_named
from malaria_cells.data.annotations.readers import reader
from malaria_cells.data.annotations.source import RawImage, Source, whole_image
from malaria_cells.data.images import UNREADABLE_SUFFIXES, is_image

FORMAT = Format(
    name="folders",
    title="a folder a class",
    recognised_by="two or more folders of images whose names are classes, with or without `train`, `val` and `test` above them",
    exported_by="Kaggle, NIH malaria cells, Keras' `image_dataset_from_directory`",
    not_read="files that are no images",
)

_BY_SETTING = "If each folder does hold the images of one class, set `annotation_format: folders` (--format folders)."


@dataclass(frozen=True)
class _Layout:
    classes: dict[Path, tuple[str, str | None]]  # class name and part of each class folder
    copies: tuple[Path, ...] = ()  # folders that contain a second copy of the class folders
    groups: tuple[Path, ...] = ()  # folders (of slides, say) each of which contains a folder of every class


def recognises(source: Source) -> bool:
    """Whether the source is a folder with two or more folders of images that can be named after classes, and no images beside them."""
    return source.path.is_dir() and isinstance(_layout(source), _Layout)


def describe(source: Source) -> str:
    """The names of the classes, for messages."""
    layout = _layout(source)
    names = sorted({name for name, _ in layout.classes.values()}) if isinstance(layout, _Layout) else ["each folder"]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def why_not(source: Source) -> str:
    """Why the source's folders of images were not recognised as classes; empty if it has none."""
    layout = _layout(source)
    return layout if isinstance(layout, str) else ""


@reader(FORMAT, recognises, rank=140, describe=describe, why_not=why_not)
def read(source: Source) -> list[RawImage]:
    """Read all images in class folders; the folder's name is the category. Files that are left out are noted as issues.

    Raises:
        InputError: the source has no folders of images.
    """
    layout = _layout(source)
    if isinstance(layout, str):  # the user named this format, so the folders' names are not checked
        layout = _layout(source, trusted=True)
    if isinstance(layout, str):
        raise InputError(f"{source.path}: has no folders of images; expected one folder per class. {layout}".strip())
    images = []
    for path in source.files:
        key = path.relative_to(source.path).as_posix()
        folder = next((parent for parent in path.parents if parent in layout.classes), None)
        if any(copy in path.parents for copy in layout.copies):
            source.issues.note("file", "in a second copy of the class folders, left out", key)
        elif is_image(path) and folder is not None:
            category, part = layout.classes[folder]
            images.append(replace(whole_image(key, category), part=part))
        elif is_image(path):
            source.issues.note("image", "outside of the class folders, left out", key)
        elif path.suffix.lower() not in UNREADABLE_SUFFIXES:  # these are noted by `loading`, for every format
            source.issues.note("file", "without an image file's extension, left out", key)
    for group in layout.groups:
        source.issues.note(
            "folder", "with a folder of every class in it, not taken as a class; `group` can keep its images in one part", group.name
        )
    return images


def _layout(source: Source, trusted: bool = False) -> _Layout | str:
    """The class folders, or why the folders of images are not classes; an empty text without folders of images.

    Args:
        source: the folder of the data set.
        trusted: the user named this format, so the folders' names are not checked.
    """
    base = source.path
    folders = _folders_with_images(source, base)
    while len(folders) == 1 and not _has_images(source, base) and _folders_with_images(source, folders[0]):
        base, folders = folders[0], _folders_with_images(source, folders[0])
    if len(folders) < 2:
        return ""
    children = {folder: _folders_with_images(source, folder) for folder in folders}
    copies = _copies(folders, children)
    folders = [folder for folder in folders if folder not in copies]
    names = ", ".join(f"'{folder.name}'" for folder in folders[:4])
    if _has_images(source, base) and not trusted:
        return f"Its folders {names} were not taken for classes, since there are images beside them. {_BY_SETTING}"
    if all(_part(folder.name) for folder in folders) and (not trusted or any(children.values())):
        return _in_parts(folders, children, names, trusted)
    inner = [{child.name for child in children[folder]} for folder in folders]
    grouped = len(inner[0]) > 1 and all(names == inner[0] for names in inner)
    class_names = sorted(inner[0]) if grouped else [folder.name for folder in folders]
    why = "" if trusted and not grouped else why_no_classes(class_names)
    if why:
        return f"Its folders {names} were not taken for classes: {why}. {_BY_SETTING}"
    if grouped:
        return _Layout({child: (child.name, None) for folder in folders for child in children[folder]}, copies, tuple(folders))
    return _Layout({folder: (folder.name, None) for folder in folders}, copies)


def _part(name: str) -> str | None:
    """The part that a folder is named after, also if other words follow, as in ``TEST_SIMPLE``; None if it is named after none."""
    words = re.split(r"[^a-z]+", name.lower())
    return part_named(name) or (PARTS.get(words[0]) if words else None)


def _in_parts(folders: list[Path], children: dict[Path, list[Path]], names: str, trusted: bool) -> _Layout | str:
    with_classes = [folder for folder in folders if len(children[folder]) > 1]
    classes = {child: (child.name, _part(folder.name)) for folder in with_classes for child in children[folder]}
    common = set.intersection(*[{child.name for child in children[folder]} for folder in with_classes]) if with_classes else set()
    if trusted and classes:
        return _Layout(classes)
    why = why_no_classes(sorted(common)) if len(common) > 1 else ""
    if len(common) < 2 or why:
        return f"Its folders {names} are parts of a data set, not classes, and no annotation was found for them."
    return _Layout(classes)


def _copies(folders: list[Path], children: dict[Path, list[Path]]) -> tuple[Path, ...]:
    """Folders with subfolders of the same names as the other folders: some zip files contain a second copy of their own content."""
    names = {folder.name for folder in folders}
    copies = [folder for folder in folders if len(names) > 2 and names - {folder.name} <= {child.name for child in children[folder]}]
    return tuple(copies)


def _folders_with_images(source: Source, folder: Path) -> list[Path]:
    return [child for child in source.image_folders.get(folder, ()) if not child.name.startswith("__")]


def _has_images(source: Source, folder: Path) -> bool:
    return folder in source.own_image_folders
