"""Reads an image file as upright uint8 RGB, or raises an error that says why it cannot be read.

Training and inference use this reader alone, since two JPEG decoders differ enough to change a decision near a threshold.
"""

import stat
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import ImageFile

from malaria_cells.data.images import raster
from malaria_cells.data.images.refusal import SIGNATURE, UnreadableError, check_size, refuse_raw, refusing, unreadable

Read = TypeVar("Read")
TIFF_STARTS = frozenset({b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"})  # little and big endian, of TIFF and BigTIFF


def read_image(path: str | Path) -> np.ndarray:
    """Read an image upright (EXIF rotation applied) as RGB.

    Grey becomes three equal channels, palettes are looked up, transparent pixels are blended with white, 16-bit values are divided by
    257. Rejected are 16-bit images with values of 14 bits or fewer, or fractions, which would become nearly black; stacks, separate
    channels and animations, only one page of which would be read; and images that are transparent everywhere. Smaller pages, which
    scanners add, are ignored.

    Returns:
        uint8 (H, W, 3), values 0 to 255.

    Raises:
        InputError: the file is missing, not an image, broken, a stack, larger than 400 million pixels (which `open_image` is not limited
            to), or its values use too little of 16 bits or exceed them. The message names the file.

    Examples:
        >>> image = read_image("docs/images/smear.jpg")
        >>> image.shape, str(image.dtype)
        ((768, 1024, 3), 'uint8')
    """
    return read_by_format(Path(path), lambda file: tiff_reader().read_tiff(file), raster.pixels)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of the upright image, from the header alone.

    Raises:
        InputError: as `read_image`, as far as the header shows it.
    """
    return read_by_format(path, lambda file: tiff_reader().tiff_size(file), raster.size)


def stored_turn(path: Path) -> int | None:
    """The EXIF orientation of an image that is stored on its side.

    Returns:
        The EXIF orientation, 5 to 8; None for an image whose stored width and height are those of the upright image.

    Raises:
        InputError: as `image_size`.
    """
    orientation = read_by_format(path, lambda file: tiff_reader().tiff_orientation(file), raster.orientation)
    return orientation if 5 <= orientation <= 8 else None


def is_read_alike(path: Path) -> bool:
    """Whether every program shows the pixels that `read_image` returns: 8 bits, RGB or grey, stored upright, opaque.

    Raises:
        InputError: as `image_size`.
    """
    return read_by_format(path, lambda _: False, raster.is_plain)


def tiff_reader() -> ModuleType:
    """The reader of TIFF, which is imported for a TIFF only: tifffile takes a tenth of a detection's start."""
    from malaria_cells.data.images import tiff

    return tiff


def read_by_format(
    path: Path,
    from_tiff: Callable[[BinaryIO], Read],
    from_raster: Callable[[ImageFile.ImageFile], Read],
    check: Callable[[tuple[int, int]], None] = check_size,
) -> Read:
    """Read something of an image file.

    Args:
        path: the file.
        from_tiff: reads it from a TIFF.
        from_raster: reads it from an image that Pillow has opened.
        check: checks width and height of an image that Pillow has opened.

    Raises:
        InputError: as `read_image`.
    """
    with refusing(path):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableError("is a folder; name an image in it")
        if not stat.S_ISREG(mode):
            raise UnreadableError("is not a regular file; name an image")
        with path.open("rb") as file:
            start = file.read(SIGNATURE)
            if start[:4] in TIFF_STARTS:
                refuse_raw(path, start)
                return from_tiff(file)
            image = raster.opened(file, start, check)
            if image is None:
                raise UnreadableError(unreadable(path, start))
            with image:
                return from_raster(image)
