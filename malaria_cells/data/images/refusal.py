"""Errors about images that cannot be read, with advice; the reader puts the file's name in front."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from malaria_cells.base.errors import InputError, reason
from malaria_cells.data.images.names import SLIDE_SUFFIXES, UNREADABLE_SUFFIXES

MAX_PIXELS = 400_000_000  # of an image that is held whole
LARGE_PIXELS = 100_000_000  # of an image from which on detection reads it region by region, if its format allows; see `large`
# Of an image that is read region by region: pixels for each byte of its file, which DEFLATE and JPEG hardly reach with a blank image, and
# the sides, of which the memory for a strip depends.
MAX_PIXELS_PER_BYTE = 1000
SIDE_LIMITS = (64, 500_000)
READABLE = "JPEG, PNG, TIFF, JPEG 2000, BMP, WebP or GIF"

SLIDES_EXTRA = "pip install 'malaria-cells[slides]'"
_SLIDES = frozenset(UNREADABLE_SUFFIXES[suffix] for suffix in SLIDE_SUFFIXES)
_IMAGES = "export it as JPEG, PNG or TIFF with 8 bits from the program that shows it"
_MICROSCOPES = "open it in its own program, or in Fiji with Bio-Formats or QuPath, and export it as TIFF or PNG with 8 bits in RGB"
_ADVICE = {
    "HEIC of a telephone": "export it as JPEG, or set the camera to its most compatible format",
    "a raw file of a camera": "develop it in the camera's program and export it as TIFF or JPEG",
    "a video": "export the frames that are wanted as PNG",
}
# File signatures of formats that cannot be read: offset in bytes, signature, name of the format.
_STARTS = (
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "PSD of Photoshop"),
    (0, b"ZISRAWFILE", "CZI of Zeiss"),
    (0, b"\x70\x00\x00\x00", "LIF of Leica"),
    (0, b"\xda\xce\xbe\x0a", "ND2 of Nikon"),
    (0, b"FUJIFILMCCD-RAW", "a raw file of a camera"),
    (0, b"\x89HDF", "HDF5, as Imaris writes"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (128, b"DICM", "DICOM"),
    (8, b"AVI ", "a video"),
    *((4, b"ftyp" + brand, "AVIF") for brand in (b"avif", b"avis")),
    *((4, b"ftyp" + brand, "HEIC of a telephone") for brand in (b"hei", b"hev", b"mif1", b"msf1")),
    (4, b"ftypcrx", "a raw file of a camera"),
    (4, b"ftyp", "a video"),
)
SIGNATURE = 160  # bytes that are read to recognise a file's format


class UnreadableError(ValueError):
    """Error about an image that cannot be read; the message does not name the file."""


def export_advice(name: str) -> str:
    """Advice on how to export an image of an unreadable format, by the format's name in `UNREADABLE_SUFFIXES`.

    Examples:
        >>> export_advice("a video")
        'export the frames that are wanted as PNG'
    """
    if name in _ADVICE:
        return _ADVICE[name]
    of_microscopes = " of " in name or name in {"a slide scanner's own format", "DICOM", "Zarr", "HDF5, as Imaris writes"}
    advice = _MICROSCOPES if of_microscopes else _IMAGES
    return f"{advice}; or detect in it with {SLIDES_EXTRA}" if name in _SLIDES else advice


def unreadable(path: Path, start: bytes) -> str:
    """Error message for a file that cannot be read as an image; its format is told by the first bytes, or by the name."""
    if not start:
        return "not an image that can be read: the file is empty; copy it again"
    name = next((name for at, magic, name in _STARTS if start[at : at + len(magic)] == magic), None)
    name = name or UNREADABLE_SUFFIXES.get(path.suffix.lower())
    if name is not None:
        return f"not an image that can be read: it is {name}; {export_advice(name)}"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "not an image that can be read: it is a web page, probably from a failed download; download it again"
    if text.startswith(b"version https://git-lfs"):
        return "not an image that can be read: it is a Git LFS pointer; fetch the image with `git lfs pull`"
    return f"not an image that can be read; expected {READABLE}"


def refuse_raw(path: Path, start: bytes) -> None:
    """Reject raw files and scanner formats that have the structure of a TIFF, with a preview as the first image.

    Raises:
        UnreadableError: the file has such a format.
    """
    name = UNREADABLE_SUFFIXES.get(path.suffix.lower()) or ("a raw file of a camera" if start[8:10] == b"CR" else None)
    if name is not None:
        raise UnreadableError(f"not an image that can be read: it is {name}; {export_advice(name)}")


@contextmanager
def refusing(path: str | Path) -> Iterator[None]:
    """Turn every error of reading an image into one that names its file.

    Raises:
        InputError: any error was raised within.
    """
    try:
        yield
    except InputError:
        raise
    except UnreadableError as error:
        raise InputError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such image") from None
    except PermissionError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); allow reading it, or leave it out") from None
    except MemoryError:
        raise InputError(f"{path}: does not fit into the memory; cut it into parts") from None
    except Exception as error:  # libraries raise errors of many types for broken files
        raise InputError(f"{path}: the image is broken ({reason(error)}); export or copy it again") from error


def check_large(size_wh: tuple[int, int], n_bytes: int) -> None:
    """Check that an image can be what its header says, before anything is decoded.

    Args:
        size_wh: width and height that the header declares.
        n_bytes: size of the file.

    Raises:
        UnreadableError: the image has no pixels, or it is large and more than its bytes can hold, or longer or narrower than any picture.
    """
    width, height = size_wh
    if width < 1 or height < 1 or width * height <= LARGE_PIXELS:
        check_size(size_wh)
    elif width * height > n_bytes * MAX_PIXELS_PER_BYTE:
        raise UnreadableError(f"the image is broken ({width} x {height} pixels cannot be in {n_bytes:,} bytes); export or copy it again")
    elif min(size_wh) < SIDE_LIMITS[0] or max(size_wh) > SIDE_LIMITS[1]:
        raise UnreadableError(
            f"{width} x {height} pixels; a large image has sides of {SIDE_LIMITS[0]} to {SIDE_LIMITS[1]:,} pixels, cut it into parts"
        )


def check_size(size_wh: tuple[int, int]) -> None:
    """Check that an image has pixels, and not too many, before it is decoded.

    Raises:
        UnreadableError: the image has no pixels, or more than `MAX_PIXELS`.
    """
    width, height = size_wh
    if width < 1 or height < 1:
        raise UnreadableError(f"the image is broken ({width} x {height} pixels); export or copy it again")
    if width * height > MAX_PIXELS:
        raise UnreadableError(f"{width} x {height} pixels; the limit is {MAX_PIXELS:,} pixels, cut it into parts")
