"""Stain normalization: brings images of different lamps, cameras and stains to one appearance.

The optical density of a pixel is the logarithm of the clear field's intensity over the pixel's (Beer-Lambert law), in each channel.
``clear_field`` maps the clear field of every image to the same white, as white balancing does. ``density`` also scales the densities so
that their median over the stained area, which in a thin smear is that of red cells, becomes `RED_CELL`. That is the idea of Reinhard et
al. 2001 (IEEE Computer Graphics and Applications 21(5), 34-41), who match means and deviations of colours, applied to densities with one
factor per channel. Both methods are look-up tables of 256 values per channel, measured on the image itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d
from skimage.filters import threshold_multiotsu

from malaria_cells.data.images.large import sample_step

Normalization = Literal["none", "clear_field", "density"]

WHITE = 225.0  # grey value of the clear field after normalization; below 255, so that brighter specks are not clipped
RED_CELL = (0.35, 0.6, 0.3)  # natural optical density (R, G, B) of red cells after normalization: about the median over laboratories
CLEAR = 97  # percentile of a channel that is taken as the clear field; even crowded fields have some gaps
MIN_WHITE = 30.0  # grey value: lower limit of the clear field, so that the noise of dark images is not amplified
STAINED_LIMITS = (0.05, 0.45)  # natural optical density: limits of the threshold above which a pixel is stained
MIN_STAINED = 200  # stained pixels of the sample below which densities are not scaled
BINS = 40  # bins of the histogram of log densities, each 0.1 wide
PEAK_HALF_WIDTH = 0.25  # log density: half the width of the red cells' peak
GAIN_LIMITS = (0.25, 4.0)  # factor of densities: lower and upper limit
MIN_TRANSMISSION = 1 / 255  # transmission: lower limit, for black pixels


@dataclass(frozen=True)
class Stain:
    """Light and stain of an image.

    Attributes:
        white: grey value of the clear field per channel, float32 (3,).
        density: natural optical density of the stained area per channel, float32 (3,); None if hardly anything is stained.
    """

    white: np.ndarray
    density: np.ndarray | None

    @staticmethod
    def of(image: np.ndarray) -> "Stain":
        """Measure an image, uint8 RGB (H, W, 3)."""
        step = sample_step(image.shape)
        return Stain.of_sample(image[::step, ::step])

    @staticmethod
    def of_sample(sample: np.ndarray) -> "Stain":
        """Measure a regular sample of an image's pixels, uint8 RGB (h, w, 3), see `sample_step`."""
        channels = cv2.split(np.ascontiguousarray(sample))
        percentiles = [_percentile(np.bincount(channel.ravel(), minlength=256), CLEAR) for channel in channels]
        white = np.maximum(percentiles, MIN_WHITE).astype(np.float32)
        return Stain(white, _red_cell_density([channel.ravel() for channel in channels], white))


def _percentile(counts: np.ndarray, percent: float) -> float:
    """A percentile of grey values, interpolated linearly, from the number of pixels of each value: int (256,)."""
    position = (counts.sum() - 1) * (percent / 100)
    ranks = np.floor(position) + np.arange(2)
    return float(np.interp(position, ranks, np.searchsorted(np.cumsum(counts), ranks, side="right").clip(max=255)))


def _red_cell_density(channels: Sequence[np.ndarray], white: np.ndarray) -> np.ndarray | None:
    """Density (3,) at the peak of the stained pixels: red cells cover more of a smear than nuclei and are similarly dark.

    Args:
        channels: grey values of the pixels, uint8 (n,), of red, green and blue.
        white: grey value of the clear field per channel, float32 (3,).
    """
    # Pixels have 256 grey values, so the logarithms are looked up and the medians counted: a tenth of the time of computing and sorting.
    table = -np.log(np.clip(np.arange(256, dtype=np.uint8)[:, None] / white, MIN_TRANSMISSION, 1))
    red, green, blue = (table[:, i][channel] for i, channel in enumerate(channels))
    # Stain absorbs green most, but unstained cells out of focus are dark in all channels; the maximum detects both.
    darkness = np.maximum(green, (red + green + blue) / np.float32(3))
    # Three classes, since with two a large nucleus would put the red cells into the class of the clear field.
    levels = np.clip(np.sqrt(darkness) * 150, 0, 255).astype(np.uint8)
    if np.count_nonzero(np.bincount(levels)) < 3:
        return None
    lower = (float(threshold_multiotsu(levels, 3, 64)[0]) / 150) ** 2
    stained = np.flatnonzero(darkness > np.clip(lower, *STAINED_LIMITS))
    if len(stained) < MIN_STAINED:
        return None
    logarithms = np.log(darkness[stained])
    counts, edges = np.histogram(logarithms, BINS, (np.log(STAINED_LIMITS[0]), np.log(STAINED_LIMITS[0]) + BINS / 10))
    peak = edges[_hill(gaussian_filter1d(counts.astype(float), 1.5))] + 0.05
    near = stained[np.abs(logarithms - peak) < PEAK_HALF_WIDTH]
    if len(near) == 0:  # everything stained is denser than the histogram reaches: black, which is no stain of a cell
        return None
    return np.array([_median(np.bincount(c[near], minlength=256), table[:, i]) for i, c in enumerate(channels)], dtype=np.float32)


def _median(counts: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Median density of pixels.

    Args:
        counts: number of pixels of each grey value, int (256,).
        table: density of each grey value, float32 (256,), which never rises.
    """
    n = counts.sum()
    return np.mean(table[np.searchsorted(np.cumsum(counts), [(n - 1) // 2, n // 2], side="right")])


def _hill(smooth: np.ndarray) -> int:
    """Index of a histogram's peak; a maximum in the first bin is the tail of a noisy clear field, and the highest inner peak is taken."""
    if smooth.argmax() > 0:
        return int(smooth.argmax())
    inner = smooth[1:-1]
    is_hill = (inner > smooth[:-2]) & (inner >= smooth[2:])
    return int(np.where(is_hill, inner, 0).argmax()) + 1 if is_hill.any() else 0


def normalized(image: np.ndarray, how: Normalization) -> np.ndarray:
    """The normalized image, uint8 RGB (H, W, 3); the image itself for ``none``."""
    return image if how == "none" else with_stain(image, Stain.of(image), how)


def with_stain(pixels: np.ndarray, stain: Stain, how: Normalization) -> np.ndarray:
    """Normalize pixels of an image or of a part of an image.

    Args:
        pixels: uint8 RGB (.., 3).
        stain: light and stain of the whole image.
        how: method of normalization.

    Returns:
        uint8 RGB (.., 3).
    """
    if how == "none":
        return pixels
    gain = np.ones(3)
    if how == "density" and stain.density is not None:
        gain = np.clip(np.array(RED_CELL) / np.maximum(stain.density, 1e-3), *GAIN_LIMITS)
    transmission = np.clip(np.arange(256)[:, None] / stain.white, MIN_TRANSMISSION, None)
    table = np.rint(np.clip(WHITE * transmission**gain, 0, 255)).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(pixels), table[:, None]).reshape(pixels.shape)
