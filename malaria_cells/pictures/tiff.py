"""TIFF of microscopes, slide scanners and image editors, through tifffile: which page is the picture, and what its numbers mean."""

import logging
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffPage

from malaria_cells.pictures.refusal import MAX_PIXELS, UnreadableError, check_size
from malaria_cells.pictures.samples import SIDEWAYS, upright
from malaria_cells.pictures.tiff_colours import rgb

STARTS = frozenset({b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"})  # both orders of bytes, classic and big
_MOST_PAGES = 1000  # pages that are looked at; more are a stack in any case
_MOST_SUB_PAGES = 16  # levels of a pyramid, and the previews beside a raw picture
_MOST_SAMPLES = 8  # of a pixel: four colours, and transparency of several kinds
_REDUCED, _MASK = 1, 4  # flags of NewSubfileType
_ROUNDED_UP = 4096  # pixels by which tiles may be larger than their picture
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
_BITS_OF_IMAGES = {7: {8}, 33003: {8}, 33005: {8}, 34712: {8, 16}, 50001: {8}}  # that pictures inside have, for sure the same
_APERIO_YCBCR = 33003  # number of a compression
_DNG_VERSION = 50706  # tag


class _Quiet(logging.Filter):
    """Keeps what tifffile logs about a file from the screen while this module reads it; others that use tifffile are not affected."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - the name that logging calls it by
        return not getattr(self.here, "reading", False)


_quiet = _Quiet()
logging.getLogger("tifffile").addFilter(_quiet)


def tiff_size(file: BinaryIO) -> tuple[int, int]:
    """Width and height of the upright picture, from the headers alone.

    Raises:
        UnreadableError: as `read_tiff`, as far as headers tell.
    """
    with _opened(file) as tiff:
        page = _picture(tiff)
        width, height = page.imagewidth, page.imagelength
        return (height, width) if _orientation(page) in SIDEWAYS else (width, height)


def tiff_orientation(file: BinaryIO) -> int:
    """The orientation that the page declares, 1 to 8.

    Raises:
        UnreadableError: as `tiff_size`.
    """
    with _opened(file) as tiff:
        return _orientation(_picture(tiff))


def read_tiff(file: BinaryIO) -> np.ndarray:
    """Decode the one picture of a file as upright uint8 RGB (H, W, 3).

    Raises:
        UnreadableError: a stack, colours or numbers that have no one meaning as a photograph, or parts that are missing.
    """
    with _opened(file) as tiff:
        page = _picture(tiff)
        return upright(rgb(page, _samples(page, tiff.filehandle.size)), _orientation(page))


@contextmanager
def _opened(file: BinaryIO) -> Iterator[TiffFile]:
    file.seek(0)
    _quiet.here.reading = True
    try:
        with TiffFile(file, name="picture.tif") as tiff:
            yield tiff
    finally:
        _quiet.here.reading = False


def _orientation(page: TiffPage) -> int:
    value = page.tags.valueof(274)
    return value if isinstance(value, int) else 1


def _picture(tiff: TiffFile) -> TiffPage:
    """The largest page; smaller ones are the thumbnails, labels and pyramids of scanners.

    Raises:
        UnreadableError: several pages could be meant, or the largest one is no photograph that can be read.
    """
    pages = list(_pages(tiff))
    if not pages:
        raise UnreadableError("the picture is broken (a TIFF without a page); export or copy it again")
    within = [sub for page in pages for sub in _sub_pages(page)]
    picture = max([*pages, *within], key=_area)
    check_size((picture.imagewidth, picture.imagelength))
    if picture.photometric in (PHOTOMETRIC.CFA, PHOTOMETRIC.LINEAR_RAW) or _DNG_VERSION in pages[0].tags:
        raise UnreadableError("it is a raw file of a camera; develop it in the camera's program and export it as TIFF or JPEG")
    _check_pages(pages[0], picture, [p for p in pages if p is not picture and not p.subfiletype & _MASK])
    _check_page(picture)
    return picture


def _pages(tiff: TiffFile) -> Iterator[TiffPage]:
    offsets = set()
    for index in range(_MOST_PAGES):
        try:
            page = tiff.pages[index]
        except IndexError:
            break
        if page.offset in offsets:
            raise UnreadableError("the picture is broken (its pages run in a circle); export or copy it again")
        offsets.add(page.offset)
        if isinstance(page, TiffPage):
            yield page
    else:
        return
    where = tiff.pages.next_page_offset
    if where and not tiff.is_ndpi:
        tiff.filehandle.seek(where)
        if any(tiff.filehandle.read(tiff.tiff.offsetsize)):
            raise UnreadableError("the picture is broken (a page of it is missing); export or copy it again")


def _sub_pages(page: TiffPage) -> Iterator[TiffPage]:
    within = page.pages if page.subifds else None
    for index in range(min(len(page.subifds or ()), _MOST_SUB_PAGES)):
        sub = within[index] if within is not None else None
        if isinstance(sub, TiffPage):
            yield sub


def _area(page: TiffPage) -> int:
    return page.imagewidth * page.imagelength


def _check_pages(first: TiffPage, picture: TiffPage, others: list[TiffPage]) -> None:
    width, height = picture.imagewidth, picture.imagelength
    alike = 1 + sum((p.imagewidth, p.imagelength) == (width, height) for p in others)
    planes = max(alike, _planes_of_one_page(picture))
    if planes > 1:
        count = f"{planes:,}" + (" or more" if len(others) + 1 == _MOST_PAGES else "")
        channels = _channels(first) if picture.samplesperpixel == 1 else 1
        if channels > 1:
            raise UnreadableError(
                f"its {channels} colour channels are pages of their own ({count} pages of {width} x {height} pixels); "
                "merge the channels to RGB (in ImageJ and Fiji: Image > Type > RGB Color) and save that"
            )
        raise UnreadableError(f"a stack of {count} pages of {width} x {height} pixels; save each as a picture of its own")
    large = [p for p in others if not p.subfiletype & _REDUCED and _area(p) * 2 > width * height]
    if large:
        raise UnreadableError(
            f"{1 + len(large)} pages of which none is a thumbnail ({width} x {height} pixels, "
            f"{large[0].imagewidth} x {large[0].imagelength}); save each as a picture of its own"
        )


def _planes_of_one_page(page: TiffPage) -> int:
    """Count the planes that some programs put behind one header."""
    planes = page.imagedepth if isinstance(page.imagedepth, int) else 2
    described = re.search(r"^images=(\d{1,9})", page.description, re.MULTILINE) if page.is_imagej else None
    if described:
        planes = max(planes, int(described[1]))
    shape = re.match(r'\{"shape": \[([\d, ]{1,200})\].*"truncated": true', page.description)
    if shape:
        planes = max(planes, math.prod(int(n) for n in shape[1].split(",")) // max(1, math.prod(page.shape)))
    if page.is_stk and 33629 in page.tags:  # a MetaMorph stack
        planes = max(planes, page.tags[33629].count)
    return planes


def _channels(first: TiffPage) -> int:
    described = re.search(r"^channels=(\d{1,9})", first.description, re.MULTILINE) if first.is_imagej else None
    if first.is_ome:
        described = re.search(r"\bSizeC=[\"'](\d{1,9})[\"']", first.description)
    return int(described[1]) if described else 1


def _check_page(page: TiffPage) -> None:
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


def _samples(page: TiffPage, file_size: int) -> np.ndarray:
    """Decode the numbers of a page.

    Returns:
        (H, W, samples a pixel), in the file's type.
    """
    _check_parts(page, file_size)
    found = np.zeros(page.shaped, page.dtype)  # planes, depth, height, width, samples of a plane
    _, depth, height, width, _ = page.shaped
    for part, (plane, z, y, x, _), _ in page.segments(maxworkers=1, _fullsize=False):
        if part is not None and page.bitspersample == 1:
            part = part.astype(bool)
        if part is None or part.dtype != found.dtype:
            raise UnreadableError("the picture is broken (a part of it is missing or of another kind); export or copy it again")
        part = part[: depth - z, : height - y, : width - x]
        found[plane, z : z + part.shape[0], y : y + part.shape[1], x : x + part.shape[2]] = part
    return np.moveaxis(found[:, 0], 0, -2).reshape(height, width, -1)


def _check_parts(page: TiffPage, file_size: int) -> None:
    """See from the header that the strips or tiles are there, before memory is taken for them."""
    if page.is_tiled:
        sides = ((page.tilewidth, page.imagewidth), (page.tilelength, page.imagelength), (page.tiledepth, 1))
        if not all(0 < tile <= side + _ROUNDED_UP for tile, side in sides):
            raise UnreadableError("the picture is broken (tiles that are larger than it); export or copy it again")
    needed = math.prod(page.chunked)
    places = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if needed > MAX_PIXELS or len(places) < needed or any(at <= 0 or size <= 0 for at, size in places[:needed]):
        raise UnreadableError("the picture is broken (strips or tiles of it are missing); export or copy it again")
    end = max(at + size for at, size in places[:needed])
    if page.compression == COMPRESSION.NONE and page.is_contiguous:  # some programs write wrong counts of bytes
        end = places[0][0] + math.prod(page.shaped) * (page.bitspersample // 8)
    if end > file_size:
        raise UnreadableError(f"the picture is broken (cut off: {end - file_size:,} bytes are missing); copy it again")
