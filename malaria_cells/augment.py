"""Named augmentation policies, made of imgaug's augmenters.

A policy is applied to a whole batch with a seed of its own, so that the same batch is augmented the same way in every
run, whichever thread works on it.
"""

import threading
from collections.abc import Callable

import numpy as np

from malaria_cells.errors import InputError, nearest

Augmenter = Callable[[np.ndarray, int], np.ndarray]


def make_augmenter(policy: str) -> Augmenter:
    """Build a policy by name.

    Policies:
        none: nothing.
        flips: mirror images and quarter turns; a smear has no upright.
        stain: flips, and any rotation, shifts by 8 % and scales by 12 % (a proposal's box is never exact), colour casts
            by channel, hue, saturation and brightness (stains and white balances differ from slide to slide).

    Returns:
        A function of a uint8 batch (n, H, W, 3) and a seed that returns a new uint8 batch.

    Raises:
        InputError: unknown policy.
    """
    if policy not in _POLICIES:
        raise InputError(f"augmentation: '{policy}' is unknown{nearest(policy, _POLICIES)}; expected one of {', '.join(_POLICIES)}")
    build = _POLICIES[policy]
    if build is None:
        return lambda patches, _: patches
    own = threading.local()  # an augmenter holds its random state: threads must not share one

    def augment(patches: np.ndarray, seed: int) -> np.ndarray:
        if not hasattr(own, "augmenter"):
            own.augmenter = build()
        own.augmenter.seed_(seed)
        return np.asarray(own.augmenter(images=patches))

    return augment


def _flips():  # type: ignore[no-untyped-def]
    import imgaug.augmenters as iaa

    return iaa.Sequential([iaa.Fliplr(0.5), iaa.Rot90((0, 3), keep_size=True)])


def _stain():  # type: ignore[no-untyped-def]
    import imgaug.augmenters as iaa

    geometry = iaa.Affine(rotate=(-180, 180), translate_percent=(-0.08, 0.08), scale=(0.88, 1.12), mode="reflect", order=1)
    colour = [
        iaa.Multiply((0.85, 1.15), per_channel=0.7),
        iaa.Sometimes(0.5, iaa.AddToHueAndSaturation((-14, 14), per_channel=True)),
        iaa.Sometimes(0.3, iaa.LinearContrast((0.8, 1.25))),
        iaa.Sometimes(0.2, iaa.GaussianBlur((0.0, 1.0))),
    ]
    return iaa.Sequential([iaa.Fliplr(0.5), geometry, *colour])


_POLICIES: dict[str, Callable | None] = {"none": None, "flips": _flips, "stain": _stain}
POLICY_NAMES = tuple(_POLICIES)
