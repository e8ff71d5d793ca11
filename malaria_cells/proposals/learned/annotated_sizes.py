"""Cell sizes of annotated and of detected images, compared with the reference sizes of a training."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.proposals.learned.scale import min_size_of
from malaria_cells.proposals.learned.settings import ProposalSettings, Range


def annotated_cell_size(image: AnnotatedImage, reference: float, cells_xyxy: np.ndarray | None = None) -> float:
    """Cell size of an annotated image in pixels: the reference size, or the image's own median if that is clearly different.

    Args:
        image: the annotated image; with few boxes the reference size is used.
        reference: reference size, the longer side of a cell in the images of its data set in pixels.
        cells_xyxy: boxes that the size is measured on, see `AnnotationSet.sizing_cells`; None: all.
    """
    median = boxes.median_size(image.cells_xyxy if cells_xyxy is None else cells_xyxy)
    if median is None or _is_reference(median, [reference], ProposalSettings.reference_range):
        return reference
    return max(median, min_size_of(math.prod(image.size_wh), reference))


def annotated_cell_sizes(annotations: AnnotationSet, reference: float) -> list[float]:
    """`annotated_cell_size` of each image, measured on the red cells if there are any.

    Args:
        annotations: of one or more data sets.
        reference: reference size in pixels; where there are several data sets, each has its own instead.
    """
    by_set = annotations.median_cell_sizes if annotations.is_of_several_sets else {}
    return [annotated_cell_size(p, by_set.get(p.data_set, reference), annotations.sizing_cells(p)) for p in annotations.images]


def unusual_cell_sizes(
    boxes_xyxy: Iterable[np.ndarray], reference: Sequence[float], reference_range: Range = ProposalSettings.reference_range
) -> np.ndarray:
    """Median cell sizes, in pixels, of the images in which they differ clearly from every reference size.

    Args:
        boxes_xyxy: the boxes of each image, (n, 4); images with few boxes are left out.
        reference: reference sizes in pixels, one or one for each data set.
        reference_range: see `ProposalSettings`.
    """
    sizes = map(boxes.median_size, boxes_xyxy)
    return np.array([size for size in sizes if size is not None and not _is_reference(size, reference, reference_range)])


def _is_reference(size: float, reference: Sequence[float], reference_range: Range) -> bool:
    return any(reference_range[0] <= size / s <= reference_range[1] for s in reference)
