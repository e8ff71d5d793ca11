"""Reads JPEG, PNG, BMP, WebP, GIF and JPEG 2000 through Pillow."""

from collections.abc import Callable
from typing import BinaryIO

import numpy as np

# Each module registers the one format it reads. Pillow's other formats, some of which start external programs, are never used.
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from malaria_cells.data.images.jpeg_2000 import deep_jpeg_2000
from malaria_cells.data.images.refusal import UnreadableError, check_size
from malaria_cells.data.images.samples import DARK, MAX_16_BIT, SIDEWAYS, TOO_DARK, check_brightness, check_opacity, to_8_bits, to_16_bits

FORMATS = tuple(
    kind.format
    for kind in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        BmpImagePlugin.BmpImageFile,
        WebPImagePlugin.WebPImageFile,
        GifImagePlugin.GifImageFile,
        Jpeg2KImagePlugin.Jpeg2KImageFile,
    )
)
ORIENTATION_TAG = 0x0112
_MORE_THAN_ONE_IMAGE = frozenset({"PNG", "WEBP", "GIF"})  # formats of animations; further images in a JPEG are previews
_PLAIN_FORMATS = frozenset({"JPEG", "MPO", "PNG", "BMP", "WEBP"})
_PLAIN_MODES = frozenset({"1", "L", "P", "RGB"})
_TRANSPARENT_MODES = frozenset({"RGBA", "LA", "PA", "La", "RGBa"})


def opened(file: BinaryIO, start: bytes, check: Callable[[tuple[int, int]], None] = check_size) -> ImageFile.ImageFile | None:
    """Read the header of an image; None if it has none of the `FORMATS`.

    The size is limited by `check`, since the limit of Pillow's ``Image.open`` is a setting of the whole process.

    Raises:
        UnreadableError: the image is too large or an animation.
    """
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(start) is not True:
            continue
        file.seek(0)
        image = factory(file, "")
        check(image.size)
        frames = getattr(image, "n_frames", 1) if name in _MORE_THAN_ONE_IMAGE else 1
        if frames > 1:
            raise UnreadableError(
                f"an animation of {frames} frames, only one of which would be read; save the wanted frame as a separate image"
            )
        return image
    return None


def size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Width and height of the upright image."""
    width, height = image.size
    return (height, width) if image.getexif().get(ORIENTATION_TAG) in SIDEWAYS else (width, height)


def orientation(image: ImageFile.ImageFile) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none."""
    value = image.getexif().get(ORIENTATION_TAG)
    return value if isinstance(value, int) else 1


def is_plain(image: ImageFile.ImageFile) -> bool:
    """Whether every program decodes the image alike: 8 bits, RGB or grey, stored upright, opaque."""
    deep = any(";16" in str(tile.args) for tile in image.tile)
    stored = image.format in _PLAIN_FORMATS and image.mode in _PLAIN_MODES and not deep and "transparency" not in image.info
    return stored and image.getexif().get(ORIENTATION_TAG, 1) == 1


def pixels(image: ImageFile.ImageFile) -> np.ndarray:
    """Decode as upright uint8 RGB (H, W, 3).

    Raises:
        UnreadableError: the values use too little of 16 bits or exceed them, or the image is transparent everywhere.
    """
    if isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile):
        deep = deep_jpeg_2000(image.fp, image.size) if image.fp is not None else None
        if deep is not None:
            return deep
    # Read the depth before the pixels, since Pillow drops it on decoding.
    deep_values = image.mode[0] in "IF" or any(";16" in str(tile.args) for tile in image.tile)
    upright = image
    ImageOps.exif_transpose(upright, in_place=True)
    if upright.mode.startswith("I") or upright.mode == "F":
        return _grey_16_to_8_bits(np.asarray(upright), upright.info.get("transparency"))
    if "transparency" in upright.info or upright.mode in _TRANSPARENT_MODES:
        if deep_values and isinstance(upright.info.get("transparency"), tuple):
            raise UnreadableError("a 16-bit colour is declared transparent, which cannot be read; export it with 8 bits")
        rgba = upright.convert("RGBA")
        check_opacity(np.asarray(rgba)[..., 3].max() / 255)
        _check_depth(deep_values, np.asarray(rgba)[..., :3])
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
    rgb = np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB"))
    _check_depth(deep_values, rgb)
    return rgb


def _grey_16_to_8_bits(values: np.ndarray, transparent: object) -> np.ndarray:
    values = to_16_bits(values)
    check_brightness(values)
    grey = to_8_bits(values, MAX_16_BIT)
    if isinstance(transparent, int):
        check_opacity(float((values != transparent).any()))
        grey[values == transparent] = 255
    return np.repeat(grey[..., None], 3, axis=2)


def _check_depth(deep: bool, rgb: np.ndarray) -> None:
    if deep and rgb.max() <= DARK:
        raise UnreadableError(TOO_DARK)
