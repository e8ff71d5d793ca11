"""Decodes the samples of a TIFF page, after checking that they can be decoded reliably."""

import math
from collections.abc import Iterator

import numpy as np
from tifffile import COMPRESSION, PHOTOMETRIC, TiffPage

from malaria_cells.base.errors import reason
from malaria_cells.data.images.jpeg_2000 import size_inside
from malaria_cells.data.images.refusal import MAX_PIXELS, UnreadableError

_MAX_SAMPLES = 8  # of a pixel: four colours, and several kinds of transparency
_MAX_PADDING = 4096  # pixels by which a tile may be larger than the image
_NAMES_OF_COMPRESSIONS = {
    1: "none",
    2: "CCITT RLE",
    3: "CCITT Group 3",
    4: "CCITT Group 4",
    5: "LZW",
    7: "JPEG",
    8: "Deflate",
    32773: "PackBits",
    32946: "Deflate",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
}
# Bits per sample that are read, by compression: with these, the embedded images certainly have the depth of the page.
_BITS_OF_IMAGES = {7: {8}, 33003: {8}, 33005: {8}, 34712: {8, 16}, 50001: {8}}
_JPEG_2000 = frozenset({33003, 33005, 34712})
_HEAD = 4096  # bytes that contain the header of a strip or tile
_APERIO_YCBCR = 33003  # value of the Compression tag
_MISSING = "the image is broken (a strip or tile is missing or has another data type); export or copy it again"


def check_page(page: TiffPage) -> None:
    """Check by its header that a page can be decoded to the values that were written.

    Raises:
        UnreadableError: the compression, depth or number of channels is not supported.
    """
    depth = page.bitspersample
    if page.compression not in _NAMES_OF_COMPRESSIONS:
        known = page.compression in set(COMPRESSION)
        name = COMPRESSION(page.compression).name.replace("_", " ") if known else f"number {page.compression}"
        raise UnreadableError(f"a TIFF compressed by {name}, which cannot be read; export it with 8 bits, uncompressed or with LZW")
    if page.dtype is None or not isinstance(depth, int) or page.dtype.kind not in "ubif":
        raise UnreadableError(
            f"a TIFF of a kind that cannot be read (values of {depth} bits, sample format {page.sampleformat}); export it with 8 bits"
        )
    if page.compression in _BITS_OF_IMAGES and depth not in _BITS_OF_IMAGES[page.compression]:
        name = _NAMES_OF_COMPRESSIONS[page.compression]
        raise UnreadableError(f"a TIFF of a kind that cannot be read (compressed by {name} with {depth} bits); export it with 8 bits")
    if page.is_subsampled and page.compression != COMPRESSION.JPEG:
        raise UnreadableError("a TIFF of a kind that cannot be read (YCbCr with subsampled colours); export it as RGB with 8 bits")
    if not 1 <= page.samplesperpixel <= (1 if depth == 1 else _MAX_SAMPLES):
        kind = f"{page.samplesperpixel} values of {depth} bits per pixel"
        raise UnreadableError(f"a TIFF of a kind that cannot be read ({kind}); merge its channels to RGB and export that with 8 bits")
    if page.compression == _APERIO_YCBCR and (page.is_svs or page.photometric == PHOTOMETRIC.YCBCR):
        raise UnreadableError(
            "a TIFF compressed by JPEG 2000 in YCbCr colours (33003), which cannot be read; export it with JPEG or LZW compression in RGB"
        )


def samples(page: TiffPage, file_size: int) -> np.ndarray:
    """Decode the samples of a page.

    Returns:
        (H, W, samples per pixel), in the data type of the file.
    """
    check_parts(page, file_size)
    values = np.zeros(page.shaped, page.dtype)  # (planes, depth, height, width, samples per plane)
    _, depth, height, width, _ = page.shaped
    for part, (plane, z, y, x, _) in _parts(page):
        if part is not None and page.bitspersample == 1:
            part = part.astype(bool)
        if part is None or part.dtype != values.dtype:
            raise UnreadableError(_MISSING)
        part = part[: depth - z, : height - y, : width - x]
        values[plane, z : z + part.shape[0], y : y + part.shape[1], x : x + part.shape[2]] = part
    return np.moveaxis(values[:, 0], 0, -2).reshape(height, width, -1)


def _parts(page: TiffPage) -> Iterator[tuple[np.ndarray | None, tuple[int, ...]]]:
    """The decoded strips or tiles of a page, with the position of each."""
    try:
        for part, position, _ in page.segments(maxworkers=1, _fullsize=False):
            yield part, position
    except Exception as error:  # decoders raise errors of many types for broken data
        if page.compression == COMPRESSION.NONE:
            raise
        raise _undecodable(page, error) from error


def one_part(page: TiffPage, index: int, content: bytes) -> tuple[np.ndarray, int, int]:
    """Decode one strip or tile.

    Args:
        page: a page whose samples are stored together, in 8 bits.
        index: number of the strip or tile.
        content: its bytes in the file.

    Returns:
        uint8 (h, w, samples per pixel) without what extends beyond the image, and its top and left in the image.

    Raises:
        UnreadableError: it cannot be decoded.
    """
    tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if page.compression == COMPRESSION.JPEG else {}
    try:
        part, (_, _, top, left, _), _ = page.decode(content, index, _fullsize=False, **tables)
    except Exception as error:  # decoders raise errors of many types for broken data
        raise _undecodable(page, error) from error
    if part is None or part.dtype != np.uint8:
        raise UnreadableError(_MISSING)
    return part[0, : page.imagelength - top, : page.imagewidth - left], top, left


def _undecodable(page: TiffPage, error: Exception) -> UnreadableError:
    name = _NAMES_OF_COMPRESSIONS[page.compression]
    return UnreadableError(
        f"its strips or tiles, compressed by {name}, cannot be decoded ({reason(error)}); copy it again, or export it with 8 bits, "
        "uncompressed or with LZW"
    )


def check_parts(page: TiffPage, file_size: int) -> None:
    """Check by the header that all strips or tiles exist, before memory is allocated.

    Raises:
        UnreadableError: one is missing, cut off or of another size.
    """
    if page.is_tiled:
        sides = ((page.tilewidth, page.imagewidth), (page.tilelength, page.imagelength), (page.tiledepth, 1))
        if not all(0 < tile <= side + _MAX_PADDING for tile, side in sides):
            raise UnreadableError("the image is broken (its tiles are too large); export or copy it again")
    needed = math.prod(page.chunked)
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if needed > MAX_PIXELS or len(segments) < needed or any(at <= 0 or size <= 0 for at, size in segments[:needed]):
        raise UnreadableError("the image is broken (strips or tiles are missing); export or copy it again")
    end = max(at + size for at, size in segments[:needed])
    if page.compression == COMPRESSION.NONE and page.is_contiguous:  # some programs write wrong byte counts
        end = segments[0][0] + math.prod(page.shaped) * (page.bitspersample // 8)
    if end > file_size:
        raise UnreadableError(f"the image is broken (cut off: {end - file_size:,} bytes are missing); copy it again")
    if page.compression in _JPEG_2000:
        _check_jpeg_2000(page, segments[:needed])


def _check_jpeg_2000(page: TiffPage, segments: list[tuple[int, int]]) -> None:
    """Check that no strip or tile decodes to more than its declared size, which a few bytes could make it do."""
    file = page.parent.filehandle
    width, height = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
    for at, size in segments:
        file.seek(at)
        size_wh = size_inside(file.read(min(size, _HEAD)))
        if size_wh is None or not (0 < size_wh[0] <= width and 0 < size_wh[1] <= height):
            raise UnreadableError("the image is broken (a strip or tile has another size than declared); export or copy it again")
