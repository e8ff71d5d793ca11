"""Reading images; those that would be read wrongly are refused."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 400_000_000  # pixels of a file
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")


class UnreadableError(Exception):
    """Error about an image that cannot be read correctly, or a folder without an exported model."""


def read_image(path: Path) -> np.ndarray:
    """Read an image as upright uint8 RGB (H, W, 3).

    Raises:
        UnreadableError: the file is no image, or has more than 8 bits per channel, several pages or transparency.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            fault = _fault(image)
            pixels = None if fault else np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:  # Pillow raises whatever the broken part raises
        raise UnreadableError(f"{path}: cannot be read as {', '.join(FORMATS)} ({error})") from error
    if pixels is None:
        raise UnreadableError(f"{path}: {fault}; save it as JPEG or PNG with 8 bits per channel, or use malaria-cells run")
    return pixels


def _fault(image: Image.Image) -> str | None:
    """Reason why an image cannot be read correctly, from its header and transparency; None if it can."""
    if image.size[0] * image.size[1] > MAX_PIXELS:
        return f"{image.size[0]} x {image.size[1]} pixels are over {MAX_PIXELS:,}"
    if image.mode not in {"L", "RGB", "P", "RGBA", "LA"} or any(";16" in str(tile) for tile in getattr(image, "tile", [])):
        return f"it has more than 8 bits per channel, or is neither a grey nor an RGB image (mode {image.mode})"
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # the other images of a camera's JPEG are previews
        return f"it holds {getattr(image, 'n_frames', 1)} images"
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        bits, photometric, planes = tags.get(258, (1,)), tags.get(262), tags.get(284, 1)
        if set(bits) != {8} or photometric not in {1, 2} or planes != 1:
            return f"a TIFF of {'+'.join(map(str, bits))} bits, photometric {photometric}, planes {planes}"
    if "transparency" in image.info or image.mode in {"RGBA", "LA"}:
        return None if np.asarray(image.convert("RGBA"))[..., 3].min() == 255 else "it has transparent pixels"
    return None


def resize(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize uint8 (H, W, 3); area averaging is used for shrinking."""
    shrinks = image.shape[0] >= size_hw[0] and image.shape[1] >= size_hw[1]
    return cv2.resize(image, tuple(size_hw[::-1]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
