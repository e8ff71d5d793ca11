"""The numbers of a TIFF page: whether they can be decoded for certain, and their array."""

import math
from collections.abc import Iterator

import numpy as np
from tifffile import COMPRESSION, PHOTOMETRIC, TiffPage

from malaria_cells.base.errors import reason
from malaria_cells.data.images.jpeg_2000 import size_inside
from malaria_cells.data.images.refusal import MAX_PIXELS, UnreadableError

_MOST_SAMPLES = 8  # of a pixel: four colours, and transparency of several kinds
_ROUNDED_UP = 4096  # pixels by which tiles may be larger than their image
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
_BITS_OF_IMAGES = {7: {8}, 33003: {8}, 33005: {8}, 34712: {8, 16}, 50001: {8}}  # that images inside have, for sure the same
_JPEG_2000 = frozenset({33003, 33005, 34712})
_HEAD = 4096  # bytes that hold the header of a part
_APERIO_YCBCR = 33003  # number of a compression


def check_page(page: TiffPage) -> None:
    """See from its header that a page can be decoded, and that its numbers will be those that were meant.

    Raises:
        UnreadableError: a compression, depth or number of channels that is not read.
    """
    depth = page.bitspersample
    if page.compression not in _NAMES_OF_COMPRESSIONS:
        known = page.compression in set(COMPRESSION)
        name = COMPRESSION(page.compression).name.replace("_", " ") if known else f"number {page.compression}"
        raise UnreadableError(f"a TIFF compressed by {name}, which is not read; export it with 8 bits, uncompressed or with LZW")
    if page.dtype is None or not isinstance(depth, int) or page.dtype.kind not in "ubif":
        raise UnreadableError(
            f"a TIFF of a kind that cannot be read (values of {depth} bits, sample format {page.sampleformat}); export it with 8 bits"
        )
    if page.compression in _BITS_OF_IMAGES and depth not in _BITS_OF_IMAGES[page.compression]:
        name = _NAMES_OF_COMPRESSIONS[page.compression]
        raise UnreadableError(f"a TIFF of a kind that cannot be read (compressed by {name} with {depth} bits); export it with 8 bits")
    if page.is_subsampled and page.compression != COMPRESSION.JPEG:
        raise UnreadableError(
            "a TIFF of a kind that cannot be read (YCbCr, its colours coarser than its pixels); export it as RGB with 8 bits"
        )
    if not 1 <= page.samplesperpixel <= (1 if depth == 1 else _MOST_SAMPLES):
        kind = f"{page.samplesperpixel} values of {depth} bits a pixel"
        raise UnreadableError(f"a TIFF of a kind that cannot be read ({kind}); merge its channels to RGB and export that with 8 bits")
    if page.compression == _APERIO_YCBCR and (page.is_svs or page.photometric == PHOTOMETRIC.YCBCR):
        raise UnreadableError(
            "a TIFF compressed by JPEG 2000 in YCbCr colours (33003), which is not read; export it with JPEG or LZW compression in RGB"
        )


def samples(page: TiffPage, file_size: int) -> np.ndarray:
    """Decode the numbers of a page.

    Returns:
        (H, W, samples a pixel), in the file's type.
    """
    _check_parts(page, file_size)
    found = np.zeros(page.shaped, page.dtype)  # planes, depth, height, width, samples of a plane
    _, depth, height, width, _ = page.shaped
    for part, (plane, z, y, x, _) in _parts(page):
        if part is not None and page.bitspersample == 1:
            part = part.astype(bool)
        if part is None or part.dtype != found.dtype:
            raise UnreadableError("the image is broken (a part of it is missing or of another kind); export or copy it again")
        part = part[: depth - z, : height - y, : width - x]
        found[plane, z : z + part.shape[0], y : y + part.shape[1], x : x + part.shape[2]] = part
    return np.moveaxis(found[:, 0], 0, -2).reshape(height, width, -1)


def _parts(page: TiffPage) -> Iterator[tuple[np.ndarray | None, tuple[int, ...]]]:
    """The decoded strips or tiles of a page, and where each lies."""
    try:
        for part, place, _ in page.segments(maxworkers=1, _fullsize=False):
            yield part, place
    except Exception as error:  # the decoders raise whatever the broken part raises
        if page.compression == COMPRESSION.NONE:
            raise
        name = _NAMES_OF_COMPRESSIONS[page.compression]
        raise UnreadableError(
            f"its parts, which are compressed by {name}, cannot be decoded ({reason(error)}); copy it again, or export it with 8 bits, "
            "uncompressed or with LZW"
        ) from error


def _check_parts(page: TiffPage, file_size: int) -> None:
    """See from the header that the strips or tiles are there, before memory is taken for them."""
    if page.is_tiled:
        sides = ((page.tilewidth, page.imagewidth), (page.tilelength, page.imagelength), (page.tiledepth, 1))
        if not all(0 < tile <= side + _ROUNDED_UP for tile, side in sides):
            raise UnreadableError("the image is broken (tiles that are larger than it); export or copy it again")
    needed = math.prod(page.chunked)
    places = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if needed > MAX_PIXELS or len(places) < needed or any(at <= 0 or size <= 0 for at, size in places[:needed]):
        raise UnreadableError("the image is broken (strips or tiles of it are missing); export or copy it again")
    end = max(at + size for at, size in places[:needed])
    if page.compression == COMPRESSION.NONE and page.is_contiguous:  # some programs write wrong counts of bytes
        end = places[0][0] + math.prod(page.shaped) * (page.bitspersample // 8)
    if end > file_size:
        raise UnreadableError(f"the image is broken (cut off: {end - file_size:,} bytes are missing); copy it again")
    if page.compression in _JPEG_2000:
        _check_jpeg_2000(page, places[:needed])


def _check_jpeg_2000(page: TiffPage, places: list[tuple[int, int]]) -> None:
    """See that no part would unfold into more than its place: a few bytes may declare any size."""
    file = page.parent.filehandle
    width, height = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
    for at, size in places:
        file.seek(at)
        found = size_inside(file.read(min(size, _HEAD)))
        if found is None or not (0 < found[0] <= width and 0 < found[1] <= height):
            raise UnreadableError("the image is broken (a part of it has another size than declared); export or copy it again")
