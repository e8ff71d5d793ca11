"""Antialiased shapes on a small square canvas, in units of the cell's radius.

A shape is an array of opacities in 0..1, float32 (n, n). Stains are added as optical densities (Beer-Lambert law), so that overlapping
cells darken each other as under a microscope.
"""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Canvas:
    """A square of pixels around a cell's centre.

    Attributes:
        x: float32 (n, n), horizontal position in cell radii, 0 at the centre, to the right.
        y: float32 (n, n), vertical position in cell radii, 0 at the centre, downwards.
        pixel: width of a pixel in cell radii.
    """

    x: np.ndarray
    y: np.ndarray
    pixel: float

    @staticmethod
    def around(radius: float, reach: float, offset_xy: tuple[float, float]) -> "Canvas":
        """A canvas that extends `reach` radii to each side; `offset_xy` is the position of the centre within its pixel."""
        half = int(np.ceil(radius * reach)) + 1
        steps = np.arange(-half, half + 1, dtype=np.float32)
        x, y = np.meshgrid((steps - offset_xy[0]) / radius, (steps - offset_xy[1]) / radius)
        return Canvas(x.astype(np.float32), y.astype(np.float32), 1 / radius)

    def polar(self, centre: tuple[float, float] = (0.0, 0.0)) -> tuple[np.ndarray, np.ndarray]:
        """Distance (in cell radii) and angle (in radians) of each pixel from a point."""
        dx, dy = self.x - centre[0], self.y - centre[1]
        return np.hypot(dx, dy), np.arctan2(dy, dx)

    def inside(self, distance: np.ndarray, softness: float = 1.5) -> np.ndarray:
        """Opacity of the region ``distance < 0`` with an edge `softness` pixels wide; distances in cell radii."""
        return np.clip(0.5 - distance / (softness * self.pixel), 0, 1).astype(np.float32)

    def disc(self, centre: tuple[float, float], radius: float, softness: float = 1.5) -> np.ndarray:
        """Opacity of a disc."""
        return self.inside(self.polar(centre)[0] - radius, softness)

    def noise(self, rng: np.random.Generator, grain: float) -> np.ndarray:
        """Smooth noise of mean 0 and standard deviation 1; `grain` is the width of its grains in cell radii."""
        raw = rng.standard_normal(self.x.shape).astype(np.float32)
        smooth = cv2.GaussianBlur(raw, (0, 0), max(grain / self.pixel, 0.5))
        return (smooth - smooth.mean()) / (smooth.std() + 1e-6)


def outline(angle: np.ndarray, rng: np.random.Generator, wobble: float, stretch: float) -> np.ndarray:
    """Radius of a cell's outline at each angle, about 1: an ellipse with a few waves of low frequency.

    Args:
        angle: angles in radians.
        rng: source of the waves' amplitudes and phases.
        wobble: standard deviation of the amplitudes.
        stretch: elongation of the ellipse, as a fraction of its width.

    Returns:
        float32, in the shape of `angle`.
    """
    turn = rng.uniform(0, np.pi)
    radius = 1 + stretch * np.cos(2 * (angle - turn)) / 2
    for k in (2, 3, 4, 5):
        radius = radius + rng.normal(0, wobble / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    return radius.astype(np.float32)
