"""An image file in, upright uint8 RGB out, or why not.

Training and use read through here alone, because two JPEG decoders differ enough to flip a decision near a threshold.
"""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from malaria_cells.base.errors import InputError, reason
from malaria_cells.data.images import raster, tiff
from malaria_cells.data.images.refusal import SIGNATURE, UnreadableError, refuse_raw, unreadable

Read = TypeVar("Read")


def read_image(path: str | Path) -> np.ndarray:
    """Read an image upright (EXIF rotation applied) as RGB.

    Grey becomes three equal channels, palettes are looked up, transparency is laid on white, 16-bit values are divided
    by 257. Those of a camera of 14 bits or fewer, saved in 16 as they are, and fractions are refused: nearly black would be left.
    So are the stacks and channels that microscopes write, of which one page would stand for all, animations, and images that are
    transparent everywhere; smaller pages, which scanners add, are not looked at.

    Returns:
        uint8 (H, W, 3), values 0 to 255.

    Raises:
        InputError: missing, no image, broken, too dark for its 16 bits or beyond them, a stack, or over 400 million pixels.
            The message names the file.

    Examples:
        >>> image = read_image("docs/images/smear.jpg")
        >>> image.shape, str(image.dtype)
        ((768, 1024, 3), 'uint8')
    """
    return _read(Path(path), tiff.read_tiff, raster.pixels)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of the upright image, from the header alone.

    Raises:
        InputError: as `read_image`, as far as the header tells.
    """
    return _read(path, tiff.tiff_size, raster.size)


def stored_turn(path: Path) -> int | None:
    """How an image that is stored lying on its side has to be turned.

    Returns:
        The EXIF orientation, 5 to 8; None for an image that is stored with the width and height that it has upright.

    Raises:
        InputError: as `image_size`.
    """
    orientation = _read(path, tiff.tiff_orientation, raster.orientation)
    return orientation if 5 <= orientation <= 8 else None


def is_read_alike(path: Path) -> bool:
    """Whether every program shows an image as `read_image` does: 8 bits, RGB or grey, upright as stored, nothing transparent.

    Raises:
        InputError: as `image_size`.
    """
    return _read(path, lambda _: False, raster.is_plain)


def _read(path: Path, from_tiff: Callable[[BinaryIO], Read], from_raster: Callable) -> Read:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableError("is a folder; name an image in it")
        if not stat.S_ISREG(mode):
            raise UnreadableError("is no file; name an image")
        with path.open("rb") as file:
            start = file.read(SIGNATURE)
            if start[:4] in tiff.STARTS:
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
        raise InputError(f"{path}: cannot be opened ({error.strerror}); allow its reading, or leave it out") from None
    except MemoryError:
        raise InputError(f"{path}: does not fit into the memory; cut it into parts") from None
    except Exception as error:  # the libraries raise whatever the broken part raises
        raise InputError(f"{path}: the image is broken ({reason(error)}); export or copy it again") from error
