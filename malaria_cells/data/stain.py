"""Brings images of different lamps, cameras and stains to one appearance, so that a network need not learn each.

A pixel's optical density is the logarithm of the clear field's light over its own (Beer and Lambert's law), channel by channel.
``clear_field`` makes the clear field of every image equally white, as a white balance does. ``density`` also scales the densities
so that the median one of the stained area, which in a thin smear is that of red cells, is `RED_CELL`: what Reinhard et al. 2001 (IEEE
Computer Graphics and Applications 21(5), 34-41) do to colours by their means and deviations, done to densities by one factor a channel.
Both are a table of 256 values a channel, measured on the image itself.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d
from skimage.filters import threshold_multiotsu

Normalization = Literal["none", "clear_field", "density"]

WHITE = 225.0  # grey value of the clear field afterwards; brighter specks keep some room
RED_CELL = (0.35, 0.6, 0.3)  # natural optical density of red, green and blue that red cells have afterwards: about the median laboratory's
SAMPLED = 60_000  # pixels that are measured, evenly over the image: not averaged, which would mix small cells with the field
CLEAR = 97  # percentile of a channel that is taken for the clear field: even crowded fields have some gaps
DIMMEST = 30.0  # grey value; a darker clear field is taken for this one, so that noise is not enlarged
STAINED = (0.05, 0.45)  # natural optical density from which a pixel is stained, at least and at most
FEWEST = 200  # stained pixels of the sample, under which densities are left as they are
BINS = 40  # of the histogram of logarithms of densities, each a tenth wide
ALIKE = 0.25  # half the width of the peak that is red cells, in logarithms of densities
GAINS = (0.25, 4.0)  # of densities, at least and at most
DARKEST = 1 / 255  # transmission that a black pixel is taken for


@dataclass(frozen=True)
class Stain:
    """What an image's light and stain are.

    Attributes:
        white: grey value of the clear field by channel, float32 (3,).
        density: natural optical density of the stained area by channel, float32 (3,); None where hardly anything is stained.
    """

    white: np.ndarray
    density: np.ndarray | None

    @staticmethod
    def of(image: np.ndarray) -> "Stain":
        """Measure an image, uint8 RGB (H, W, 3)."""
        step = max(int(np.sqrt(image.shape[0] * image.shape[1] / SAMPLED)), 1)
        pixels = image[::step, ::step].reshape(-1, 3)
        white = np.maximum(np.percentile(pixels, CLEAR, axis=0), DIMMEST).astype(np.float32)
        return Stain(white, _red_cell_density(-np.log(np.clip(pixels / white, DARKEST, 1))))


def _red_cell_density(densities: np.ndarray) -> np.ndarray | None:
    """The densities (n, 3) at the peak of what is stained: red cells cover more of a smear than nuclei, and are all about as dark."""
    # Stain absorbs green most, but unstained cells out of focus are dark in all channels: the larger of the two sees both.
    darkness = np.maximum(densities[:, 1], densities.mean(axis=1))
    # Three classes: with two, a large nucleus would make a field of its own of the red cells.
    levels = np.clip(np.sqrt(darkness) * 150, 0, 255).astype(np.uint8)
    if len(np.unique(levels)) < 3:
        return None
    lower = (float(threshold_multiotsu(levels, 3, 64)[0]) / 150) ** 2
    stained = darkness > np.clip(lower, *STAINED)
    if stained.sum() < FEWEST:
        return None
    logarithms = np.log(darkness[stained])
    counts, edges = np.histogram(logarithms, BINS, (np.log(STAINED[0]), np.log(STAINED[0]) + BINS / 10))
    peak = edges[_hill(gaussian_filter1d(counts.astype(float), 1.5))] + 0.05
    near = np.abs(logarithms - peak) < ALIKE
    return np.asarray(np.median(densities[stained][near], axis=0), dtype=np.float32)


def _hill(smooth: np.ndarray) -> int:
    """Index of the highest place of a histogram; if that is the first, the foot of what a noisy field scatters, of the next hill."""
    if smooth.argmax() > 0:
        return int(smooth.argmax())
    inner = smooth[1:-1]
    is_hill = (inner > smooth[:-2]) & (inner >= smooth[2:])
    return int(np.where(is_hill, inner, 0).argmax()) + 1 if is_hill.any() else 0


def normalized(image: np.ndarray, how: Normalization) -> np.ndarray:
    """An image in the common appearance: uint8 RGB (H, W, 3); the image itself for ``none``."""
    return image if how == "none" else with_stain(image, Stain.of(image), how)


def with_stain(pixels: np.ndarray, stain: Stain, how: Normalization) -> np.ndarray:
    """Pixels of an image, or of a part of it, in the common appearance.

    Args:
        pixels: uint8 RGB (.., 3).
        stain: of the image that they are from.
        how: what is done.
    """
    if how == "none":
        return pixels
    gain = np.ones(3)
    if how == "density" and stain.density is not None:
        gain = np.clip(np.array(RED_CELL) / np.maximum(stain.density, 1e-3), *GAINS)
    transmission = np.clip(np.arange(256)[:, None] / stain.white, DARKEST, None)
    table = np.rint(np.clip(WHITE * transmission**gain, 0, 255)).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(pixels), table[:, None]).reshape(pixels.shape)
