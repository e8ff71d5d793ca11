"""Stain normalization: see the module `stain` of the package."""

import cv2
import numpy as np

WHITE, RED_CELL, CLEAR, MIN_WHITE, MIN_TRANSMISSION = 225.0, (0.35, 0.6, 0.3), 97, 30.0, 1 / 255
SAMPLE_PIXELS, STAINED_LIMITS, MIN_STAINED, BINS, PEAK_HALF_WIDTH, GAIN_LIMITS = 60_000, (0.05, 0.45), 200, 40, 0.25, (0.25, 4.0)
SMOOTH = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)  # Gaussian kernel, in bins of the histogram


def in_common_look(image: np.ndarray, how: str) -> np.ndarray:
    """Normalize the light and stain of an image.

    Args:
        image: uint8 RGB (H, W, 3).
        how: `stain` in ``model.yaml``: ``none``, ``clear_field`` or ``density``.
    """
    if how == "none":
        return image
    step = max(int(np.sqrt(image.shape[0] * image.shape[1] / SAMPLE_PIXELS)), 1)
    pixels = image[::step, ::step].reshape(-1, 3)
    white = np.maximum(np.percentile(pixels, CLEAR, axis=0), MIN_WHITE).astype(np.float32)
    density = red_cell_density(-np.log(np.clip(pixels / white, MIN_TRANSMISSION, 1))) if how == "density" else None
    gain = np.ones(3) if density is None else np.clip(np.array(RED_CELL) / np.maximum(density, 1e-3), *GAIN_LIMITS)
    table = np.rint(np.clip(WHITE * np.clip(np.arange(256)[:, None] / white, MIN_TRANSMISSION, None) ** gain, 0, 255)).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(image), table[:, None]).reshape(image.shape)


def red_cell_density(densities: np.ndarray) -> np.ndarray | None:
    """Density (3,) at the peak of the stained pixels among (n, 3), which is that of red cells; None if almost nothing is stained."""
    darkness = np.maximum(densities[:, 1], densities.mean(axis=1))
    levels = np.clip(np.sqrt(darkness) * 150, 0, 255).astype(np.uint8)
    if len(np.unique(levels)) < 3:
        return None
    stained = darkness > np.clip((lower_of_three(levels) / 150) ** 2, *STAINED_LIMITS)
    if stained.sum() < MIN_STAINED:
        return None
    logarithms = np.log(darkness[stained])
    counts, edges = np.histogram(logarithms, BINS, (np.log(STAINED_LIMITS[0]), np.log(STAINED_LIMITS[0]) + BINS / 10))
    smooth = np.convolve(np.pad(counts.astype(float), len(SMOOTH) // 2, "symmetric"), SMOOTH / SMOOTH.sum(), "valid")
    near = np.abs(logarithms - edges[hill(smooth)] - 0.05) < PEAK_HALF_WIDTH
    return np.asarray(np.median(densities[stained][near], axis=0), dtype=np.float32)


def hill(smooth: np.ndarray) -> int:
    """Index of a histogram's peak; a maximum in the first bin is the tail of a noisy clear field, and the highest inner peak is taken."""
    if smooth.argmax() > 0:
        return int(smooth.argmax())
    inner = smooth[1:-1]
    is_hill = (inner > smooth[:-2]) & (inner >= smooth[2:])
    return int(np.where(is_hill, inner, 0).argmax()) + 1 if is_hill.any() else 0


def lower_of_three(levels: np.ndarray) -> float:
    """The lower threshold of Otsu's method (1979) with three classes, for grey values uint8 (n,)."""
    fraction = np.bincount(levels, minlength=256) / len(levels)
    if np.count_nonzero(fraction) == 3:
        return float(np.flatnonzero(fraction)[0])
    weight, moment = np.r_[0, fraction.cumsum()], np.r_[0, (fraction * np.arange(256)).cumsum()]

    def between(first: np.ndarray, end: np.ndarray) -> np.ndarray:
        w, m = weight[end] - weight[first], moment[end] - moment[first]
        return np.where(w > 0, m**2 / np.where(w > 0, w, 1), 0)

    low, high = np.triu_indices(255, 1)  # last grey values of the first and of the second class
    spread = between(np.zeros_like(low), low + 1) + between(low + 1, high + 1) + between(high + 1, np.full_like(high, 256))
    return float(low[spread.argmax()])
