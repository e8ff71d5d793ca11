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

from malaria_cells.base.errors import InputError, reason
from malaria_cells.data.images import raster
from malaria_cells.data.images.refusal import SIGNATURE, UnreadableError, refuse_raw, unreadable

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
        InputError: the file is missing, not an image, broken, a stack, larger than 400 million pixels, or its values use too little
            of 16 bits or exceed them. The message names the file.

    Examples:
        >>> image = read_image("docs/images/smear.jpg")
        >>> image.shape, str(image.dtype)
        ((768, 1024, 3), 'uint8')
    """
    return _read(Path(path), lambda file: _tiff().read_tiff(file), raster.pixels)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of the upright image, from the header alone.

    Raises:
        InputError: as `read_image`, as far as the header shows it.
    """
    return _read(path, lambda file: _tiff().tiff_size(file), raster.size)


def stored_turn(path: Path) -> int | None:
    """The EXIF orientation of an image that is stored on its side.

    Returns:
        The EXIF orientation, 5 to 8; None for an image whose stored width and height are those of the upright image.

    Raises:
        InputError: as `image_size`.
    """
    orientation = _read(path, lambda file: _tiff().tiff_orientation(file), raster.orientation)
    return orientation if 5 <= orientation <= 8 else None


def is_read_alike(path: Path) -> bool:
    """Whether every program shows the pixels that `read_image` returns: 8 bits, RGB or grey, stored upright, opaque.

    Raises:
        InputError: as `image_size`.
    """
    return _read(path, lambda _: False, raster.is_plain)


def _tiff() -> ModuleType:
    """The reader of TIFF, which is imported for a TIFF only: tifffile takes a tenth of a detection's start."""
    from malaria_cells.data.images import tiff

    return tiff


def _read(path: Path, from_tiff: Callable[[BinaryIO], Read], from_raster: Callable[[ImageFile.ImageFile], Read]) -> Read:
    try:
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
            image = raster.opened(file, start)
            if image is None:
                raise UnreadableError(unreadable(path, start))
            with image:
                return from_raster(image)
    except UnreadableError as error:
        raise InputError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such image") from None
    except PermissionError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); allow reading it, or leave it out") from None
    except MemoryError:
        raise InputError(f"{path}: does not fit into the memory; cut it into parts") from None
    except Exception as error:  # libraries raise errors of many types for broken files
        raise InputError(f"{path}: the image is broken ({reason(error)}); export or copy it again") from error
