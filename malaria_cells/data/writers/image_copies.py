"""Copies images into the folders of another format, under names that stay distinct."""

import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from PIL import Image

from malaria_cells.base.file_names import distinct, folded, inside, printable
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.images import is_read_alike, read_image

_IMAGE_FOLDERS = ("images", "JPEGImages")
_IMAGE_FOLDERS_LOWER = tuple(name.lower() for name in _IMAGE_FOLDERS)


def place(image: AnnotatedImage, target: Path) -> None:
    """Copy an image to `target`, such that every program shows the pixels that `read_image` returns.

    An image that all programs show alike is copied. Any other is written as PNG with the pixels of `read_image`; `written_as_png` lists
    these images, whose targets need the suffix ``.png``.

    Raises:
        InputError: the image cannot be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_read_alike(image.path):
        shutil.copyfile(image.path, target)
    else:
        Image.fromarray(read_image(image.path)).save(target, format="PNG")


def written_as_png(images: Iterable[AnnotatedImage]) -> frozenset[str]:
    """Keys of the images that programs show differently: rotated by EXIF, transparent, of more than 8 bits, TIFF, JPEG 2000."""
    return frozenset(p.key for p in images if not is_read_alike(p.path))


def short_keys(keys: list[str], label_files: bool = False, as_png: Collection[str] = ()) -> dict[str, str]:
    """Names for images: their keys without folders such as ``images``, unless two names would then be equal.

    Names are distinct on every system, also where file names are not case-sensitive.

    Args:
        keys: keys of the images.
        label_files: whether each image gets a label file with its stem, below the last folder ``images``; these are distinct, too.
        as_png: keys of the images that get the suffix ``.png``.

    Returns:
        Names by key.

    Raises:
        InputError: a key leads outside the output folder.
    """
    wanted = [_short(inside(key)) for key in keys]
    if len({folded(name) for name in wanted}) < len(keys):
        wanted = [_without_image_folders(key) if label_files else key for key in keys]
    return _distinct(keys, _with_png(keys, wanted, as_png), label_files)


def flat_names(keys: list[str], as_png: Collection[str] = ()) -> dict[str, str]:
    """Names without folders for images; folders become part of the name if two images would have the same one.

    Images and their label files have distinct names on every system. Images in `as_png` get the suffix ``.png``.

    Returns:
        Names by key.

    Raises:
        InputError: a key leads outside the output folder.
    """
    wanted = [PurePosixPath(inside(key)).name for key in keys]
    if len({folded(label_name(name)) for name in wanted}) < len(keys):
        wanted = [key.replace("/", "_") for key in keys]
    return _distinct(keys, _with_png(keys, wanted, as_png), label_files=True)


def label_name(name: str, suffix: str = "") -> str:
    """The name of an image's label file: the image's name with another suffix."""
    folder, slash, file = name.rpartition("/")
    stem, _, old = file.rpartition(".")
    return folder + slash + (stem if stem and old else file) + suffix


def renamed(names: dict[str, str], as_png: Collection[str] = ()) -> list[str]:
    """Lines about the images that were renamed and those that were written as PNG; empty if there are none."""
    lines = []
    if as_png:
        key = min(as_png)
        lines.append(
            f"{number_of(len(as_png), 'image')} written upright as PNG with 8 bits, since not every program shows the original alike; "
            f"first: {printable(key)} is now {names[key]}"
        )
    expected = dict(zip(names, _with_png(list(names), list(names), as_png), strict=True))
    changed = [(key, name) for key, name in names.items() if PurePosixPath(expected[key]).name != PurePosixPath(name).name]
    if changed:
        key, name = changed[0]
        lines.append(
            f"{number_of(len(changed), 'image')} renamed, since two files would have the same name; first: {printable(key)} is now {name}"
        )
    return lines


def _with_png(keys: list[str], names: list[str], as_png: Collection[str]) -> list[str]:
    return [label_name(name, ".png") if key in as_png else name for key, name in zip(keys, names, strict=True)]


def _distinct(keys: list[str], wanted: list[str], label_files: bool) -> dict[str, str]:
    def files_of(name: str) -> tuple[str, ...]:
        return (f"images/{name}", f"labels/{label_name(name, '.txt')}") if label_files else (f"images/{name}",)

    # Most programs skip hidden files and folders.
    visible = [re.sub(r"(^|/)\.", r"\1_.", printable(name)) for name in wanted]
    return dict(zip(keys, distinct(visible, files_of), strict=True))


def _without_image_folders(key: str) -> str:
    """The key with its image folders renamed, since readers derive the folder of label files from the last of them."""
    *folders, name = key.split("/")
    return "/".join([*(f"{part}_" if part.lower() in _IMAGE_FOLDERS_LOWER else part for part in folders), name])


def _short(key: str) -> str:
    parts = [part for part in PurePosixPath(key).parts[:-1] if part not in _IMAGE_FOLDERS]
    return PurePosixPath(*parts, PurePosixPath(key).name).as_posix()
