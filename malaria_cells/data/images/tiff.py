"""Reads TIFF of microscopes, slide scanners and image editors through tifffile, and chooses the page that is the image."""

import logging
import math
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from tifffile import PHOTOMETRIC, TiffFile, TiffPage

from malaria_cells.data.images.refusal import UnreadableError, check_size
from malaria_cells.data.images.samples import SIDEWAYS, upright
from malaria_cells.data.images.tiff_colours import rgb
from malaria_cells.data.images.tiff_samples import check_page, samples

_MAX_PAGES = 1000  # pages that are read; a file with more is a stack anyway
_MAX_SUB_PAGES = 16  # sub-pages that are read of a page: levels of a pyramid, or previews of a raw image
_DNG_VERSION = 50706  # TIFF tag
_REDUCED, _MASK = 1, 4  # flags of the NewSubfileType tag


class _Quiet(logging.Filter):
    """Suppresses tifffile's log messages while this module reads a file; other uses of tifffile are not affected."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - logging passes it by this name
        return not getattr(self.here, "reading", False)


_quiet = _Quiet()
logging.getLogger("tifffile").addFilter(_quiet)


def tiff_size(file: BinaryIO) -> tuple[int, int]:
    """Width and height of the upright image, from the headers alone.

    Raises:
        UnreadableError: as `read_tiff`, as far as the headers show it.
    """
    with opened(file) as tiff:
        page = image_page(tiff)
        width, height = page.imagewidth, page.imagelength
        return (height, width) if orientation_of(page) in SIDEWAYS else (width, height)


def tifforientation_of(file: BinaryIO) -> int:
    """The orientation tag of the image, 1 to 8.

    Raises:
        UnreadableError: as `tiff_size`.
    """
    with opened(file) as tiff:
        return orientation_of(image_page(tiff))


def read_tiff(file: BinaryIO) -> np.ndarray:
    """Decode the image of a file as upright uint8 RGB (H, W, 3).

    Raises:
        UnreadableError: the file is a stack, its values have no defined meaning as colours, or parts of it are missing.
    """
    with opened(file) as tiff:
        return pixels_of(tiff, image_page(tiff))


def pixels_of(tiff: TiffFile, page: TiffPage) -> np.ndarray:
    """Decode a page as upright uint8 RGB (H, W, 3); see `read_tiff`."""
    return upright(rgb(page, samples(page, tiff.filehandle.size)), orientation_of(page))


@contextmanager
def opened(file: BinaryIO) -> Iterator[TiffFile]:
    """Open a TIFF without messages of tifffile."""
    file.seek(0)
    with quiet(), TiffFile(file, name="image.tif") as tiff:
        yield tiff


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress tifffile's messages of this thread."""
    _quiet.here.reading = True
    try:
        yield
    finally:
        _quiet.here.reading = False


def orientation_of(page: TiffPage) -> int:
    """The orientation tag of a page, 1 to 8; 1 if there is none."""
    value = page.tags.valueof(274)
    return value if isinstance(value, int) else 1


def image_page(tiff: TiffFile, check: Callable[[tuple[int, int]], None] = check_size) -> TiffPage:
    """The largest page; smaller pages are thumbnails, labels and pyramid levels of scanners.

    Args:
        tiff: the file.
        check: checks the width and height of that page.

    Raises:
        UnreadableError: several pages may be the image, or the largest page cannot be read.
    """
    pages = list(_pages(tiff))
    if not pages:
        raise UnreadableError("the image is broken (a TIFF without a page); export or copy it again")
    sub_pages = [sub for page in pages for sub in _sub_pages(page)]
    image = max([*pages, *sub_pages], key=_area)
    check((image.imagewidth, image.imagelength))
    if image.photometric in (PHOTOMETRIC.CFA, PHOTOMETRIC.LINEAR_RAW) or _DNG_VERSION in pages[0].tags:
        raise UnreadableError("it is a raw file of a camera; develop it in the camera's program and export it as TIFF or JPEG")
    _check_pages(pages[0], image, [p for p in pages if p is not image and not p.subfiletype & _MASK])
    check_page(image)
    return image


def _pages(tiff: TiffFile) -> Iterator[TiffPage]:
    offsets = set()
    for index in range(_MAX_PAGES):
        try:
            page = tiff.pages[index]
        except IndexError:
            break
        if page.offset in offsets:
            raise UnreadableError("the image is broken (its list of pages is circular); export or copy it again")
        offsets.add(page.offset)
        if isinstance(page, TiffPage):
            yield page
    else:
        return
    next_offset = tiff.pages.next_page_offset
    if next_offset and not tiff.is_ndpi:
        tiff.filehandle.seek(next_offset)
        if any(tiff.filehandle.read(tiff.tiff.offsetsize)):
            raise UnreadableError("the image is broken (a page is missing); export or copy it again")


def _sub_pages(page: TiffPage) -> Iterator[TiffPage]:
    sub_pages = page.pages if page.subifds else None
    for index in range(min(len(page.subifds or ()), _MAX_SUB_PAGES)):
        sub = sub_pages[index] if sub_pages is not None else None
        if isinstance(sub, TiffPage):
            yield sub


def _area(page: TiffPage) -> int:
    return page.imagewidth * page.imagelength


def _check_pages(first: TiffPage, image: TiffPage, other_pages: list[TiffPage]) -> None:
    width, height = image.imagewidth, image.imagelength
    equal_size = 1 + sum((p.imagewidth, p.imagelength) == (width, height) for p in other_pages)
    planes = max(equal_size, _planes_of_one_page(image))
    if planes > 1:
        count = f"{planes:,}" + (" or more" if len(other_pages) + 1 == _MAX_PAGES else "")
        channels = _channels(first) if image.samplesperpixel == 1 else 1
        if channels > 1:
            raise UnreadableError(
                f"its {channels} colour channels are separate pages ({count} pages of {width} x {height} pixels); "
                "merge the channels to RGB (in ImageJ and Fiji: Image > Type > RGB Color) and save that"
            )
        raise UnreadableError(f"a stack of {count} pages of {width} x {height} pixels; save each as a separate image")
    large = [p for p in other_pages if not p.subfiletype & _REDUCED and _area(p) * 2 > width * height]
    if large:
        raise UnreadableError(
            f"{1 + len(large)} pages of which none is a thumbnail ({width} x {height} pixels, "
            f"{large[0].imagewidth} x {large[0].imagelength}); save each as a separate image"
        )


def _planes_of_one_page(page: TiffPage) -> int:
    """Number of planes of a page; some programs write a whole stack with one header."""
    planes = page.imagedepth if isinstance(page.imagedepth, int) else 2
    imagej_images = re.search(r"^images=(\d{1,9})", page.description, re.MULTILINE) if page.is_imagej else None
    if imagej_images:
        planes = max(planes, int(imagej_images[1]))
    shape = re.search(r'"shape": \[([\d, ]{1,200})\]', page.description) if '"truncated": true' in page.description else None
    if shape:
        planes = max(planes, math.prod(int(n) for n in shape[1].split(",") if n.strip()) // max(1, math.prod(page.shape)))
    if page.is_stk and 33629 in page.tags:  # a MetaMorph stack
        planes = max(planes, page.tags[33629].count)
    return planes


def _channels(first: TiffPage) -> int:
    match = re.search(r"^channels=(\d{1,9})", first.description, re.MULTILINE) if first.is_imagej else None
    if first.is_ome:
        match = re.search(r"\bSizeC=[\"'](\d{1,9})[\"']", first.description)
    return int(match[1]) if match else 1
