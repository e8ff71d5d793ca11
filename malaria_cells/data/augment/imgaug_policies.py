"""Augmentation policies of imgaug's augmenters, from uint8 batches to uint8 batches, with one seed per batch."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from malaria_cells.data.augment.registry import Augmenter, augmentation


def make(policy: str) -> Augmenter:
    """Build one of `POLICIES`.

    Returns:
        A thread-safe function of a uint8 batch (n, H, W, 3) and a seed, which determines the new uint8 batch it returns.
    """
    build = POLICIES[policy]
    if build is None:
        return lambda patches, _: patches
    thread_state = threading.local()  # each thread has its own augmenter, since an augmenter holds its random state

    def augment(patches: np.ndarray, seed: int) -> np.ndarray:
        if not hasattr(thread_state, "augmenter"):
            thread_state.augmenter = build()
        thread_state.augmenter.seed_(seed)
        return np.asarray(thread_state.augmenter(images=patches))

    return augment


def _flips() -> Any:
    import imgaug.augmenters as iaa

    return iaa.Sequential([iaa.Fliplr(0.5), iaa.Rot90((0, 3), keep_size=True)])


def _stain(*densities: Any) -> Any:
    import imgaug.augmenters as iaa

    geometry = iaa.Affine(rotate=(-180, 180), translate_percent=(-0.08, 0.08), scale=(0.88, 1.12), mode="reflect", order=1)
    colour = [
        iaa.Multiply((0.85, 1.15), per_channel=0.7),
        iaa.Sometimes(0.5, iaa.AddToHueAndSaturation((-14, 14), per_channel=True)),
        iaa.Sometimes(0.3, iaa.LinearContrast((0.8, 1.25))),
        iaa.Sometimes(0.2, iaa.GaussianBlur((0.0, 1.0))),
    ]
    return iaa.Sequential([iaa.Fliplr(0.5), geometry, *densities, *colour])


def _slides() -> Any:
    import imgaug.augmenters as iaa

    # By the Beer-Lambert law, a gamma of g makes a stain g times as dense and leaves the clear field white.
    density = iaa.Sometimes(0.7, iaa.GammaContrast((0.5, 2.0), per_channel=0.5))
    return _stain(density, iaa.Sometimes(0.25, iaa.Grayscale((0.3, 1.0))))


def _shifts() -> Any:
    import imgaug.augmenters as iaa

    geometry = iaa.Affine(rotate=(-25, 25), translate_percent=(-0.05, 0.05), scale=(0.95, 1.05), shear=(-3, 3), mode="edge", order=1)
    return iaa.Sequential([iaa.Fliplr(0.5), geometry])


def _uneven_light(images: Any, random_state: Any, parents: Any, hooks: Any) -> Any:  # noqa: ARG001  imgaug's signature
    """Uneven light, which changes by up to 25 % from edge to edge."""
    unevenly_lit = []
    for image in images:
        y, x = np.mgrid[-0.5 : 0.5 : image.shape[0] * 1j, -0.5 : 0.5 : image.shape[1] * 1j]
        angle, strength = random_state.uniform(0, 2 * np.pi, ()), random_state.uniform(0.05, 0.25, ())
        factor = 1 + strength * (np.cos(angle) * x + np.sin(angle) * y)
        unevenly_lit.append(np.clip(np.rint(image * factor[..., None]), 0, 255).astype(np.uint8))
    return np.stack(unevenly_lit) if isinstance(images, np.ndarray) else unevenly_lit


def _microscope() -> Any:
    import imgaug.augmenters as iaa

    return iaa.Sequential(
        [
            iaa.Fliplr(0.5),
            iaa.Affine(rotate=(-180, 180), translate_percent=(-0.05, 0.05), scale=(0.9, 1.1), mode="reflect", order=1),
            iaa.Multiply((0.85, 1.15), per_channel=0.7),
            iaa.Sometimes(0.5, iaa.AddToHueAndSaturation((-14, 14), per_channel=True)),
            # imgaug's own gradients do not follow `seed_`.
            iaa.Sometimes(0.4, iaa.Lambda(func_images=_uneven_light)),
            iaa.Sometimes(0.4, iaa.GaussianBlur((0.3, 1.5))),
            iaa.Sometimes(0.4, iaa.AdditiveGaussianNoise(scale=(2, 10), per_channel=True)),
        ]
    )


POLICIES: dict[str, Callable[[], Any] | None] = {
    "none": None,
    "flips": _flips,
    "stain": _stain,
    "slides": _slides,
    "shifts": _shifts,
    "microscope": _microscope,
}

for _rank, _name in enumerate(POLICIES):
    augmentation(_name, rank=_rank)(make(_name))
