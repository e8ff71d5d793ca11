"""Architectures of classifiers, one file each: a function that builds one, decorated by its name.

In: a `Request`. Out: a `keras.Model` from pixels (b, H, W, 3) in 0..255 to probabilities (b, n_classes), or (b, 1) for two classes; its
preprocessing is inside. The files import Keras within their functions: names are looked up where nothing is built.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from malaria_cells.base.registry import Registry


@dataclass(frozen=True)
class Request:
    """What is to be built.

    Attributes:
        name: by which the architecture was asked for.
        image_size_hw: input height and width in pixels.
        n_classes: number of classes, including the background class.
        dropout: fraction dropped before the last layers, in [0, 1).
        weights: of a backbone: ``imagenet``, ``none`` or a file.
        freeze: whether the weights of a backbone are frozen.
    """

    name: str
    image_size_hw: tuple[int, int]
    n_classes: int
    dropout: float = 0.0
    weights: str = "none"
    freeze: bool = False


Build = Callable[[Request], Any]


@dataclass(frozen=True)
class Architecture:
    """What builds a classifier.

    Attributes:
        build: the function.
        has_backbone: whether it has a backbone, whose weights can be loaded and frozen.
    """

    build: Build
    has_backbone: bool = False


ARCHITECTURES: Registry[Architecture] = Registry("model", __name__)


def architecture(*names: str, has_backbone: bool = False, rank: int = 100) -> Callable[[Build], Build]:
    """Return a decorator that adds a function that builds a `keras.Model`.

    Args:
        names: values of the config key `model`.
        has_backbone: see `Architecture`.
        rank: place in lists of names.
    """

    def decorate(build: Build) -> Build:
        ARCHITECTURES.add(*names, rank=rank)(Architecture(build, has_backbone))
        return build

    return decorate
