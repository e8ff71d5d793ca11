"""Opens an image for detection: a small one as an array, a large one as something whose regions are read."""

from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ImageFile

from malaria_cells.data.images import raster
from malaria_cells.data.images.large import LargeImage
from malaria_cells.data.images.reading import read_by_format, tiff_reader
from malaria_cells.data.images.refusal import LARGE_PIXELS, MAX_PIXELS, UnreadableError, check_large
from malaria_cells.data.images.slides import is_slide, open_slide


def open_image(path: str | Path, large_from: int | None = None) -> np.ndarray | LargeImage:
    """Open an image for detection.

    An image of up to `large_from` pixels is read as `read_image` does. A larger one has the same pixels, but is not held whole: TIFF of
    8 bits without transparency, JPEG and PNG of 8 bits in RGB, and slides of scanners. Images of other kinds are read whole.

    Args:
        path: the file.
        large_from: number of pixels; None: `LARGE_PIXELS`.

    Returns:
        uint8 RGB (H, W, 3), or an image whose regions are read.

    Raises:
        InputError: as `read_image`; only images of other kinds are limited to 400 million pixels.
    """
    path = Path(path)
    if is_slide(path):
        return open_slide(path)
    large_from = LARGE_PIXELS if large_from is None else large_from
    from_tiff, from_raster = partial(_from_tiff, path, large_from), partial(_from_raster, path, large_from)
    return read_by_format(path, from_tiff, from_raster, lambda size_wh: check_large(size_wh, path.stat().st_size))


def _from_tiff(path: Path, large_from: int, file: BinaryIO) -> np.ndarray | LargeImage:
    tiff = tiff_reader()
    with tiff.opened(file) as opened:
        n_bytes = opened.filehandle.size
        page = tiff.image_page(opened, lambda size_wh: check_large(size_wh, n_bytes))
        if page.imagewidth * page.imagelength > large_from:
            from malaria_cells.data.images import large_tiff

            size_wh, orientation = (page.imagewidth, page.imagelength), tiff.orientation_of(page)
            if large_tiff.has_regions(page):
                return LargeImage(path, lambda: large_tiff.open_regions(path), size_wh, orientation)
            _check_whole(size_wh)
        pixels: np.ndarray = tiff.pixels_of(opened, page)
        return pixels


def _from_raster(path: Path, large_from: int, image: ImageFile.ImageFile) -> np.ndarray | LargeImage:
    if image.size[0] * image.size[1] > large_from:
        from malaria_cells.data.images import large_raster

        kind, size_wh, orientation = image.format or "", image.size, raster.orientation(image)
        if large_raster.has_regions(image):
            return LargeImage(path, lambda: large_raster.decode(path, kind, size_wh), size_wh, orientation)
        _check_whole(size_wh)
    return raster.pixels(image)


def _check_whole(size_wh: tuple[int, int]) -> None:
    """Check that an image can be held whole."""
    width, height = size_wh
    if width * height > MAX_PIXELS:
        raise UnreadableError(
            f"{width} x {height} pixels; an image of this kind is held whole, up to {MAX_PIXELS:,} pixels; save it as a TIFF with "
            "tiles, of 8 bits in RGB without transparency, or cut it into parts"
        )
