"""JPEG and PNG decoded into a temporary file, since no library decodes regions of them."""

import mmap
import struct
from pathlib import Path

import imagecodecs
from PIL import ImageFile

from malaria_cells.data.images.refusal import MAX_PIXELS, UnreadableError
from malaria_cells.data.images.scratch import Scratch

START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"  # markers of JPEG (ITU-T T.81, table B.1)
_DECODERS = {"JPEG": imagecodecs.jpeg8_decode, "PNG": imagecodecs.png_decode}


def has_regions(image: ImageFile.ImageFile) -> bool:
    """Whether an image is decoded row by row to RGB, by the libraries that Pillow uses, too: JPEG and PNG of 8 bits, RGB, opaque.

    A progressive JPEG must be held whole by its decoder, so its size is limited.
    """
    deep = any(";16" in str(tile.args) for tile in image.tile)
    plain = image.format in _DECODERS and image.mode == "RGB" and not deep and "transparency" not in image.info
    return plain and not (image.info.get("progressive") and image.size[0] * image.size[1] > MAX_PIXELS)


def decode(path: Path, kind: str, size_wh: tuple[int, int]) -> Scratch:
    """Decode an image that `has_regions`.

    Args:
        path: the file.
        kind: Pillow's name of the format.
        size_wh: width and height that the header declares.

    Raises:
        UnreadableError: the file is cut off, or there is no room for the pixels.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if kind == "JPEG" and content.rfind(END_OF_IMAGE) < _scan(content):  # the decoder would fill the rest with grey
            raise UnreadableError("the image is broken (it is cut off); copy it again")
        scratch = Scratch(size_wh)
        try:
            with scratch.filled() as pixels:
                _DECODERS[kind](content, out=pixels)
        except BaseException:
            scratch.close()
            raise
    return scratch


def _scan(content: mmap.mmap) -> int:
    """Where the last of the segments before the pixels begins; the length of each stands behind its marker."""
    at = 2
    while content[at : at + 2] != START_OF_SCAN:
        if content[at] != 0xFF or at + 4 > len(content):
            raise UnreadableError("the image is broken (a marker is missing); export or copy it again")
        filled = content[at + 1] == 0xFF  # a byte that fills up, before a marker
        at += 1 if filled else 2 + struct.unpack(">H", content[at + 2 : at + 4])[0]
    return at
