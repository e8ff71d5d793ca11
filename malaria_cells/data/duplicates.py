"""Finds duplicate images under several names: identical files, and files that another program re-encoded."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.images import read_image

log = logging.getLogger(__name__)

SIDE = 32  # pixels: side of the thumbnails that are compared
# Fraction of the contrast by which thumbnails of duplicates may differ (root mean square over both). On 1,200 images of nine
# laboratories, a re-encoded image differed by up to 0.02 (JPEG quality 95), 0.09 (75) and 0.13 (40, the palest image), and two fields
# of one slide by at least 0.55. Two pairs lie between: a field that was photographed twice (0.19), and a probable copy (0.09).
MAX_DIFFERENCE = 0.12
# Pixels: side of the larger thumbnails, whose fine detail is compared where the small thumbnails agree. With the same threshold, images
# that were re-encoded at quality 50 or more match, two fields differ by at least 0.23, and the two pairs between by 0.30 and 0.14.
FINE_SIDE = 128
MAX_COLOUR_DIFFERENCE = 2.5  # grey levels of 255 by which the mean colours of duplicates may differ
MIN_CONTRAST = 1.0  # grey levels of 255: standard deviation below which an image is blank and is not compared
# Pixels that are decoded at most to compare files that are not identical, some ten seconds; those of files other than JPEG count threefold.
MAX_PIXELS = 3_000_000_000
_PER_FILE = 200_000  # pixels: what opening a file counts as
_ROWS = 512  # thumbnails that are compared with all others in one matrix product


def same_images(images: Sequence[AnnotatedImage], asked: Iterable[int] | None = None) -> list[list[int]]:
    """Find duplicate images by their content.

    Two images are duplicates if their files are identical, or if their upright sizes are equal and their pixels differ no more than
    after re-encoding as JPEG. Blank images are no duplicates, unless `asked` is given and their files are identical. If images of equal
    size have more pixels than can be decoded in some seconds (`MAX_PIXELS`), only identical files are found.

    Args:
        images: images with files; one that cannot be read has no duplicate.
        asked: indices of the images whose duplicates are wanted, which are compared without a limit. None: all images.

    Returns:
        One list per duplicated image: two or more indices into `images`, ascending.
    """
    wanted = set(range(len(images)) if asked is None else asked)
    duplicates = _DisjointSets(len(images))
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(_file_size, (p.path for p in images)))
        of_equal_size = [i for group in _equal_groups({i: size for i, size in enumerate(sizes) if size}, wanted) for i in group]
        digests = pool.map(lambda i: _digest(images[i].path), of_equal_size)
        for group in _equal_groups(dict(zip(of_equal_size, digests, strict=True)), wanted):
            if asked is not None or _thumbnail(images[group[0]].path) is not None:
                duplicates.join(group)
        one_of_each = {i: images[i].size_wh for i in range(len(images)) if sizes[i] and duplicates.first(i) == i}
        wanted_firsts = {duplicates.first(i) for i in wanted}
        to_read = [i for group in _equal_groups(one_of_each, wanted_firsts) for i in group]
        if asked is None and sum(_reading_cost(images[i]) for i in to_read) > MAX_PIXELS:
            log.info(f"{len(to_read)} images are too many to compare their pixels; only identical files are found as duplicates")
            to_read = []
        read_thumbnails = dict(zip(to_read, pool.map(lambda i: _thumbnail(images[i].path), to_read), strict=True))
    thumbnails = {i: thumbnail for i, thumbnail in read_thumbnails.items() if thumbnail is not None}
    for group in _equal_groups({i: images[i].size_wh for i in thumbnails}, wanted_firsts):
        for first, second in _matching_pairs(np.stack([thumbnails[i] for i in group])):
            if _same_detail(images[group[first]].path, images[group[second]].path):
                duplicates.join([group[first], group[second]])
    return [indices for indices in duplicates.lists() if wanted.intersection(indices)]


class _DisjointSets:
    """Disjoint-set forest of the indices 0 to n - 1."""

    def __init__(self, n: int):
        self._above = list(range(n))

    def first(self, i: int) -> int:
        while self._above[i] != i:
            self._above[i] = self._above[self._above[i]]
            i = self._above[i]
        return i

    def join(self, indices: Sequence[int]) -> None:
        firsts = sorted(self.first(i) for i in indices)
        for i in firsts[1:]:
            self._above[i] = firsts[0]

    def lists(self) -> list[list[int]]:
        by_first: dict[int, list[int]] = defaultdict(list)
        for i in range(len(self._above)):
            by_first[self.first(i)].append(i)
        return [joined for joined in by_first.values() if len(joined) > 1]


def _equal_groups(values: Mapping[int, Hashable], wanted: set[int]) -> list[list[int]]:
    """Groups of two or more indices with equal values, as far as they contain a wanted index."""
    by_value: dict[Hashable, list[int]] = defaultdict(list)
    for i, value in values.items():
        by_value[value].append(i)
    return [indices for indices in by_value.values() if len(indices) > 1 and wanted.intersection(indices)]


def _file_size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path is not None else 0
    except OSError:
        return 0


def _digest(path: Path) -> bytes | str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return str(path)


def _reading_cost(image: AnnotatedImage) -> int:
    width, height = image.size_wh
    return _PER_FILE + width * height * (1 if _is_jpeg(image.path) else 3)


def _is_jpeg(path: Path) -> bool:
    return path.suffix.lower() in {".jpg", ".jpeg"}


def _thumbnail(path: Path) -> np.ndarray | None:
    """Thumbnail of `SIDE` x `SIDE` pixels, float32 (side, side, 3); None for a blank or unreadable image."""
    small = _resized(path, SIDE)
    return small if small is not None and small.std(axis=(0, 1)).max() >= MIN_CONTRAST else None


def _same_detail(first: Path, second: Path) -> bool:
    a, b = _fine_detail(first), _fine_detail(second)
    if a is None or b is None:
        return False
    return bool(np.square(a[0] - b[0]).mean() <= MAX_DIFFERENCE**2 * max(a[1], b[1]))


def _fine_detail(path: Path) -> tuple[np.ndarray, float] | None:
    """Difference of the grey thumbnails of `FINE_SIDE` and `SIDE` pixels, float32 (fine side, fine side), and the former's variance."""
    fine = _resized(path, FINE_SIDE)
    if fine is None:
        return None
    grey = fine.mean(axis=2)
    coarse = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return grey - cv2.resize(coarse, (FINE_SIDE, FINE_SIDE), interpolation=cv2.INTER_LINEAR), float(grey.var())


def _resized(path: Path, side: int) -> np.ndarray | None:
    """Thumbnail of the upright image, float32 (side, side, 3); None for an unreadable image."""
    try:
        pixels = _shrunk_jpeg(path) if _is_jpeg(path) else None
        small = cv2.resize(read_image(path) if pixels is None else pixels, (side, side), interpolation=cv2.INTER_AREA)
    except (InputError, OSError):
        return None
    return small.astype(np.float32)


def _shrunk_jpeg(path: Path) -> np.ndarray | None:
    """A JPEG downscaled by its decoder, which is fast, uint8 RGB; None if the file is not a JPEG or neither RGB nor grey."""
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            if image.mode not in {"RGB", "L"}:
                return None
            image.draft("RGB", (2 * FINE_SIDE, 2 * FINE_SIDE))
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception:  # noqa: BLE001 - Pillow raises many types for broken files; `read_image` reports what is wrong
        return None


def _matching_pairs(small: np.ndarray) -> list[tuple[int, int]]:
    """Index pairs of the thumbnails (n, side, side, 3) that match."""
    n = len(small)
    colours = small.mean(axis=(1, 2))
    shapes = (small - colours[:, None, None]).reshape(n, -1)
    power = np.square(shapes).mean(axis=1)
    pairs = []
    for start in range(0, n, _ROWS):
        rows = slice(start, start + _ROWS)
        between = power[rows, None] + power[None] - 2 / shapes.shape[1] * (shapes[rows] @ shapes.T)
        is_same = between <= MAX_DIFFERENCE**2 * np.maximum(power[rows, None], power[None])
        for first, second in np.argwhere(is_same):
            i, j = int(first) + start, int(second)
            if i < j and np.abs(colours[i] - colours[j]).max() <= MAX_COLOUR_DIFFERENCE:
                pairs.append((i, j))
    return pairs
