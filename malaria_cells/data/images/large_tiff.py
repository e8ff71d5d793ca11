"""Regions of TIFF: its tiles are decoded when they are needed, uncompressed pixels read in place, strips decoded into a temporary file."""

import threading
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
from tifffile import TiffFile, TiffPage

from malaria_cells.data.images.large import Regions
from malaria_cells.data.images.refusal import check_large
from malaria_cells.data.images.scratch import Scratch
from malaria_cells.data.images.tiff import image_page, quiet
from malaria_cells.data.images.tiff_colours import is_pixelwise, rgb
from malaria_cells.data.images.tiff_samples import check_parts, one_part

MAX_PART = 300_000_000  # bytes of a decoded strip or tile; some programs write one strip for the whole image


def has_regions(page: TiffPage) -> bool:
    """Whether regions of a page can be read as they are in the whole page."""
    if not is_pixelwise(page):
        return False
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    return bool(page.is_memmappable or rows * columns * page.samplesperpixel <= MAX_PART)


def open_regions(path: Path) -> Regions:
    """Open a TIFF whose page `has_regions`.

    Raises:
        UnreadableError: parts of the page are missing.
    """
    tiff = _Tiff(path)
    if tiff.page.is_memmappable:
        return MappedTiff(tiff)
    if tiff.page.is_tiled:
        return TiledTiff(tiff)
    with closing(tiff), ExitStack() as on_failure:
        scratch = on_failure.enter_context(closing(Scratch(tiff.size_wh)))
        for index in range(len(tiff.page.dataoffsets)):
            pixels, top, _ = tiff.part(index)
            scratch.write(top, pixels)
        on_failure.pop_all()
        return scratch


class _Tiff:
    """An open TIFF and the page that is its image."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("rb")
        try:
            with quiet():
                self._tiff = TiffFile(self._file, name="image.tif")
                n_bytes = self._tiff.filehandle.size
                self.page = image_page(self._tiff, lambda size_wh: check_large(size_wh, n_bytes))
                check_parts(self.page, n_bytes)
                self.page.jpegtables, self.page.decode  # noqa: B018 - tifffile reads and makes them now, not in several threads at once
        except BaseException:
            self._file.close()
            raise
        self.size_wh = (self.page.imagewidth, self.page.imagelength)

    def part(self, index: int) -> tuple[np.ndarray, int, int]:
        """A strip or tile, uint8 RGB (h, w, 3), and its top and left in the image."""
        with self._lock:
            self._file.seek(self.page.dataoffsets[index])
            content = self._file.read(self.page.databytecounts[index])
        with quiet():
            values, top, left = one_part(self.page, index, content)
        return rgb(self.page, values), top, left

    def close(self) -> None:
        self._tiff.close()
        self._file.close()


class TiledTiff:
    """Regions of a page in tiles."""

    def __init__(self, tiff: _Tiff) -> None:
        self._tiff, self.size_wh = tiff, tiff.size_wh

    def read(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """Decode the tiles that a region touches."""
        page = self._tiff.page
        across = -(-page.imagewidth // page.tilewidth)
        region = np.empty((height, width, 3), dtype=np.uint8)
        for row in range(top // page.tilelength, -(-(top + height) // page.tilelength)):
            for column in range(left // page.tilewidth, -(-(left + width) // page.tilewidth)):
                pixels, y, x = self._tiff.part(row * across + column)
                y0, x0 = max(top - y, 0), max(left - x, 0)
                inside = pixels[y0 : top + height - y, x0 : left + width - x]
                below, right = y + y0 - top, x + x0 - left
                region[below : below + inside.shape[0], right : right + inside.shape[1]] = inside
        return region

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()


class MappedTiff:
    """Regions of a page without compression."""

    def __init__(self, tiff: _Tiff) -> None:
        self._tiff, self.size_wh = tiff, tiff.size_wh

    def read(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """Read the rows of a region."""
        page = self._tiff.page
        shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
        mapped = np.memmap(self._tiff.path, np.uint8, "r", page.dataoffsets[0], shape)
        return rgb(page, np.array(mapped[top : top + height, left : left + width]))

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()
