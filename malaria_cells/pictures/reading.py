"""The one reader of pictures: upright uint8 RGB, whatever is on disk.

Training and use read through here alone, because two JPEG decoders differ enough to flip a decision near a threshold.
"""

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from malaria_cells.errors import InputError, reason
from malaria_cells.pictures.names import SUFFIXES, is_picture
from malaria_cells.pictures.walking import walk_files

MAX_PIXELS = 400_000_000
MOST = 65_535  # value of 16 bits
DARK = round(4095 / (MOST / 255))  # what is left of the largest value of 12 bits
TIFF_STARTS = frozenset({b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"})  # both orders of bytes, classic and big
# EXIF orientations 5 to 8 lay the picture on its side, so that width and height change places.
_ORIENTATION_TAG = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})

Image.MAX_IMAGE_PIXELS = None  # our own limit below is checked from the header and names the file


def read_picture(path: str | Path) -> np.ndarray:
    """Read a picture upright (EXIF rotation applied) as RGB.

    Grey becomes three equal channels, palettes are looked up, transparency is laid on white, 16-bit values are divided
    by 257. Those of a camera of 12 bits or fewer, saved in 16 as they are, and fractions are refused: nearly black would be left.
    So are the stacks that microscopes write, of which one page would stand for all; smaller pages, which scanners add, are not looked at.

    Returns:
        uint8 (H, W, 3), values 0 to 255.

    Raises:
        InputError: missing, no picture, broken, too dark for its 16 bits or beyond them, a stack, or over `MAX_PIXELS`; its file is named.

    Examples:
        >>> picture = read_picture("docs/images/smear.jpg")
        >>> picture.shape, str(picture.dtype)
        ((768, 1024, 3), 'uint8')
    """
    path = Path(path)
    with _opened(path) as image:
        _check_pages(path, image)
        # Asked before the pixels are read, when Pillow forgets it.
        deep = image.mode[0] in "IF" or any(";16" in str(tile.args) for tile in image.tile)
        pixels = np.asarray(_rgb(path, ImageOps.exif_transpose(image)))
    if deep and pixels.max() <= DARK:
        raise InputError(
            f"{path}: its values are of 16 bits or more but so small that it would come out black; export it with 8 bits, "
            "or scaled to the whole range of 16"
        )
    return pixels


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of the upright picture, from the header alone.

    Raises:
        InputError: as `read_picture`.
    """
    with _opened(path) as image:
        width, height = image.size
        sideways = image.getexif().get(_ORIENTATION_TAG) in _SIDEWAYS
    return (height, width) if sideways else (width, height)


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    try:
        with Image.open(path) as image:
            _check_size(path, image.size)
            yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such picture") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; name a picture in it") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: {_unidentified(path)}") from None
    except Exception as error:  # Pillow raises whatever the broken part raises
        raise InputError(f"{path}: the picture is broken ({reason(error)}); export or copy it again") from error


def _check_size(path: Path, size_wh: tuple[int, int]) -> None:
    if size_wh[0] * size_wh[1] > MAX_PIXELS:
        raise InputError(f"{path}: {size_wh[0]} x {size_wh[1]} pixels; the limit is {MAX_PIXELS:,} pixels, cut it into parts")


def _check_pages(path: Path, image: Image.Image) -> None:
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.n_frames == 1:
        return
    sizes = []
    for page in range(image.n_frames):
        image.seek(page)
        sizes.append(image.size)
    image.seek(0)
    alike = sizes.count(sizes[0])
    if alike > 1:
        raise InputError(f"{path}: a stack of {alike} pages of {sizes[0][0]} x {sizes[0][1]} pixels; save each as a picture of its own")


def _unidentified(path: Path) -> str:
    with path.open("rb") as file:
        is_tiff = file.read(4) in TIFF_STARTS
    if is_tiff:
        return "a TIFF of a kind that cannot be read (colours of 32 bits or in fractions, say); export it with 8 bits"
    return "not a picture that can be read; expected JPEG, PNG, TIFF, BMP, WebP or GIF"


def _rgb(path: Path, image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        if not values.max() <= MOST:
            raise InputError(f"{path}: its values go up to {values.max():,.0f}, over the {MOST:,} of 16 bits; export it with 8 bits")
        image = Image.fromarray(np.clip(np.rint(values / (MOST / 255)), 0, 255).astype(np.uint8))
    if "transparency" in image.info or image.mode in {"RGBA", "LA", "PA", "La", "RGBa"}:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    return image.convert("RGB")


def list_pictures(where: str | Path) -> tuple[Path, list[str]]:
    """Find the pictures of one file, a directory (recursively) or a glob.

    Args:
        where: a path, or a pattern with ``*``, ``?`` or ``[``; ``**`` crosses folders.

    Returns:
        The folder that keys are relative to, and the sorted keys (relative paths with forward slashes).

    Raises:
        InputError: nothing is there, or nothing of it is a picture.
    """
    path = Path(where)
    if path.is_dir():
        root, found = path, [p for p in walk_files(path) if is_picture(p)]
    elif path.is_file():
        return path.parent, [path.name]
    elif glob.has_magic(str(where)):
        parts = path.parts
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        root = Path(*parts[:fixed])
        found = [p for p in map(Path, glob.glob(str(where), recursive=True)) if p.is_file() and is_picture(p)]
    else:
        raise InputError(f"{where}: no such picture or directory")
    if not found:
        raise InputError(f"{where}: found no picture; expected files ending in {', '.join(sorted(SUFFIXES))}")
    return root, sorted(p.relative_to(root).as_posix() for p in found)
