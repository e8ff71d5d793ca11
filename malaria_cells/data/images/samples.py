"""Conversion of pixel values to 8 bits, and of transparency to white."""

import numpy as np

from malaria_cells.data.images.refusal import UnreadableError

MAX_16_BIT = 65_535  # largest 16-bit value
MAX_14_BIT = 16_383  # largest 14-bit value: cameras of up to 14 bits may save their values unscaled in 16 bits
DARK = round(MAX_14_BIT / (MAX_16_BIT / 255))  # the 8-bit value that MAX_14_BIT is converted to
MIN_OPACITY = 0.5  # lowest accepted opacity of an image's most opaque pixel
TOO_DARK = "16 bits or more, but its values are so small that it would be converted to black; export it with 8 bits, or scaled to 16"


def to_8_bits(values: np.ndarray, peak: int) -> np.ndarray:
    """Scale integers of 0 to `peak` to 0 to 255, rounded.

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
    """Convert signed, wide or floating-point values within the range of 16 bits to uint16.

    Raises:
        UnreadableError: a value is negative, above 65,535 or NaN.
    """
    low, high = float(values.min()), float(values.max())
    if not high <= MAX_16_BIT:
        raise UnreadableError(f"its values go up to {high:,.0f}, over the {MAX_16_BIT:,} of 16 bits; export it with 8 bits")
    if low < 0:
        raise UnreadableError(f"its values go down to {low:,.6g}, below 0; export it with 8 bits")
    return np.rint(values).astype(np.uint16)


def check_brightness(values: np.ndarray) -> None:
    """Check that 16-bit values use their range.

    Raises:
        UnreadableError: all values fit into 14 bits, as those of a camera that does not scale them.
    """
    if values.max() <= MAX_14_BIT:
        raise UnreadableError(TOO_DARK)


def check_opacity(max_opacity: float) -> None:
    """Check that an image is not transparent everywhere, since it would become white.

    Args:
        max_opacity: opacity of the most opaque pixel, 0 to 1.

    Raises:
        UnreadableError: no pixel is at least half opaque.
    """
    if max_opacity < MIN_OPACITY:
        opacity_text = "transparent everywhere" if max_opacity == 0 else f"nowhere more than {max_opacity:.0%} opaque"
        raise UnreadableError(f"it is {opacity_text} and would become white; export it without transparency (alpha channel)")


def on_white(rgb: np.ndarray, alpha: np.ndarray, premultiplied: bool) -> np.ndarray:
    """Blend colours with white by their opacity.

    Args:
        rgb: uint8 (H, W, 3).
        alpha: uint8 (H, W), 255 is opaque.
        premultiplied: whether the colours are already multiplied by their opacity.

    Returns:
        uint8 (H, W, 3).
    """
    check_opacity(alpha.max() / 255)
    opacity = alpha[..., None].astype(np.float32) / 255
    colours = rgb if premultiplied else rgb * opacity
    return np.clip(np.rint(colours + 255 * (1 - opacity)), 0, 255).astype(np.uint8)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and flip an array (H, W, ..) by its EXIF orientation, 1 to 8; other values change nothing."""
    if orientation in SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in BOTTOM_FIRST:
        pixels = pixels[::-1]
    if orientation in RIGHT_FIRST:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


# EXIF orientations 5 to 8: the image is stored on its side, with width and height exchanged.
SIDEWAYS = frozenset({5, 6, 7, 8})
BOTTOM_FIRST = frozenset({3, 4, 7, 8})
RIGHT_FIRST = frozenset({2, 3, 6, 7})
