"""Numbers of any depth to 8 bits, and transparency laid on white."""

import numpy as np

from malaria_cells.data.images.refusal import UnreadableError

MOST = 65_535  # value of 16 bits
FEW_BITS = 16_383  # value; 14 bits, the most that a camera saves in 16 without scaling them
DARK = round(FEW_BITS / (MOST / 255))  # 8-bit value that is left of it
_HALF = 0.5  # opacity
TOO_DARK = "16 bits or more, but its values are so small that it would be converted to black; export it with 8 bits, or scaled to 16"


def to_8_bits(values: np.ndarray, peak: int) -> np.ndarray:
    """Scale whole numbers from 0 to `peak` to 0 to 255, rounded.

    Examples:
        >>> to_8_bits(np.array([0, 128, 65535], dtype=np.uint16), 65535).tolist()
        [0, 0, 255]
    """
    if peak == 255:
        return values
    if values.max(initial=0) > peak:
        raise UnreadableError(f"the image is broken (its values go up to {values.max():,}, over {peak:,}); export or copy it again")
    table = np.rint(np.arange(peak + 1) / (peak / 255)).astype(np.uint8)
    return table[values]


def to_16_bits(values: np.ndarray) -> np.ndarray:
    """See that signed, wide or floating numbers are those of 16 bits.

    Raises:
        UnreadableError: some are negative, beyond 16 bits, or not numbers.
    """
    low, high = float(values.min()), float(values.max())
    if not high <= MOST:
        raise UnreadableError(f"its values go up to {high:,.0f}, over the {MOST:,} of 16 bits; export it with 8 bits")
    if low < 0:
        raise UnreadableError(f"its values go down to {low:,.6g}, below 0; export it with 8 bits")
    return np.rint(values).astype(np.uint16)


def check_brightness(values: np.ndarray) -> None:
    """See that 16-bit values use their range.

    Raises:
        UnreadableError: they are those of a camera of 14 bits or fewer, saved as they are.
    """
    if values.max() <= FEW_BITS:
        raise UnreadableError(TOO_DARK)


def check_opacity(most: float) -> None:
    """See that an image is not transparent everywhere: laid on white, nothing of it would be left.

    Args:
        most: opacity of its most opaque pixel, 0 to 1.

    Raises:
        UnreadableError: not even one pixel is half opaque.
    """
    if most < _HALF:
        how = "transparent everywhere" if most == 0 else f"nowhere more than {most:.0%} opaque"
        raise UnreadableError(f"it is {how}, so that nothing would be left of it on white; export it without transparency (alpha channel)")


def on_white(rgb: np.ndarray, alpha: np.ndarray, premultiplied: bool) -> np.ndarray:
    """Lay colours on white.

    Args:
        rgb: uint8 (H, W, 3).
        alpha: uint8 (H, W), 255 is opaque.
        premultiplied: whether the colours are multiplied by their opacity already.

    Returns:
        uint8 (H, W, 3).
    """
    check_opacity(alpha.max() / 255)
    opacity = alpha[..., None].astype(np.float32) / 255
    colours = rgb if premultiplied else rgb * opacity
    return np.clip(np.rint(colours + 255 * (1 - opacity)), 0, 255).astype(np.uint8)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror an array (H, W, ..) as EXIF orientation 1 to 8 says; other numbers mean nothing."""
    if orientation in SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in _BOTTOM_FIRST:
        pixels = pixels[::-1]
    if orientation in _RIGHT_FIRST:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


# EXIF orientations 5 to 8 lay the image on its side, so that width and height change places.
SIDEWAYS = frozenset({5, 6, 7, 8})
_BOTTOM_FIRST = frozenset({3, 4, 7, 8})
_RIGHT_FIRST = frozenset({2, 3, 6, 7})
