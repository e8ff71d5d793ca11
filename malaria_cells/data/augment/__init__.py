"""Named augmentation policies.

none: nothing.
flips: mirror images and quarter turns; a smear has no upright.
stain: flips, and any rotation, shifts by 8 % and scales by 12 % (a proposal's box is never exact), colour casts by channel,
    hue, saturation and brightness (stains and white balances differ from slide to slide).
slides: stain, and stains from half to twice as dense, in all channels alike or in each by itself, and colours faded, up to grey.
laboratories: as another laboratory's microscope, camera and stain would have it: moved, stained, lit, focused and stored otherwise
    (`augment.densities`); made for stain_normalization: density, which leaves less to vary.
shifts: zoom, shift, shear by 5 % and rotation by 25 degrees, as malaria tutorials have it.
microscope: stain, and uneven light, defocus and sensor noise.
layers: random crop, flips, rotation by a quarter, zoom to 20 %, contrast by 20 %, as Keras layers.
randaugment: RandAugment (Cubuk et al. 2020, arXiv:1909.13719) of keras-cv.
cutmix, mixup: patches and labels mixed (Yun et al. 2019, arXiv:1905.04899; Zhang et al. 2018, arXiv:1710.09412), as Keras layers.

Several are joined by a plus sign, as in ``slides+mixup``: one after another, those on pixels before those on tensors.
"""

from functools import reduce
from typing import Any

from malaria_cells.data.augment.registry import AUGMENTATIONS, Augmenter, OnBatches, OnPatches, SeededPolicy

SEEDS_OF_A_PART = 100  # more than a part of a policy has layers


def check_policy(policy: str) -> None:
    """Raise `InputError` unless each part of the policy is known."""
    for name in _names(policy):
        AUGMENTATIONS[name]


def make_augmenter(policy: str) -> Augmenter:
    """Build the part of a policy that works on uint8 batches; it changes nothing where all parts work on tensors.

    Raises:
        InputError: a part is unknown.
    """
    parts = [entry.augment for name in _names(policy) if isinstance(entry := AUGMENTATIONS[name], OnPatches)]
    return lambda patches, seed: reduce(lambda changed, part: part(changed, seed), parts, patches)


def make_batch_policy(policy: str, image_size_hw: tuple[int, int], seed: int) -> SeededPolicy | None:
    """Build the part of a policy that works on tensors, or None. It is a function of a batch, its labels and the batch's seed.

    Raises:
        InputError: a part is unknown.
    """
    parts = [entry.make(image_size_hw, seed) for name in _names(policy) if isinstance(entry := AUGMENTATIONS[name], OnBatches)]
    if not parts:
        return None

    def apply(images: Any, labels: Any, batch_seed: Any) -> tuple[Any, Any]:
        for number, part in enumerate(parts):
            if hasattr(part, "reseed"):
                part.reseed(batch_seed + SEEDS_OF_A_PART * number)
            images, labels = part(images, labels)
        return images, labels

    return apply


def needs_soft_labels(policy: str) -> bool:
    """Whether a part of the policy works on tensors, which may mix labels."""
    return any(isinstance(AUGMENTATIONS[name], OnBatches) for name in _names(policy))


def _names(policy: str) -> list[str]:
    return [name.strip() for name in policy.split("+")]


__all__ = ["AUGMENTATIONS", "Augmenter", "SeededPolicy", "check_policy", "make_augmenter", "make_batch_policy", "needs_soft_labels"]
