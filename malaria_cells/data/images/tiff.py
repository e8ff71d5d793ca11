"""TIFF of microscopes, slide scanners and image editors, through tifffile: which page is the image, and what its numbers mean."""

import logging
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from tifffile import PHOTOMETRIC, TiffFile, TiffPage

from malaria_cells.data.images.refusal import UnreadableError, check_size
from malaria_cells.data.images.samples import SIDEWAYS, upright
from malaria_cells.data.images.tiff_colours import rgb
from malaria_cells.data.images.tiff_samples import check_page, samples

STARTS = frozenset({b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"})  # both orders of bytes, classic and big
_MOST_PAGES = 1000  # pages that are looked at; more are a stack in any case
_MOST_SUB_PAGES = 16  # levels of a pyramid, and the previews beside a raw image
_DNG_VERSION = 50706  # tag
_REDUCED, _MASK = 1, 4  # flags of NewSubfileType


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
    """Width and height of the upright image, from the headers alone.

    Raises:
        UnreadableError: as `read_tiff`, as far as headers tell.
    """
    with _opened(file) as tiff:
        page = _image(tiff)
        width, height = page.imagewidth, page.imagelength
        return (height, width) if _orientation(page) in SIDEWAYS else (width, height)


def tiff_orientation(file: BinaryIO) -> int:
    """The orientation that the page declares, 1 to 8.

    Raises:
        UnreadableError: as `tiff_size`.
    """
    with _opened(file) as tiff:
        return _orientation(_image(tiff))


def read_tiff(file: BinaryIO) -> np.ndarray:
    """Decode the one image of a file as upright uint8 RGB (H, W, 3).

    Raises:
        UnreadableError: a stack, colours or numbers that have no one meaning as an image, or parts that are missing.
    """
    with _opened(file) as tiff:
        page = _image(tiff)
        return upright(rgb(page, samples(page, tiff.filehandle.size)), _orientation(page))


@contextmanager
def _opened(file: BinaryIO) -> Iterator[TiffFile]:
    file.seek(0)
    _quiet.here.reading = True
    try:
        with TiffFile(file, name="image.tif") as tiff:
            yield tiff
    finally:
        _quiet.here.reading = False


def _orientation(page: TiffPage) -> int:
    value = page.tags.valueof(274)
    return value if isinstance(value, int) else 1


def _image(tiff: TiffFile) -> TiffPage:
    """The largest page; smaller ones are the thumbnails, labels and pyramids of scanners.

    Raises:
        UnreadableError: several pages could be meant, or the largest one is no image that can be read.
    """
    pages = list(_pages(tiff))
    if not pages:
        raise UnreadableError("the image is broken (a TIFF without a page); export or copy it again")
    within = [sub for page in pages for sub in _sub_pages(page)]
    image = max([*pages, *within], key=_area)
    check_size((image.imagewidth, image.imagelength))
    if image.photometric in (PHOTOMETRIC.CFA, PHOTOMETRIC.LINEAR_RAW) or _DNG_VERSION in pages[0].tags:
        raise UnreadableError("it is a raw file of a camera; develop it in the camera's program and export it as TIFF or JPEG")
    _check_pages(pages[0], image, [p for p in pages if p is not image and not p.subfiletype & _MASK])
    check_page(image)
    return image


def _pages(tiff: TiffFile) -> Iterator[TiffPage]:
    offsets = set()
    for index in range(_MOST_PAGES):
        try:
            page = tiff.pages[index]
        except IndexError:
            break
        if page.offset in offsets:
            raise UnreadableError("the image is broken (its pages run in a circle); export or copy it again")
        offsets.add(page.offset)
        if isinstance(page, TiffPage):
            yield page
    else:
        return
    where = tiff.pages.next_page_offset
    if where and not tiff.is_ndpi:
        tiff.filehandle.seek(where)
        if any(tiff.filehandle.read(tiff.tiff.offsetsize)):
            raise UnreadableError("the image is broken (a page of it is missing); export or copy it again")


def _sub_pages(page: TiffPage) -> Iterator[TiffPage]:
    within = page.pages if page.subifds else None
    for index in range(min(len(page.subifds or ()), _MOST_SUB_PAGES)):
        sub = within[index] if within is not None else None
        if isinstance(sub, TiffPage):
            yield sub


def _area(page: TiffPage) -> int:
    return page.imagewidth * page.imagelength


def _check_pages(first: TiffPage, image: TiffPage, others: list[TiffPage]) -> None:
    width, height = image.imagewidth, image.imagelength
    alike = 1 + sum((p.imagewidth, p.imagelength) == (width, height) for p in others)
    planes = max(alike, _planes_of_one_page(image))
    if planes > 1:
        count = f"{planes:,}" + (" or more" if len(others) + 1 == _MOST_PAGES else "")
        channels = _channels(first) if image.samplesperpixel == 1 else 1
        if channels > 1:
            raise UnreadableError(
                f"its {channels} colour channels are pages of their own ({count} pages of {width} x {height} pixels); "
                "merge the channels to RGB (in ImageJ and Fiji: Image > Type > RGB Color) and save that"
            )
        raise UnreadableError(f"a stack of {count} pages of {width} x {height} pixels; save each as an image of its own")
    large = [p for p in others if not p.subfiletype & _REDUCED and _area(p) * 2 > width * height]
    if large:
        raise UnreadableError(
            f"{1 + len(large)} pages of which none is a thumbnail ({width} x {height} pixels, "
            f"{large[0].imagewidth} x {large[0].imagelength}); save each as an image of its own"
        )


def _planes_of_one_page(page: TiffPage) -> int:
    """Count the planes that some programs put behind one header."""
    planes = page.imagedepth if isinstance(page.imagedepth, int) else 2
    described = re.search(r"^images=(\d{1,9})", page.description, re.MULTILINE) if page.is_imagej else None
    if described:
        planes = max(planes, int(described[1]))
    shape = re.search(r'"shape": \[([\d, ]{1,200})\]', page.description) if '"truncated": true' in page.description else None
    if shape:
        planes = max(planes, math.prod(int(n) for n in shape[1].split(",") if n.strip()) // max(1, math.prod(page.shape)))
    if page.is_stk and 33629 in page.tags:  # a MetaMorph stack
        planes = max(planes, page.tags[33629].count)
    return planes


def _channels(first: TiffPage) -> int:
    described = re.search(r"^channels=(\d{1,9})", first.description, re.MULTILINE) if first.is_imagej else None
    if first.is_ome:
        described = re.search(r"\bSizeC=[\"'](\d{1,9})[\"']", first.description)
    return int(described[1]) if described else 1
