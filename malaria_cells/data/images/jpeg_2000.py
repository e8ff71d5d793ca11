"""JPEG 2000 with more than 8 bits, whose brightest values Pillow lets run over into black."""

import struct
from typing import IO

import imagecodecs
import numpy as np

from malaria_cells.data.images.refusal import UnreadableError
from malaria_cells.data.images.samples import MOST, check_brightness, on_white, to_8_bits

_CODE_STREAM = b"\xff\x4f\xff\x51"  # its first two markers
_SIZES_OFFSET = 8  # bytes from there to four numbers of 32 bits: right, bottom, left and top edge
_COLOURS_OFFSET = 40  # bytes from there to the number of colours, two, behind which come the bits and the steps of each
_SEARCHED = 1 << 16  # bytes in which the boxes in front of it end
_YCC = b"colr\x01\x00\x00\x00\x00\x00\x12"  # the box that declares sYCC


def size_inside(head: bytes) -> tuple[int, int] | None:
    """Width and height that the stream itself declares, whatever is around it; None: there is none.

    Args:
        head: the first bytes of a file or of a part of a TIFF.
    """
    at = head.find(_CODE_STREAM) + _SIZES_OFFSET
    if at < _SIZES_OFFSET or len(head) < at + 16:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", head, at)
    return right - left, bottom - top


def deep_jpeg_2000(file: IO[bytes], size_wh: tuple[int, int]) -> np.ndarray | None:
    """Decode an image of 9 to 16 bits; None: it has 8 or fewer.

    Args:
        file: of the image.
        size_wh: what was checked to be no larger than is allowed.

    Returns:
        uint8 RGB (H, W, 3).

    Raises:
        UnreadableError: signed values, colours of several depths or in YCC, more than 16 bits, or too dark for 16.
    """
    file.seek(0)
    head = file.read(_SEARCHED)
    start = head.find(_CODE_STREAM)
    if start < 0:
        return None
    at = start + _COLOURS_OFFSET
    count = int.from_bytes(head[at : at + 2], "big")
    described = head[at + 2 : at + 2 + 3 * count]
    kinds = {tuple(described[i : i + 3]) for i in range(0, len(described), 3)}
    if all(bits < 8 for bits, *_ in kinds):  # one less than there are
        return None
    bits = max(kind[0] for kind in kinds) + 1
    if kinds != {(bits - 1, 1, 1)} or bits > 16 or not 1 <= count <= 4 or _YCC in head[:start]:
        raise UnreadableError(
            "JPEG 2000 of a kind that cannot be read (its colours are not all alike, or of over 16 bits); export it with 8 bits"
        )
    if size_inside(head) != size_wh:
        raise UnreadableError("the image is broken (its headers have two sizes); export or copy it again")
    file.seek(0)
    return _rgb(imagecodecs.jpeg2k_decode(file.read()), bits)


def _rgb(values: np.ndarray, bits: int) -> np.ndarray:
    values = values.reshape(*values.shape[:2], -1)
    has_alpha = values.shape[2] in (2, 4)
    colours = values[..., :-1] if has_alpha else values
    peak = 2**bits - 1
    if peak == MOST:
        check_brightness(colours)
    found = to_8_bits(colours, peak)
    rgb = np.repeat(found, 3, axis=2) if found.shape[2] == 1 else found
    return on_white(rgb, to_8_bits(values[..., -1], peak), premultiplied=False) if has_alpha else rgb
