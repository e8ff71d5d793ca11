"""Annotated images written in the formats of other tools, one file a format.

In: an `AnnotationSet` and a folder. Out: files there, and a line for each thing that the format could not hold.
"""

from collections.abc import Callable
from pathlib import Path

from malaria_cells.base.registry import Registry
from malaria_cells.data.annotations import AnnotationSet

Write = Callable[[AnnotationSet, Path], list[str]]

WRITERS: Registry[Write] = Registry("--to", __name__)


def writer(name: str, rank: int = 100) -> Callable[[Write], Write]:
    """Return a decorator that adds a function that writes annotated images into an empty folder."""
    return WRITERS.add(name, rank=rank)


__all__ = ["WRITERS", "Write", "writer"]
