"""Annotation habits of a data set, measured from its annotation: cell size, cells at the edge of the image, completeness."""

from dataclasses import dataclass

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.boxes import WORKING_CELL_SIZE
from malaria_cells.data.images import read_image
from malaria_cells.proposals.learned.annotated_sizes import annotated_cell_size
from malaria_cells.proposals.learned.prediction import to_working_scale
from malaria_cells.proposals.transmission import Field

AT_EDGE = 2.0  # pixels; a box this close to the edge of the image is taken for a cell that the edge cuts off
# Fraction of the median cell that must lie inside the image for the cell to count, since few annotators recognise less than half a cell.
MIN_VISIBLE = 0.5
MIN_EXPECTED = 20.0  # expected cells at the edge below which the habit is not estimated
MAX_IMAGES_READ = 12  # images of a data set whose pixels are read, which takes a second or two
MARGIN = 0.5  # cell sizes; width of the strip along the edge that is left out of the completeness, since habits differ there


@dataclass(frozen=True)
class AnnotationHabits:
    """Habits of the annotators of a data set, as measured from their boxes.

    Attributes:
        cell_size: median longer side of a cell in pixels; 0 without cells.
        border: number of annotated cells that the edge of the image cuts off, relative to the expected number (`border_habit`): 1 if
            they are annotated like other cells, 0 if none is annotated; None if too few are expected.
        completeness: fraction of the stained area inside the images that lies in boxes, 0 to 1; None if nothing is stained.
    """

    cell_size: float
    border: float | None
    completeness: float | None

    def __str__(self) -> str:
        parts = [f"cells of {self.cell_size:.0f} pixels"]
        if self.border is not None:
            parts.append(f"{min(self.border, 1):.0%} of the cells that the edge of the image cuts off are annotated")
        if self.completeness is not None:
            parts.append(f"{self.completeness:.0%} of the stained area in boxes")
        return ", ".join(parts)


def measured(annotations: AnnotationSet) -> list[str]:
    """Describe the habits of each data set in one line. Data sets with image labels or without cells are left out."""
    sets = annotations.by_data_set().items()
    return [f"{name or 'annotation'}: {measure(part)}" for name, part in sets if not part.whole and part.class_counts.sum()]


def measure(annotations: AnnotationSet) -> AnnotationHabits:
    """Measure the habits of one data set; for several see `AnnotationSet.by_data_set`.

    Reads up to `MAX_IMAGES_READ` images.
    """
    return AnnotationHabits(annotations.median_cell_size, border_habit(annotations), completeness(annotations))


def border_habit(annotations: AnnotationSet) -> float | None:
    """Number of annotated cells that the edge of the image cuts off, relative to the number expected from the cells inside.

    The density of cell centres is assumed to be the same inside and outside an image of width W and height H. A cell of width w and
    height h is whole, and more than t from each edge, if its centre lies in an inner rectangle of (W - w - 2t) x (H - h - 2t). At least
    s pixels of its width and height are visible if its centre lies in an outer rectangle of (W + w - 2s) x (H + h - 2s). So for each whole
    annotated cell, (outer area - inner area) / inner area cells are expected at the edge (Horvitz and Thompson 1952, J. Am. Stat. Assoc.
    47, 663-685; large cells, which are more rarely whole, count more). The habit is the number of annotated boxes at the edge of which at
    least s pixels are visible, divided by the sum of these expected numbers. Annotators are assumed to miss the same fraction of cells at
    the edge as inside, which cancels. Only cells of the most frequent class are counted, since photographers centre leukocytes, which are
    therefore rarer at the edge.

    Args:
        annotations: annotation of one data set; no image is read.

    Returns:
        0 or more; 1 means "annotated like other cells". It exceeds 1 if cells are denser at the edge, as around a leukocyte in the middle.
        None if fewer than `MIN_EXPECTED` such cells are expected, or if labels are of whole images.
    """
    if annotations.whole:
        return None
    reference = annotations.median_cell_size
    most_frequent = int(annotations.class_counts.argmax())
    counted = [
        _at_edge(p.cells_xyxy[p.cell_class_ids == most_frequent], p.size_wh, annotated_cell_size(p, reference))
        for p in annotations.images
        if len(p.cells_xyxy)
    ]
    annotated, expected = np.sum(counted, axis=0) if counted else (0.0, 0.0)
    return float(annotated / expected) if expected >= MIN_EXPECTED else None


def _at_edge(cells_xyxy: np.ndarray, size_wh: tuple[int, int], cell_size: float) -> tuple[float, float]:
    """Number of annotated cells at the edge, and the expected number."""
    cells, size = cells_xyxy.astype(np.float64), np.array(size_wh, dtype=np.float64)
    min_visible = MIN_VISIBLE * cell_size
    sides = cells[:, 2:] - cells[:, :2]
    is_visible = (sides >= min_visible).all(axis=1)
    at_edge = (cells[:, :2] <= AT_EDGE).any(axis=1) | (cells[:, 2:] >= size - AT_EDGE).any(axis=1)
    whole = sides[is_visible & ~at_edge]
    inner = np.prod(size - whole - 2 * AT_EDGE, axis=1)
    outer = np.prod(size + whole - 2 * min_visible, axis=1)
    possible = inner > 0
    return float((is_visible & at_edge).sum()), float((outer[possible] / inner[possible] - 1).sum())


def completeness(annotations: AnnotationSet) -> float | None:
    """Fraction of the stained area of the images that lies in boxes or ignore regions, without a strip along their edges.

    The stained area is the foreground of `transmission.Field`, which includes platelets and dirt but not pale cells. A data set in which
    all cells are annotated has a value near 1; a lower value tells how many cells a network would learn to miss. Up to `MAX_IMAGES_READ`
    images, spread over the data set, are read.

    Args:
        annotations: annotation of one data set.

    Returns:
        0 to 1; None if nothing is stained or labels are of whole images.
    """
    if annotations.whole:
        return None
    reference = annotations.median_cell_size
    images = [p for p in annotations.images if len(p.boxes_xyxy)]
    sample = images[:: max(-(-len(images) // MAX_IMAGES_READ), 1)]
    areas = np.array([_stained(p, annotated_cell_size(p, reference)) for p in sample if reference > 0]).reshape(-1, 2).sum(axis=0)
    return float(areas[0] / areas[1]) if areas[1] else None


def _stained(image: AnnotatedImage, cell_size: float) -> tuple[int, int]:
    """Stained area inside boxes, and total stained area, in pixels of the working scale."""
    small = to_working_scale(read_image(image.path), cell_size)
    field = Field.of(small, WORKING_CELL_SIZE)
    stained = field.transmission < field.threshold
    margin = int(MARGIN * WORKING_CELL_SIZE)
    boxed = np.zeros_like(stained)
    scaled = boxes.clip(image.boxes_xyxy * np.float32(WORKING_CELL_SIZE / cell_size), (small.shape[1], small.shape[0]))
    for left, top, right, bottom in np.rint(scaled).astype(int):
        boxed[top:bottom, left:right] = True
    inner = np.s_[margin : max(small.shape[0] - margin, margin), margin : max(small.shape[1] - margin, margin)]
    return int((stained & boxed)[inner].sum()), int(stained[inner].sum())
