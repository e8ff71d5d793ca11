"""Puts pictures where a format wants them."""

import shutil
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

from malaria_cells.annotations import Picture

_ORIENTATION_TAG = 0x0112
_OWN_FOLDERS = ("images", "JPEGImages")


def place(picture: Picture, target: Path) -> None:
    """Copy a picture to `target`; one that its EXIF data turn is written upright, since not every tool turns it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(picture.path) as image:
        if image.getexif().get(_ORIENTATION_TAG, 1) != 1:
            ImageOps.exif_transpose(image).save(target, quality=95)
            return
    shutil.copyfile(picture.path, target)


def short_keys(keys: list[str]) -> dict[str, str]:
    """Keys without the picture folders that formats have themselves, unless two would become one."""
    short = {key: _short(key) for key in keys}
    return short if len(set(short.values())) == len(keys) else {key: key for key in keys}


def flat_names(keys: list[str]) -> dict[str, str]:
    """A name without folders for each key; folders go into the name where two pictures have the same."""
    names = [PurePosixPath(key).name for key in keys]
    stems = [PurePosixPath(name).stem for name in names]
    if len(set(stems)) == len(keys):
        return dict(zip(keys, names, strict=True))
    return {key: key.replace("/", "_") for key in keys}


def _short(key: str) -> str:
    parts = [part for part in PurePosixPath(key).parts[:-1] if part not in _OWN_FOLDERS]
    return PurePosixPath(*parts, PurePosixPath(key).name).as_posix()
