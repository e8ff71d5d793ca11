"""Finds the images that are one image under several names: the same file, or written anew by another program."""

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

SIDE = 32  # pixels of the small version of an image, which is compared
# Fraction of the contrast by which the small versions of one image may differ (root mean square of both). On 1,200 images
# of nine laboratories, one that was written anew differed by up to 0.02 (JPEG of quality 95), 0.09 (75) and 0.13 (40, of the
# palest); two fields of one slide by 0.55 at least. Two pairs lie between: a field that was photographed twice (0.19), and what
# seems to be a copy (0.09).
SAME = 0.12
# Pixels of the version whose detail, beyond that of the small one, is compared where the small ones are the same. By the same fraction
# of the contrast, images that were written anew at quality 50 or more are the same, two fields differ by 0.23 at least, and
# the two pairs between by 0.30 and 0.14.
FINE_SIDE = 128
SAME_COLOUR = 2.5  # levels of 255 by which the mean colours may differ
LEAST_CONTRAST = 1.0  # levels of 255; under it an image shows nothing that could be the same
# Pixels that are read to compare what is not the same byte for byte, some ten seconds; one that is no JPEG counts three times.
MOST_PIXELS = 3_000_000_000
_PER_FILE = 200_000  # pixels that opening a file is worth
_ROWS = 512  # small versions that are compared with all others at once


def same_images(images: Sequence[AnnotatedImage], asked: Iterable[int] | None = None) -> list[list[int]]:
    """Find the images that show one and the same image, by their content.

    Files are the same that are equal byte for byte, or whose upright pixels have one size and differ as little as another program's
    JPEG does. An image of one colour all over is like no other, unless it is asked for and its file is the same. Of more images
    of one size than can be read in some seconds (`MOST_PIXELS`), those alone are found whose files are equal.

    Args:
        images: with files; one that cannot be read is like no other.
        asked: indices of images; what is like none of them is not looked for, and there is no limit then. None: all.

    Returns:
        Lists of two indices or more into `images`, each in rising order: one list an image.
    """
    of = set(range(len(images)) if asked is None else asked)
    same = _Joined(len(images))
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(_bytes_of, (p.path for p in images)))
        doubled = [i for alike in _shared({i: size for i, size in enumerate(sizes) if size}, of) for i in alike]
        digests = pool.map(lambda i: _digest(images[i].path), doubled)
        for alike in _shared(dict(zip(doubled, digests, strict=True)), of):
            if asked is not None or _small(images[alike[0]].path) is not None:
                same.join(alike)
        one_of_each = {i: images[i].size_wh for i in range(len(images)) if sizes[i] and same.first(i) == i}
        firsts = {same.first(i) for i in of}
        read = [i for alike in _shared(one_of_each, firsts) for i in alike]
        if asked is None and sum(_cost(images[i]) for i in read) > MOST_PIXELS:
            log.info(f"{len(read)} images are too many to be compared but byte for byte")
            read = []
        small = dict(zip(read, pool.map(lambda i: _small(images[i].path), read), strict=True))
    seen = {i: version for i, version in small.items() if version is not None}
    for alike in _shared({i: images[i].size_wh for i in seen}, firsts):
        for first, second in _alike(np.stack([seen[i] for i in alike])):
            if _same_detail(images[alike[first]].path, images[alike[second]].path):
                same.join([alike[first], alike[second]])
    return [found for found in same.lists() if of.intersection(found)]


class _Joined:
    """Indices, of which some are joined (a disjoint-set forest)."""

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


def _shared(values: Mapping[int, Hashable], of: set[int]) -> list[list[int]]:
    """The indices of each value that several have, one of `of` among them."""
    by_value: dict[Hashable, list[int]] = defaultdict(list)
    for i, value in values.items():
        by_value[value].append(i)
    return [alike for alike in by_value.values() if len(alike) > 1 and of.intersection(alike)]


def _bytes_of(path: Path | None) -> int:
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


def _cost(image: AnnotatedImage) -> int:
    width, height = image.size_wh
    return _PER_FILE + width * height * (1 if _is_jpeg(image.path) else 3)


def _is_jpeg(path: Path) -> bool:
    return path.suffix.lower() in {".jpg", ".jpeg"}


def _small(path: Path) -> np.ndarray | None:
    """The upright image in `SIDE` x `SIDE` pixels, float32 (side, side, 3); None where there is nothing to see or to read."""
    small = _resized(path, SIDE)
    return small if small is not None and small.std(axis=(0, 1)).max() >= LEAST_CONTRAST else None


def _same_detail(first: Path, second: Path) -> bool:
    a, b = _detail(first), _detail(second)
    if a is None or b is None:
        return False
    return bool(np.square(a[0] - b[0]).mean() <= SAME**2 * max(a[1], b[1]))


def _detail(path: Path) -> tuple[np.ndarray, float] | None:
    """What the grey image in `FINE_SIDE` pixels has beyond that in `SIDE`, float32 (fine side, fine side), and its variance."""
    fine = _resized(path, FINE_SIDE)
    if fine is None:
        return None
    grey = fine.mean(axis=2)
    coarse = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return grey - cv2.resize(coarse, (FINE_SIDE, FINE_SIDE), interpolation=cv2.INTER_LINEAR), float(grey.var())


def _resized(path: Path, side: int) -> np.ndarray | None:
    """The upright image in `side` x `side` pixels, float32 (side, side, 3); None where it cannot be read."""
    try:
        pixels = _shrunk_jpeg(path) if _is_jpeg(path) else None
        small = cv2.resize(read_image(path) if pixels is None else pixels, (side, side), interpolation=cv2.INTER_AREA)
    except (InputError, OSError):
        return None
    return small.astype(np.float32)


def _shrunk_jpeg(path: Path) -> np.ndarray | None:
    """A JPEG as its decoder shrinks it in an instant, uint8 RGB; None where it is none or has other colours."""
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            if image.mode not in {"RGB", "L"}:
                return None
            image.draft("RGB", (2 * FINE_SIDE, 2 * FINE_SIDE))
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception:  # noqa: BLE001 - whatever Pillow raises of a broken file: the one reader says what is wrong with it
        return None


def _alike(small: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of rows of small versions (n, side, side, 3) that are one image."""
    n = len(small)
    colours = small.mean(axis=(1, 2))
    shapes = (small - colours[:, None, None]).reshape(n, -1)
    power = np.square(shapes).mean(axis=1)
    found = []
    for start in range(0, n, _ROWS):
        rows = slice(start, start + _ROWS)
        between = power[rows, None] + power[None] - 2 / shapes.shape[1] * (shapes[rows] @ shapes.T)
        is_same = between <= SAME**2 * np.maximum(power[rows, None], power[None])
        for first, second in np.argwhere(is_same):
            i, j = int(first) + start, int(second)
            if i < j and np.abs(colours[i] - colours[j]).max() <= SAME_COLOUR:
                found.append((i, j))
    return found
