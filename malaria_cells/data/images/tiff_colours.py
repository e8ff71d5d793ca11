"""Converts the samples of a TIFF page to 8-bit RGB."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms
from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG, TiffPage

from malaria_cells.data.images.refusal import UnreadableError
from malaria_cells.data.images.samples import MAX_16_BIT, check_brightness, on_white, to_8_bits, to_16_bits

_COLOURS: dict[int, int] = {  # number of colour samples of a pixel; further samples are transparency or undefined
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.YCBCR: 3,
    PHOTOMETRIC.SEPARATED: 4,
    PHOTOMETRIC.CIELAB: 3,
    PHOTOMETRIC.ICCLAB: 3,
}
_PREMULTIPLIED, _SEPARATE = 1, 2  # values of the ExtraSamples tag for transparency
_CMYK = 1  # value of the InkSet tag
_REC_601 = (0.299, 0.587, 0.114)  # default of the YCbCrCoefficients tag
_FULL_RANGE = (0, 255, 128, 255, 128, 255)  # default of the ReferenceBlackWhite tag


def rgb(page: TiffPage, samples: np.ndarray) -> np.ndarray:
    """Convert the samples of a page to colours.

    Args:
        page: the page, whose tags define the colours.
        samples: (H, W, samples per pixel).

    Returns:
        uint8 (H, W, 3), in the stored orientation.

    Raises:
        UnreadableError: the depth or the colour space is not supported.
    """
    colours = _COLOURS.get(page.photometric)
    if colours is None:
        name = getattr(page.photometric, "name", page.photometric)
        raise UnreadableError(f"a TIFF of a kind that cannot be read (its colours are {name}); export it as RGB with 8 bits")
    if samples.shape[2] < colours:
        raise UnreadableError("the image is broken (a pixel has fewer samples than colours); export or copy it again")
    alpha_at, premultiplied = _transparency(page, samples.shape[2], colours)
    values, peak = _integers(page, samples, colours)
    in_colour = _COLOUR_READERS[page.photometric](page, values[..., :colours], peak)
    if alpha_at is None:
        return np.ascontiguousarray(in_colour)
    return on_white(in_colour, to_8_bits(values[..., alpha_at], peak), premultiplied)


def is_pixelwise(page: TiffPage) -> bool:
    """Whether parts of a page have the colours that they have in the whole: 8 bits, opaque, samples of a pixel stored together.

    16-bit values and opacity are refused by the highest value of the whole page.
    """
    colours = _COLOURS.get(page.photometric)
    if page.bitspersample != 8 or page.dtype != np.uint8 or colours is None or page.samplesperpixel < colours:
        return False
    together = page.samplesperpixel == 1 or page.planarconfig == PLANARCONFIG.CONTIG
    return bool(together and _transparency(page, page.samplesperpixel, colours)[0] is None)


def _transparency(page: TiffPage, samples: int, colours: int) -> tuple[int | None, bool]:
    """Index of the opacity among a pixel's samples, or None, and whether colours are premultiplied by it."""
    if samples == colours:
        return None, False
    kinds = [int(kind) for kind in page.extrasamples]
    for at, kind in enumerate(kinds[: samples - colours]):
        if kind in (_PREMULTIPLIED, _SEPARATE):
            return colours + at, kind == _PREMULTIPLIED
    if colours == 1:
        raise UnreadableError(
            f"its {samples} colour channels are grey values of one page, only the first of which would be read; merge the channels to RGB "
            "(in ImageJ and Fiji: Image > Type > RGB Color) and save that"
        )
    return (None, False) if kinds or colours != 3 else (colours, False)  # an undeclared fourth sample of RGB is opacity


def _integers(page: TiffPage, samples: np.ndarray, colours: int) -> tuple[np.ndarray, int]:
    bits = page.bitspersample
    if samples.dtype.kind in "ub" and bits <= 16:
        values, peak = samples.astype(np.uint8) if bits == 1 else samples, 2**bits - 1
    elif page.photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB):
        values, peak = to_16_bits(samples), MAX_16_BIT
    else:
        raise UnreadableError(f"a TIFF of a kind that cannot be read (values of {bits} bits, {samples.dtype}); export it with 8 bits")
    if peak == MAX_16_BIT and page.photometric != PHOTOMETRIC.PALETTE:
        check_brightness(values[..., :colours])
    return values, peak


def _grey_or_rgb(page: TiffPage, values: np.ndarray, peak: int) -> np.ndarray:
    eight_bit = to_8_bits(values, peak)
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        eight_bit = 255 - eight_bit
    return np.repeat(eight_bit, 3, axis=2) if eight_bit.shape[2] == 1 else eight_bit


def _palette(page: TiffPage, values: np.ndarray, peak: int) -> np.ndarray:  # noqa: ARG001 - same signature as the other readers
    if page.compression == COMPRESSION.JPEG:
        raise UnreadableError("a TIFF of a kind that cannot be read (JPEG changes the indices of a palette); export it as RGB with 8 bits")
    table = page.colormap
    if table is None or table.ndim != 2 or table.shape[0] != 3 or table.shape[1] <= int(values.max()):
        raise UnreadableError("the image is broken (its colour table is too short); export or copy it again")
    # Most programs write 8-bit values times 256 or 257, some unscaled.
    colours = (table >> 8 if table.max() > 255 else table).astype(np.uint8)
    return colours.T[values[..., 0]]


def _cmyk(page: TiffPage, values: np.ndarray, peak: int) -> np.ndarray:
    if page.tags.valueof(332, _CMYK) != _CMYK:
        raise UnreadableError("a TIFF of a kind that cannot be read (its inks are not CMYK); export it as RGB with 8 bits")
    light = 255 - to_8_bits(values, peak).astype(np.uint16)
    return ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)


def _ycbcr(page: TiffPage, values: np.ndarray, peak: int) -> np.ndarray:
    if page.compression == COMPRESSION.JPEG:  # the decoder returns RGB
        return to_8_bits(values, peak)
    if peak != 255:
        raise UnreadableError("a TIFF of a kind that cannot be read (YCbCr colours of other than 8 bits); export it as RGB with 8 bits")
    red, green, blue = _fractions(page, 529, _REC_601)
    black_y, white_y, black_b, white_b, black_r, white_r = _fractions(page, 532, _FULL_RANGE)
    y = (values[..., 0] - np.float32(black_y)) * np.float32(255 / (white_y - black_y))
    b = (values[..., 1] - np.float32(black_b)) * np.float32(127 / (white_b - black_b))
    r = (values[..., 2] - np.float32(black_r)) * np.float32(127 / (white_r - black_r))
    in_red, in_blue = y + r * (2 - 2 * red), y + b * (2 - 2 * blue)
    in_green = (y - red * in_red - blue * in_blue) / green
    return np.clip(np.rint(np.stack([in_red, in_green, in_blue], axis=-1)), 0, 255).astype(np.uint8)


def _lab(page: TiffPage, values: np.ndarray, peak: int) -> np.ndarray:
    if peak != 255 or page.compression == COMPRESSION.JPEG:
        raise UnreadableError("a TIFF of a kind that cannot be read (Lab colours of other than 8 bits); export it as RGB with 8 bits")
    # ICC Lab stores a and b from 0, with grey at 128; CIE Lab stores them as signed values.
    cie_values = values if page.photometric == PHOTOMETRIC.CIELAB else values ^ np.array([0, 128, 128], dtype=np.uint8)
    image = Image.frombytes("LAB", values.shape[1::-1], np.ascontiguousarray(cie_values).tobytes(), "raw", "LAB")
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"))


def _fractions(page: TiffPage, code: int, default: tuple[float, ...]) -> tuple[float, ...]:
    value = page.tags.valueof(code)
    if value is None:
        return default
    fractions = tuple(a / b for a, b in zip(value[::2], value[1::2], strict=True))
    if len(fractions) != len(default):
        raise UnreadableError("the image is broken (coefficients of its YCbCr colours are missing); export or copy it again")
    return fractions


_COLOUR_READERS: dict[int, Callable[[TiffPage, np.ndarray, int], np.ndarray]] = {
    PHOTOMETRIC.MINISWHITE: _grey_or_rgb,
    PHOTOMETRIC.MINISBLACK: _grey_or_rgb,
    PHOTOMETRIC.RGB: _grey_or_rgb,
    PHOTOMETRIC.PALETTE: _palette,
    PHOTOMETRIC.SEPARATED: _cmyk,
    PHOTOMETRIC.YCBCR: _ycbcr,
    PHOTOMETRIC.CIELAB: _lab,
    PHOTOMETRIC.ICCLAB: _lab,
}
