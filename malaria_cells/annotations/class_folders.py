"""A folder a class, whole pictures being the examples: ``cell_images/Parasitized``, ``chest_xray/train/NORMAL``."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from malaria_cells.annotations.form import Form
from malaria_cells.annotations.parts import is_plain, part_named
from malaria_cells.annotations.source import RawPicture, Source, whole_picture
from malaria_cells.pictures import UNREADABLE_SUFFIXES, is_picture

FORM = Form(
    name="folders",
    title="a folder a class",
    recognised_by="two or more folders of pictures whose names are classes, with or without `train`, `val` and `test` above them",
    exported_by="Kaggle, NIH malaria cells, Keras' `image_dataset_from_directory`",
    not_read="files that are no pictures",
)

# Words for folders that hold something else than the examples of a class.
_NO_CLASSES = frozenset(
    [
        "mask",
        "masks",
        "segmentation",
        "segmentations",
        "groundtruth",
        "overlay",
        "overlays",
        "thumbnails",
        "results",
        "crops",
        "raw",
        "original",
    ]
)
# Words that are counted up where slides, patients or days have a folder each.
_SERIES = frozenset(
    [
        "slide",
        "patient",
        "subject",
        "field",
        "fov",
        "image",
        "img",
        "picture",
        "photo",
        "batch",
        "well",
        "plate",
        "day",
        "date",
        "week",
        "fold",
        "sample",
        "case",
        "session",
        "run",
        "scan",
        "part",
        "tile",
        "folder",
        "dir",
        "video",
        "frame",
        "series",
        "donor",
    ]
)
_BY_SETTING = "If each folder does hold the examples of one class, say so: `annotation_format: folders` (--format folders)."


@dataclass(frozen=True)
class _Layout:
    classes: dict[Path, tuple[str, str | None]]  # folder: its class, and the part that it belongs to
    again: tuple[Path, ...] = ()  # folders that hold the classes once more


def recognises(source: Source) -> bool:
    """Whether it is a folder without pictures of its own that has at least two folders of pictures, whose names can be classes."""
    return source.path.is_dir() and isinstance(_layout(source), _Layout)


def describe(source: Source) -> str:
    """The classes, for people."""
    layout = _layout(source)
    names = sorted({name for name, _ in layout.classes.values()}) if isinstance(layout, _Layout) else ["each folder"]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def why_not(source: Source) -> str:
    """Why the folders of pictures that are there were not taken for classes; nothing where there are none."""
    layout = _layout(source)
    return layout if isinstance(layout, str) else ""


def read(source: Source) -> list[RawPicture]:
    """Read every picture below every folder; the folder's name is the category. What is left out is counted."""
    layout = _layout(source)
    if isinstance(layout, str):  # the user said that it is such a folder
        layout = _Layout({folder: (folder.name, None) for folder in _with_pictures(source, source.path)})
    found = []
    for path in source.files:
        key = path.relative_to(source.path).as_posix()
        folder = next((parent for parent in path.parents if parent in layout.classes), None)
        if any(again in path.parents for again in layout.again):
            source.oddities.note("file", "of a folder that holds the classes' folders once more, left out", key)
        elif is_picture(path) and folder is not None:
            category, part = layout.classes[folder]
            found.append(replace(whole_picture(key, category), part=part))
        elif is_picture(path):
            source.oddities.note("picture", "in no class's folder, left out", key)
        elif path.suffix.lower() not in UNREADABLE_SUFFIXES:  # those are told of for every form
            source.oddities.note("file", "that cannot be a picture, skipped", key)
    return found


def _layout(source: Source) -> _Layout | str:
    """The folders of classes, or why there are none; an empty text where nothing looks like them."""
    base = source.path
    folders = _with_pictures(source, base)
    while len(folders) == 1 and len(_with_pictures(source, folders[0])) > 1 and not _own_pictures(source, folders[0]):
        base, folders = folders[0], _with_pictures(source, folders[0])
    if len(folders) < 2 or _own_pictures(source, base):
        return ""
    children = {folder: _with_pictures(source, folder) for folder in folders}
    again = _again(folders, children)
    folders = [folder for folder in folders if folder not in again]
    if all(part_named(folder.name) for folder in folders):
        return _in_parts(source, folders, children)
    names = ", ".join(f"'{folder.name}'" for folder in folders[:4])
    no_class = [folder.name for folder in folders if is_plain(folder.name) or folder.name.lower() in _NO_CLASSES]
    if no_class:
        return f"Its folders {names} were not taken for classes, since '{no_class[0]}' names none. {_BY_SETTING}"
    if _counted_up([folder.name for folder in folders]):
        return f"Its folders {names} look like slides, patients or days and were not taken for classes. {_BY_SETTING}"
    return _Layout({folder: (folder.name, None) for folder in folders}, again)


def _in_parts(source: Source, folders: list[Path], children: dict[Path, list[Path]]) -> _Layout | str:
    with_classes = [folder for folder in folders if len(children[folder]) > 1 and not _own_pictures(source, folder)]
    classes = {child: (child.name, part_named(folder.name)) for folder in with_classes for child in children[folder]}
    alike = set.intersection(*[{child.name for child in children[folder]} for folder in with_classes]) if with_classes else set()
    told = ", ".join(f"'{folder.name}'" for folder in folders)
    if len(alike) < 2 or any(is_plain(name) or name.lower() in _NO_CLASSES for name in alike) or _counted_up(sorted(alike)):
        return f"Its folders {told} are parts of a data set, not classes, and no annotation was found for them."
    return _Layout(classes)


def _again(folders: list[Path], children: dict[Path, list[Path]]) -> tuple[Path, ...]:
    """Folders that hold folders of the same names as lie beside them: zips that were packed with their own folder inside."""
    names = {folder.name for folder in folders}
    again = [folder for folder in folders if len(names) > 2 and names - {folder.name} <= {child.name for child in children[folder]}]
    return tuple(again)


def _counted_up(names: list[str]) -> bool:
    words = {re.sub(r"[\W\d_]+", " ", name.lower()).strip() for name in names}
    if len(words) != 1:
        return False
    word = words.pop()
    if not word:  # digits alone are classes (0 to 9), but for dates
        return all(len(re.sub(r"\D", "", name)) >= 6 for name in names)
    of_series = word.rstrip("s") in _SERIES or word.split()[-1].rstrip("s") in _SERIES
    return of_series or all(re.fullmatch(r"(?i)[a-z]\d{2,}[a-z]\d{2,}\w*", name) for name in names)  # NIH's patients: C108P69


def _with_pictures(source: Source, folder: Path) -> list[Path]:
    return [child for child in source.picture_folders.get(folder, ()) if not child.name.startswith("__")]


def _own_pictures(source: Source, folder: Path) -> bool:
    return folder in source.own_picture_folders
