"""Physically motivated augmentation of stain, lamp, focus, sensor and file, as these differ between laboratories.

Stains are varied in optical density, as in Tellez et al. 2019 (Medical Image Analysis 58, 101544, section 3.2): by the Beer-Lambert law a
stain twice as strong is twice as dense, and the clear field stays white. The same function augments crops of whole images and patches of
single cells.
"""

import cv2
import numpy as np

from malaria_cells.data.augment.registry import augmentation

LABORATORIES = "laboratories"  # name of the augmentation
MIN_TRANSMISSION = 1 / 255  # transmission: lower limit, for black pixels
STRENGTH, STRENGTH_BY_CHANNEL = 0.4, 0.25  # log factor of densities, at most: common to all channels, and per channel
FADED, FADING = 0.25, (0.0, 1.0)  # fraction of images with faded colours, and degree of fading (1: grey)
WHITE = (0.88, 1.02)  # transmission factor of the clear field, range
CAST = 0.08  # log factor of each channel, at most
UNEVEN, SLOPE = 0.4, 0.15  # fraction of images lit unevenly, and change of brightness from centre to edge, at most
BLURRED, BLUR = 0.3, (0.4, 1.6)  # fraction of images out of focus, and standard deviation of the blur in pixels
SHARPENED, SHARPENING = 0.15, (0.3, 1.2)  # fraction of images sharpened by the camera, and strength
NOISY, NOISE = 0.25, (1.0, 7.0)  # fraction of noisy images, and standard deviation of the noise in grey values
LOW_RESOLUTION, MIN_SCALE = 0.2, 0.45  # fraction of images of lower resolution, and smallest scale factor
COMPRESSED, QUALITY = 0.2, (30, 90)  # fraction of images stored as JPEG, and quality


def varied(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An image, or a crop, as another laboratory might have taken it.

    Args:
        pixels: uint8 RGB (H, W, 3); black pixels, such as those of a frame, are changed as well.
        rng: source of all random draws.

    Returns:
        uint8 RGB (H, W, 3).
    """
    transmission = np.clip(pixels.astype(np.float32) / 255, MIN_TRANSMISSION, 1)
    light = _lit(np.exp(-_stained(-np.log(transmission), rng)), rng) * 255
    return _captured(np.clip(light, 0, 255), rng)


def _stained(density: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    strength = np.exp(rng.uniform(-STRENGTH, STRENGTH) + rng.uniform(-STRENGTH_BY_CHANNEL, STRENGTH_BY_CHANNEL, 3))
    # Only the density above the clear field's is stain, so only that is scaled.
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


def _captured(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.uniform() < BLURRED:
        light = cv2.GaussianBlur(light, (0, 0), rng.uniform(*BLUR))
    elif rng.uniform() < SHARPENED:
        light = light + np.float32(rng.uniform(*SHARPENING)) * (light - cv2.GaussianBlur(light, (0, 0), 1.2))
    if rng.uniform() < LOW_RESOLUTION:
        height, width = light.shape[:2]
        scale = rng.uniform(MIN_SCALE, 1)
        downscaled = cv2.resize(light, (max(round(width * scale), 1), max(round(height * scale), 1)), interpolation=cv2.INTER_AREA)
        light = cv2.resize(downscaled, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.uniform() < NOISY:
        light = light + rng.standard_normal(light.shape, dtype=np.float32) * np.float32(rng.uniform(*NOISE))
    pixels = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    if rng.uniform() < COMPRESSED:
        _, file = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*QUALITY))])
        pixels = cv2.imdecode(file, cv2.IMREAD_COLOR)
    return pixels


@augmentation(LABORATORIES, rank=10)
def laboratories(patches: np.ndarray, seed: int) -> np.ndarray:
    """Augment a batch of patches: any rotation, flips, shifts by up to 8 %, scales by up to 15 %, and `varied`.

    Args:
        patches: uint8 (n, H, W, 3).
        seed: determines every draw, in whichever thread.

    Returns:
        uint8 (n, H, W, 3).
    """
    rng = np.random.default_rng(seed)
    return np.stack([varied(_moved(patch, rng), rng) for patch in patches])


SHIFT, SCALE = 0.08, (0.87, 1.15)  # fraction of a side, at most; range of scale factors


def _moved(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = patch.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), rng.uniform(0, 360), rng.uniform(*SCALE))
    matrix[:, 2] += rng.uniform(-SHIFT, SHIFT, 2) * (width, height)
    if rng.uniform() < 0.5:
        matrix = matrix @ np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    return cv2.warpAffine(patch, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
