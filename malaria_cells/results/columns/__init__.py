"""Further columns of tables, one file each: a function, decorated by the column's name.

In: the detections of an image. Out: values that follow the columns that `detections.csv` and `counts.csv` always have.
"""

from collections.abc import Callable, Sequence
from typing import Any

from malaria_cells.base.registry import Registry
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet

OfDetections = Callable[[Detections, LabelSet], Sequence[Any]]
OfImage = Callable[[Detections, LabelSet], Any]

DETECTION_COLUMNS: Registry[OfDetections] = Registry("column of detections.csv", __name__)
COUNT_COLUMNS: Registry[OfImage] = Registry("column of counts.csv", __name__)


def detection_column(name: str, rank: int = 100) -> Callable[[OfDetections], OfDetections]:
    """Return a decorator that adds a column to ``detections.csv``.

    The function is given the detections of an image, and the labels; it returns a value for each detection.
    """
    return DETECTION_COLUMNS.add(name, rank=rank)


def count_column(name: str, rank: int = 100) -> Callable[[OfImage], OfImage]:
    """Return a decorator that adds a column to ``counts.csv``.

    The function is given the detections of an image, and the labels; it returns one value. In the row ``TOTAL`` the column is empty.
    """
    return COUNT_COLUMNS.add(name, rank=rank)
