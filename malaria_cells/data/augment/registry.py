"""Augmentations by name: functions of uint8 patches, or of tensors and their labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from malaria_cells.base.registry import Registry

Augmenter = Callable[[np.ndarray, int], np.ndarray]
BatchPolicy = Callable[[Any, Any], tuple[Any, Any]]
SeededPolicy = Callable[[Any, Any, Any], tuple[Any, Any]]  # of a batch, its labels, and its seed, an int64 tensor
MakeBatchPolicy = Callable[[tuple[int, int], int], BatchPolicy]


@dataclass(frozen=True)
class OnPatches:
    """An augmentation of uint8 patches."""

    augment: Augmenter


@dataclass(frozen=True)
class OnBatches:
    """An augmentation of tensors, which may mix images and labels."""

    make: MakeBatchPolicy


AUGMENTATIONS: Registry[OnPatches | OnBatches] = Registry("augmentation", "malaria_cells.data.augment")


def augmentation(name: str, rank: int = 100) -> Callable[[Augmenter], Augmenter]:
    """Return a decorator that adds a function of uint8 patches (n, H, W, 3) and a seed to uint8 patches; several threads call it."""

    def decorate(augment: Augmenter) -> Augmenter:
        AUGMENTATIONS.add(name, rank=rank)(OnPatches(augment))
        return augment

    return decorate


def batch_augmentation(name: str, rank: int = 100) -> Callable[[MakeBatchPolicy], MakeBatchPolicy]:
    """Return a decorator that adds a function of the patches' size and a seed.

    It returns a function of a batch, float32 (n, H, W, 3) in 0..255, and its soft labels (n, n_classes) to the new batch and labels. If
    that has a method ``reseed`` of an int64 tensor, it is called before each batch with the batch's seed, which makes a resumed training
    see the batches of an uninterrupted one.
    """

    def decorate(make: MakeBatchPolicy) -> MakeBatchPolicy:
        AUGMENTATIONS.add(name, rank=rank)(OnBatches(make))
        return make

    return decorate
