"""Decoder for JPEG 2000 with more than 8 bits, whose brightest values overflow to black in Pillow."""

import struct
from typing import IO

import imagecodecs
import numpy as np

from malaria_cells.data.images.refusal import UnreadableError
from malaria_cells.data.images.samples import MAX_16_BIT, check_brightness, on_white, to_8_bits

_CODE_STREAM = b"\xff\x4f\xff\x51"  # first two markers of the code stream
_SIZES_OFFSET = 8  # bytes from the markers to four 32-bit integers: right, bottom, left and top edge
_COMPONENTS_OFFSET = 40  # bytes from the markers to the 16-bit number of components, followed by depth and subsampling of each
_MAX_HEAD = 1 << 16  # bytes of a file that are searched for the code stream
_YCC = b"colr\x01\x00\x00\x00\x00\x00\x12"  # the box that declares the sYCC colour space


def size_inside(head: bytes) -> tuple[int, int] | None:
    """Width and height that the code stream declares, whatever its container says; None if there is no code stream.

    Args:
        head: first bytes of a file, or of a strip or tile of a TIFF.
    """
    at = head.find(_CODE_STREAM) + _SIZES_OFFSET
    if at < _SIZES_OFFSET or len(head) < at + 16:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", head, at)
    return right - left, bottom - top


def deep_jpeg_2000(file: IO[bytes], size_wh: tuple[int, int]) -> np.ndarray | None:
    """Decode an image of 9 to 16 bits; None if it has 8 or fewer.

    Args:
        file: the open image file.
        size_wh: width and height that the container declares, already checked against the limit.

    Returns:
        uint8 RGB (H, W, 3).

    Raises:
        UnreadableError: the values are signed, in YCC, of different depths or of more than 16 bits, or the image is too dark.
    """
    file.seek(0)
    head = file.read(_MAX_HEAD)
    start = head.find(_CODE_STREAM)
    if start < 0:
        return None
    at = start + _COMPONENTS_OFFSET
    count = int.from_bytes(head[at : at + 2], "big")
    descriptions = head[at + 2 : at + 2 + 3 * count]
    distinct = {tuple(descriptions[i : i + 3]) for i in range(0, len(descriptions), 3)}
    if all(bits < 8 for bits, *_ in distinct):  # the file stores the depth minus 1
        return None
    bits = max(kind[0] for kind in distinct) + 1
    if distinct != {(bits - 1, 1, 1)} or bits > 16 or not 1 <= count <= 4 or _YCC in head[:start]:
        raise UnreadableError(
            "JPEG 2000 of a kind that cannot be read (its channels differ in depth, or have over 16 bits); export it with 8 bits"
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
    if peak == MAX_16_BIT:
        check_brightness(colours)
    eight_bit = to_8_bits(colours, peak)
    rgb = np.repeat(eight_bit, 3, axis=2) if eight_bit.shape[2] == 1 else eight_bit
    return on_white(rgb, to_8_bits(values[..., -1], peak), premultiplied=False) if has_alpha else rgb
