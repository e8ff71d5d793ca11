"""Slides of scanners in formats of their own, by OpenSlide (openslide.org)."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from malaria_cells.data.images.large import LargeImage
from malaria_cells.data.images.names import SLIDE_SUFFIXES, UNREADABLE_SUFFIXES, reads_slides
from malaria_cells.data.images.refusal import SIDE_LIMITS, SLIDES_EXTRA, UnreadableError, refusing


def is_slide(path: Path) -> bool:
    """Whether a file has the suffix of a slide that OpenSlide reads and `read_image` does not."""
    return path.suffix.lower() in SLIDE_SUFFIXES


def open_slide(path: Path) -> LargeImage:
    """Open the scanned area of a slide at its full resolution.

    Raises:
        InputError: OpenSlide is not installed or cannot read the file.
    """
    with refusing(path):
        if not path.is_file():
            raise FileNotFoundError
        if not reads_slides():
            name = UNREADABLE_SUFFIXES.get(path.suffix.lower(), "a slide")
            raise UnreadableError(
                f"it is {name}, which needs a further library: {SLIDES_EXTRA}; or export it as TIFF or PNG with 8 bits in RGB"
            )
        regions = SlideRegions(path)
        if not SIDE_LIMITS[0] <= min(regions.size_wh) <= max(regions.size_wh) <= SIDE_LIMITS[1]:
            width, height = regions.size_wh
            raise UnreadableError(f"{width} x {height} pixels; expected sides of {SIDE_LIMITS[0]} to {SIDE_LIMITS[1]:,} pixels")
        regions.close()
    return LargeImage(path, lambda: SlideRegions(path), regions.size_wh)


class SlideRegions:
    """Regions of a slide at its full resolution; what was not scanned is white, or what the scanner declares as background."""

    def __init__(self, path: Path) -> None:
        import openslide

        try:
            self._slide: Any = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise UnreadableError(f"OpenSlide cannot read it ({error}); copy it again, with all files that belong to it") from None
        properties = self._slide.properties
        left, top, width, height = (properties.get(f"openslide.bounds-{name}") for name in ("x", "y", "width", "height"))
        whole_wh = self._slide.dimensions
        self._corner = (int(left or 0), int(top or 0))
        self.size_wh: tuple[int, int] = (int(width or whole_wh[0]), int(height or whole_wh[1]))
        self._background = "#" + properties.get("openslide.background-color", "FFFFFF")
        self._lock = threading.Lock()

    def read(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """Decode a region."""
        corner = (self._corner[0] + left, self._corner[1] + top)
        with self._lock:  # its cache is one for all threads
            region = self._slide.read_region(corner, 0, (width, height))
        if region.getextrema()[3][0] == 255:
            return np.asarray(region)[..., :3].copy()
        background = Image.new("RGBA", region.size, self._background)
        return np.asarray(Image.alpha_composite(background, region))[..., :3].copy()

    def close(self) -> None:
        """Close the file."""
        self._slide.close()
