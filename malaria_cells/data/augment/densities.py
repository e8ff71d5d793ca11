"""Other laboratories' images of the same cells: stain, lamp, focus, sensor and file are varied as physics has them.

Stains are varied in optical density, where by Beer and Lambert's law a stain twice as strong is twice as dense and the clear field stays
white (Tellez et al. 2019, Medical Image Analysis 58, 101544, section 3.2, vary it in the same domain). One function serves the crops of
whole images and the patches of single cells.
"""

import cv2
import numpy as np

DARKEST = 1 / 255  # transmission that a black pixel is taken for
STRENGTH, STRENGTH_BY_CHANNEL = 0.4, 0.25  # logarithms that densities are multiplied by at most, in all channels and in each
FADED, FADING = 0.25, (0.0, 1.0)  # fraction of the images whose colours fade, and how far
WHITE = (0.88, 1.02)  # brightness of the clear field
CAST = 0.08  # logarithm that each channel is multiplied by at most
UNEVEN, SLOPE = 0.4, 0.15  # fraction that is lit unevenly, and by how much towards an edge
BLURRED, BLUR = 0.3, (0.4, 1.6)  # fraction out of focus, and the deviation in pixels
SHARPENED, SHARPENING = 0.15, (0.3, 1.2)  # fraction that a camera has sharpened, and how much
NOISY, NOISE = 0.25, (1.0, 7.0)  # fraction with noise, and its deviation in grey values
SMALL, SMALLEST = 0.2, 0.45  # fraction that had fewer pixels, and the least fraction of a side
COMPRESSED, QUALITY = 0.2, (30, 90)  # fraction that was a JPEG, and its quality


def varied(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One image, or a part of it, as another laboratory might have taken it.

    Args:
        pixels: uint8 RGB (H, W, 3); black pixels, a frame say, are varied like others.
        rng: draws everything.

    Returns:
        uint8 RGB (H, W, 3).
    """
    transmission = np.clip(pixels.astype(np.float32) / 255, DARKEST, 1)
    light = _lit(np.exp(-_stained(-np.log(transmission), rng)), rng) * 255
    return _photographed(np.clip(light, 0, 255), rng)


def _stained(density: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    strength = np.exp(rng.uniform(-STRENGTH, STRENGTH) + rng.uniform(-STRENGTH_BY_CHANNEL, STRENGTH_BY_CHANNEL, 3))
    # The clear field's own density is no stain: it stays, and what lies above it is varied.
    clear = np.percentile(density.reshape(-1, 3)[:: max(density.size // 6000, 1)], 5, axis=0).astype(np.float32)
    stain = (density - clear) * strength.astype(np.float32)
    if rng.uniform() < FADED:
        stain += np.float32(rng.uniform(*FADING)) * (stain.mean(axis=2, keepdims=True) - stain)
    return stain + clear


def _lit(transmission: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    lamp = (rng.uniform(*WHITE) * np.exp(rng.uniform(-CAST, CAST, 3))).astype(np.float32)
    if rng.uniform() >= UNEVEN:
        return transmission * lamp
    across, down = (np.linspace(-1, 1, n, dtype=np.float32) * np.float32(rng.uniform(-SLOPE, SLOPE)) for n in transmission.shape[1::-1])
    return transmission * lamp * (1 + across[None, :, None] + down[:, None, None])


def _photographed(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.uniform() < BLURRED:
        light = cv2.GaussianBlur(light, (0, 0), rng.uniform(*BLUR))
    elif rng.uniform() < SHARPENED:
        light = light + np.float32(rng.uniform(*SHARPENING)) * (light - cv2.GaussianBlur(light, (0, 0), 1.2))
    if rng.uniform() < SMALL:
        height, width = light.shape[:2]
        fraction = rng.uniform(SMALLEST, 1)
        fewer = cv2.resize(light, (max(round(width * fraction), 1), max(round(height * fraction), 1)), interpolation=cv2.INTER_AREA)
        light = cv2.resize(fewer, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.uniform() < NOISY:
        light = light + rng.standard_normal(light.shape, dtype=np.float32) * np.float32(rng.uniform(*NOISE))
    pixels = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    if rng.uniform() < COMPRESSED:
        _, file = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*QUALITY))])
        pixels = cv2.imdecode(file, cv2.IMREAD_COLOR)
    return pixels


def laboratories(patches: np.ndarray, seed: int) -> np.ndarray:
    """A batch of patches of cells, turned by any angle, mirrored, shifted by up to 8 % and scaled by up to 15 %, and `varied`.

    Args:
        patches: uint8 (n, H, W, 3).
        seed: fixes every draw, whichever thread calls.
    """
    rng = np.random.default_rng(seed)
    return np.stack([varied(_moved(patch, rng), rng) for patch in patches])


SHIFT, SCALE = 0.08, (0.87, 1.15)


def _moved(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = patch.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), rng.uniform(0, 360), rng.uniform(*SCALE))
    matrix[:, 2] += rng.uniform(-SHIFT, SHIFT, 2) * (width, height)
    if rng.uniform() < 0.5:
        matrix = matrix @ np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    return cv2.warpAffine(patch, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
