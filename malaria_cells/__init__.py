"""Finds, names and counts blood cells in images of stained smears.

The public names are loaded when they are first used, so that ``--help`` stays instant.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from malaria_cells.app.api import CellDetector
    from malaria_cells.app.library import evaluate, export_model, train
    from malaria_cells.base.errors import InputError
    from malaria_cells.data.annotations import AnnotationSet, load_annotations
    from malaria_cells.data.images import read_image
    from malaria_cells.evaluation import detection_metrics
    from malaria_cells.inference.counting import Count

_PLACES = {
    "AnnotationSet": "data.annotations",
    "CellDetector": "app.api",
    "Count": "inference.counting",
    "InputError": "base.errors",
    "detection_metrics": "evaluation",
    "evaluate": "app.library",
    "export_model": "app.library",
    "load_annotations": "data.annotations",
    "read_image": "data.images",
    "train": "app.library",
}
__all__ = [
    "AnnotationSet",
    "CellDetector",
    "Count",
    "InputError",
    "detection_metrics",
    "evaluate",
    "export_model",
    "load_annotations",
    "read_image",
    "train",
]


_FORMER = {"read_picture": "read_image"}  # names that went by another one


def __getattr__(name: str) -> Any:
    name = _FORMER.get(name, name)
    if name not in _PLACES:
        raise AttributeError(f"module 'malaria_cells' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"malaria_cells.{_PLACES[name]}"), name)
