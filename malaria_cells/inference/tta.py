"""Test-time augmentation: probabilities are averaged over several views of the same patch or image.

A patch that is uncertain after the first view is classified in up to eight views, flips and quarter turns; most cells are clearly
healthy and need one view only. Of a whole image, overlapping crops of the model's input size can be classified instead, each with
several random flips, zooms and contrasts, as in Kaggle's plant-disease notebooks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from pydantic import ConfigDict, Field

from malaria_cells.data.patches import resize

VIEWS = 8
_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


def view(patches: np.ndarray, number: int) -> np.ndarray:
    """One view of patches (n, H, W, c): rotated by number % 4 quarter turns, and mirrored from number 4 on.

    Patches that are not square are rotated by half turns only.
    """
    turns = number % 4
    if patches.shape[1] != patches.shape[2]:
        turns = 2 * (turns % 2)
    if turns == 0 and number < 4:
        return np.ascontiguousarray(patches)
    result = np.empty_like(patches, order="C")
    for patch, seen in zip(patches, result, strict=True):  # OpenCV moves whole pixels, NumPy each channel, at a tenth of the speed
        turned = patch if turns == 0 else cv2.rotate(patch, _TURNS[turns])
        seen[:] = (cv2.flip(turned, 1) if number >= 4 else turned).reshape(seen.shape)
    return result


# Numbers of the views in the order of their use. A mirrored one comes second, so that a small number of views differ much.
_ORDER = (0, 6, 1, 7, 2, 4, 3, 5)


@dataclass(frozen=True)
class Refinement:
    """Which patches are uncertain after the first view by the first classifier, and therefore refined.

    Attributes:
        min_infected: probability of infection from which a patch is refined. On IML-Malaria 3 % of the candidates reach 0.1, and all but
            one of 125 infected cells; that one shows no parasite.
        certain: probability of the most likely class below which a patch is refined, if no class is infected.
        further_views: probability of infection, after one view by each classifier, from which a refined patch is seen in the other views
            too; 0: every refined patch is. Most of what is refined is healthy, and one view by the refiner mostly says so.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    min_infected: Annotated[float, Field(ge=0, le=1)] = 0.1
    certain: Annotated[float, Field(ge=0, le=1)] = 0.95
    further_views: Annotated[float, Field(ge=0, le=1)] = 0.0

    def needed(self, probabilities: np.ndarray, is_infected: np.ndarray) -> np.ndarray:
        """Whether each patch is to be refined, bool (n,): possibly infected ones or, if no class is infected, those of an uncertain class.

        Refinement of patches for which only "cell or background" is uncertain took 30 ms per image and changed nothing on IML-Malaria's
        validation images.

        Args:
            probabilities: uncalibrated output of the first classifier, float (n, c).
            is_infected: which classes are infected, bool (c,).
        """
        if not is_infected.any():
            return probabilities.max(axis=1) < self.certain
        return probabilities[:, is_infected].sum(axis=1) >= self.min_infected

    def undecided(self, probabilities: np.ndarray, is_infected: np.ndarray) -> np.ndarray:
        """Whether each refined patch is to be seen in further views, bool (n,); all are if no class is infected.

        Args:
            probabilities: uncalibrated mean output of both classifiers for one view, float (n, c).
            is_infected: which classes are infected, bool (c,).
        """
        if not is_infected.any():
            return np.ones(len(probabilities), dtype=bool)
        return probabilities[:, is_infected].sum(axis=1) >= self.further_views


def averaged(predict: Callable[[np.ndarray], np.ndarray], patches: np.ndarray, views: int, first: np.ndarray | None = None) -> np.ndarray:
    """Mean over views of the probabilities that `predict` gives, in one call of it: float (n, c).

    Args:
        predict: from patches (n, H, W, 3) to probabilities (n, c).
        patches: (n, H, W, 3).
        views: number of views, 1 (no augmentation) to 8.
        first: what `predict` gives for the first view, the patches themselves, if that is known, float (n, c).
    """
    numbers = _ORDER[0 if first is None else 1 : views]
    known = [] if first is None else [first]
    if not numbers:
        return np.mean(known, axis=0)
    seen = np.concatenate([view(patches, number) for number in numbers]) if len(numbers) > 1 else view(patches, numbers[0])
    return np.mean([*known, *predict(seen).reshape(len(numbers), len(patches), -1)], axis=0)


ZOOM = (0.8, 1.0)  # range of the fraction of a crop's side that remains: Keras' RandomZoom(-0.2, 0)
CONTRAST = (0.8, 1.2)  # range of the contrast factor


def scanned(
    predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray, size_hw: tuple[int, int], runs: int, scan: int, seed: int
) -> np.ndarray:
    """Mean probabilities over `scan` crops of an image with `runs` random views each, in one call of `predict`: float (c,).

    Args:
        predict: from patches (n, h, w, 3) to probabilities (n, c).
        image: uint8 RGB (H, W, 3).
        size_hw: height and width of the crops in pixels.
        runs: number of views of each crop.
        scan: number of crops.
        seed: seed of the random views.
    """
    rng = np.random.default_rng(seed)
    views = [varied(crop, rng) for crop in crops(image, size_hw, scan) for _ in range(runs)]
    return predict(np.stack(views)).mean(axis=0)


def crops(image: np.ndarray, size_hw: tuple[int, int], count: int) -> list[np.ndarray]:
    """A grid of evenly spaced crops, which may overlap; an image that is smaller than a crop is enlarged first."""
    height, width = size_hw
    enlarge = max(height / image.shape[0], width / image.shape[1], 1.0)
    if enlarge > 1:
        image = resize(image, (max(round(image.shape[0] * enlarge), height), max(round(image.shape[1] * enlarge), width)))
    rows = max(int(np.sqrt(count)), 1)
    columns = -(-count // rows)
    tops, lefts = (
        np.linspace(0, n, k).round().astype(int) if k > 1 else [n // 2]
        for n, k in zip((image.shape[0] - height, image.shape[1] - width), (rows, columns), strict=True)
    )
    grid = [image[top : top + height, left : left + width] for top in tops for left in lefts]
    return grid[:count]


def varied(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random flip, zoom and contrast of a crop: uint8, the same shape."""
    height, width = crop.shape[:2]
    if rng.uniform() < 0.5:
        crop = crop[:, ::-1]
    if rng.uniform() < 0.5:
        crop = crop[::-1]
    zoom = rng.uniform(*ZOOM)
    h, w = max(round(height * zoom), 1), max(round(width * zoom), 1)
    top, left = (height - h) // 2, (width - w) // 2
    zoomed = cv2.resize(np.ascontiguousarray(crop[top : top + h, left : left + w]), (width, height), interpolation=cv2.INTER_LINEAR).astype(
        np.float32
    )
    mean = zoomed.mean(axis=(0, 1))
    return np.clip(np.rint((zoomed - mean) * rng.uniform(*CONTRAST) + mean), 0, 255).astype(np.uint8)
