"""Puts pictures where a format wants them."""

import re
import shutil
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

from malaria_cells.annotations import Picture
from malaria_cells.file_names import distinct, folded, inside, printable
from malaria_cells.wording import number_of

_ORIENTATION_TAG = 0x0112
_OWN_FOLDERS = ("images", "JPEGImages")
_OWN_LOWER = tuple(name.lower() for name in _OWN_FOLDERS)


def place(picture: Picture, target: Path) -> None:
    """Copy a picture to `target`; one that its EXIF data turn is written upright, since not every tool turns it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(picture.path) as image:
        if image.getexif().get(_ORIENTATION_TAG, 1) != 1:
            ImageOps.exif_transpose(image).save(target, quality=95)
            return
    shutil.copyfile(picture.path, target)


def short_keys(keys: list[str], label_files: bool = False) -> dict[str, str]:
    """Keys without the picture folders that formats have themselves, unless two would become one.

    No two pictures get one name, on any system.

    Args:
        keys: of the pictures.
        label_files: each picture gets a label file of its stem, below the last folder ``images``; no two of these get one name either.

    Raises:
        InputError: a key leads outside the folder that is written.
    """
    wanted = [_short(inside(key)) for key in keys]
    if len({folded(name) for name in wanted}) < len(keys):
        wanted = [_without_picture_folders(key) if label_files else key for key in keys]
    return _distinct(keys, wanted, label_files)


def flat_names(keys: list[str]) -> dict[str, str]:
    """A name without folders for each key; folders go into the name where two pictures have the same.

    Neither two pictures nor the label files of two get one name, on any system.

    Raises:
        InputError: a key leads outside the folder that is written.
    """
    wanted = [PurePosixPath(inside(key)).name for key in keys]
    if len({folded(label_name(name)) for name in wanted}) < len(keys):
        wanted = [key.replace("/", "_") for key in keys]
    return _distinct(keys, wanted, label_files=True)


def label_name(name: str, suffix: str = "") -> str:
    """The name of the label file of a picture: its own with another suffix."""
    folder, slash, file = name.rpartition("/")
    stem, _, old = file.rpartition(".")
    return folder + slash + (stem if stem and old else file) + suffix


def renamed(names: dict[str, str]) -> list[str]:
    """A line about the pictures whose names are others than before; none where there are none."""
    changed = [(key, name) for key, name in names.items() if PurePosixPath(key).name != PurePosixPath(name).name]
    if not changed:
        return []
    key, name = changed[0]
    return [f"{number_of(len(changed), 'picture')} got another name, so that no two files have one; first: {printable(key)} is now {name}"]


def _distinct(keys: list[str], wanted: list[str], label_files: bool) -> dict[str, str]:
    def files_of(name: str) -> tuple[str, ...]:
        return (f"pictures/{name}", f"labels/{label_name(name, '.txt')}") if label_files else (f"pictures/{name}",)

    # Hidden files and folders are not looked into by the readers of most programs.
    visible = [re.sub(r"(^|/)\.", r"\1_.", printable(name)) for name in wanted]
    return dict(zip(keys, distinct(visible, files_of), strict=True))


def _without_picture_folders(key: str) -> str:
    """The key with other names for such folders: of the last of them readers make the folder of the label files."""
    *folders, name = key.split("/")
    return "/".join([*(f"{part}_" if part.lower() in _OWN_LOWER else part for part in folders), name])


def _short(key: str) -> str:
    parts = [part for part in PurePosixPath(key).parts[:-1] if part not in _OWN_FOLDERS]
    return PurePosixPath(*parts, PurePosixPath(key).name).as_posix()
