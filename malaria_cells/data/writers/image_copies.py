"""Puts images where a format wants them."""

import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from PIL import Image

from malaria_cells.base.file_names import distinct, folded, inside, printable
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.images import is_read_alike, read_image

_OWN_FOLDERS = ("images", "JPEGImages")
_OWN_LOWER = tuple(name.lower() for name in _OWN_FOLDERS)


def place(image: AnnotatedImage, target: Path) -> None:
    """Put an image at `target`, so that every program shows the pixels that `read_image` returns for it.

    An image that all programs show alike is copied. Any other is written as PNG, with exactly the pixels of `read_image`;
    `written_as_png` tells which, so that it gets a name that ends so.

    Raises:
        InputError: the image cannot be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_read_alike(image.path):
        shutil.copyfile(image.path, target)
    else:
        Image.fromarray(read_image(image.path)).save(target, format="PNG")


def written_as_png(images: Iterable[AnnotatedImage]) -> frozenset[str]:
    """Keys of the images that programs show differently: turned by EXIF, transparent, of more than 8 bits, TIFF, JPEG 2000."""
    return frozenset(p.key for p in images if not is_read_alike(p.path))


def short_keys(keys: list[str], label_files: bool = False, as_png: Collection[str] = ()) -> dict[str, str]:
    """Keys without the image folders that formats have themselves, unless two would become one.

    No two images get one name, on any system.

    Args:
        keys: of the images.
        label_files: each image gets a label file of its stem, below the last folder ``images``; no two of these get one name either.
        as_png: keys whose images get the suffix ``.png``.

    Raises:
        InputError: a key leads outside the folder that is written.
    """
    wanted = [_short(inside(key)) for key in keys]
    if len({folded(name) for name in wanted}) < len(keys):
        wanted = [_without_image_folders(key) if label_files else key for key in keys]
    return _distinct(keys, _with_png(keys, wanted, as_png), label_files)


def flat_names(keys: list[str], as_png: Collection[str] = ()) -> dict[str, str]:
    """A name without folders for each key; folders go into the name where two images have the same.

    Neither two images nor the label files of two get one name, on any system. The images of the keys `as_png` get that suffix.

    Raises:
        InputError: a key leads outside the folder that is written.
    """
    wanted = [PurePosixPath(inside(key)).name for key in keys]
    if len({folded(label_name(name)) for name in wanted}) < len(keys):
        wanted = [key.replace("/", "_") for key in keys]
    return _distinct(keys, _with_png(keys, wanted, as_png), label_files=True)


def label_name(name: str, suffix: str = "") -> str:
    """The name of the label file of an image: its own with another suffix."""
    folder, slash, file = name.rpartition("/")
    stem, _, old = file.rpartition(".")
    return folder + slash + (stem if stem and old else file) + suffix


def renamed(names: dict[str, str], as_png: Collection[str] = ()) -> list[str]:
    """Lines about the images whose names are others than before, and about those that were written as PNG; none where there are none."""
    lines = []
    if as_png:
        key = min(as_png)
        lines.append(
            f"{number_of(len(as_png), 'image')} written upright as PNG with 8 bits, since not every program shows the original alike; "
            f"first: {printable(key)} is now {names[key]}"
        )
    meant = dict(zip(names, _with_png(list(names), list(names), as_png), strict=True))
    changed = [(key, name) for key, name in names.items() if PurePosixPath(meant[key]).name != PurePosixPath(name).name]
    if changed:
        key, name = changed[0]
        lines.append(
            f"{number_of(len(changed), 'image')} got another name, so that no two files have one; first: {printable(key)} is now {name}"
        )
    return lines


def _with_png(keys: list[str], names: list[str], as_png: Collection[str]) -> list[str]:
    return [label_name(name, ".png") if key in as_png else name for key, name in zip(keys, names, strict=True)]


def _distinct(keys: list[str], wanted: list[str], label_files: bool) -> dict[str, str]:
    def files_of(name: str) -> tuple[str, ...]:
        return (f"images/{name}", f"labels/{label_name(name, '.txt')}") if label_files else (f"images/{name}",)

    # Hidden files and folders are not looked into by the readers of most programs.
    visible = [re.sub(r"(^|/)\.", r"\1_.", printable(name)) for name in wanted]
    return dict(zip(keys, distinct(visible, files_of), strict=True))


def _without_image_folders(key: str) -> str:
    """The key with other names for such folders: of the last of them readers make the folder of the label files."""
    *folders, name = key.split("/")
    return "/".join([*(f"{part}_" if part.lower() in _OWN_LOWER else part for part in folders), name])


def _short(key: str) -> str:
    parts = [part for part in PurePosixPath(key).parts[:-1] if part not in _OWN_FOLDERS]
    return PurePosixPath(*parts, PurePosixPath(key).name).as_posix()
