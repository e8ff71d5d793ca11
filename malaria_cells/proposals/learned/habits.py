"""How a data set was annotated, measured from the annotation itself: size of the cells, cells at the edge, cells left out."""

from dataclasses import dataclass

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.images import read_image
from malaria_cells.proposals.learned.prediction import WORKING_CELL_SIZE, to_working_scale
from malaria_cells.proposals.learned.scale import annotated_cell_size
from malaria_cells.proposals.transmission import Field

AT_EDGE = 2.0  # pixels: a box that comes this near to the image's edge is of a cell that goes on beyond it
# Fraction of a typical cell that must lie inside the image for the annotator's choice to count: few people recognise less than half.
LEAST_SEEN = 0.5
FEWEST_EXPECTED = 20.0  # cells at the edge; from fewer no habit is told
MOST_LOOKED_AT = 12  # images of a set whose pixels are read, a second or two
RIM = 0.5  # cell sizes: a strip along the edge in which completeness is not measured, since the habit there is another


@dataclass(frozen=True)
class AnnotationHabits:
    """What the annotators of a data set do, as far as their boxes tell.

    Attributes:
        cell_size: median longer side of a cell in pixels; 0 without cells.
        border: annotated cells that the image's edge cuts, relative to the number expected (`border_habit`): 1 where they are annotated
            like all others, 0 where none is; None where too few are expected.
        completeness: fraction of the stained area inside the images that lies in boxes, 0 to 1; None where nothing is stained.
    """

    cell_size: float
    border: float | None
    completeness: float | None

    def __str__(self) -> str:
        parts = [f"cells of {self.cell_size:.0f} pixels"]
        if self.border is not None:
            parts.append(f"of cells that the image's edge cuts {min(self.border, 1):.0%} annotated")
        if self.completeness is not None:
            parts.append(f"{self.completeness:.0%} of the stained area in boxes")
        return ", ".join(parts)


def measured(annotations: AnnotationSet) -> list[str]:
    """The habits of each data set in a line; none of sets whose labels are of whole images, or that have no cells."""
    sets = annotations.by_data_set().items()
    return [f"{name or 'annotation'}: {measure(own)}" for name, own in sets if not own.whole and own.class_counts.sum()]


def measure(annotations: AnnotationSet) -> AnnotationHabits:
    """Measure the habits of one data set; of several, see `AnnotationSet.by_data_set`.

    Reads up to `MOST_LOOKED_AT` images.
    """
    return AnnotationHabits(annotations.median_cell_size, border_habit(annotations), completeness(annotations))


def border_habit(annotations: AnnotationSet) -> float | None:
    """Annotated cells that the image's edge cuts, relative to the number expected from the cells inside.

    Centres of cells are taken to lie as densely outside an image of width W and height H as inside. A cell of width w and height h is
    whole, and further than t from every edge, where its centre lies in a rectangle of (W - w - 2t) by (H - h - 2t). It reaches the edge,
    and is seen by s pixels at least in width and height, where its centre lies in the rectangle of (W + w - 2s) by (H + h - 2s) around that
    one. So each whole annotated cell stands for as many cells at the edge as the area between the two rectangles is larger than the
    inner one (the estimator of Horvitz and Thompson 1952, J. Am. Stat. Assoc. 47, 663-685: large cells, which lie whole in an image more
    seldom, count more), and the habit is the number of annotated boxes at the edge, seen by s or more, by the sum of these. What the
    annotators miss in the middle of an image they are taken to miss at the edge too, so that it does not change the habit. Cells of the
    commonest class alone are looked at: a photographer lays a leukocyte into the middle, and there is none at the edge then.

    Args:
        annotations: of one data set; boxes alone are looked at, no image is read.

    Returns:
        0 or more, 1 being "annotated like all others"; larger where cells lie more densely at the edge, as around a leukocyte in the
        middle. None if fewer than `FEWEST_EXPECTED` such cells are expected, or labels are of whole images.
    """
    if annotations.whole:
        return None
    usual = annotations.median_cell_size
    commonest = int(annotations.class_counts.argmax())
    counted = [
        _at_edge(p.cells_xyxy[p.cell_class_ids == commonest], p.size_wh, annotated_cell_size(p, usual))
        for p in annotations.images
        if len(p.cells_xyxy)
    ]
    found, expected = np.sum(counted, axis=0) if counted else (0.0, 0.0)
    return float(found / expected) if expected >= FEWEST_EXPECTED else None


def _at_edge(cells_xyxy: np.ndarray, size_wh: tuple[int, int], cell_size: float) -> tuple[float, float]:
    """Annotated cells that reach the edge, and how many are expected."""
    cells, size = cells_xyxy.astype(np.float64), np.array(size_wh, dtype=np.float64)
    seen = LEAST_SEEN * cell_size
    sides = cells[:, 2:] - cells[:, :2]
    enough = (sides >= seen).all(axis=1)
    at_edge = (cells[:, :2] <= AT_EDGE).any(axis=1) | (cells[:, 2:] >= size - AT_EDGE).any(axis=1)
    whole = sides[enough & ~at_edge]
    inner = np.prod(size - whole - 2 * AT_EDGE, axis=1)
    outer = np.prod(size + whole - 2 * seen, axis=1)
    possible = inner > 0
    return float((enough & at_edge).sum()), float((outer[possible] / inner[possible] - 1).sum())


def completeness(annotations: AnnotationSet) -> float | None:
    """Fraction of the stained area of the images, a strip along their edges left out, that lies in boxes or ignore regions.

    Stain is what `transmission.Field` takes for cells: platelets and dirt are in it, pale cells are not, and the corners of boxes do not
    count. So a set in which every cell is annotated is near 1, and less says how much a network would be taught to overlook. Up to
    `MOST_LOOKED_AT` images, spread over the set, are read.
    """
    if annotations.whole:
        return None
    usual = annotations.median_cell_size
    images = [p for p in annotations.images if len(p.boxes_xyxy)]
    looked_at = images[:: max(-(-len(images) // MOST_LOOKED_AT), 1)]
    areas = np.array([_stained(p, annotated_cell_size(p, usual)) for p in looked_at if usual > 0]).reshape(-1, 2).sum(axis=0)
    return float(areas[0] / areas[1]) if areas[1] else None


def _stained(image: AnnotatedImage, cell_size: float) -> tuple[int, int]:
    """Stained area in boxes and in all, in pixels of the working scale."""
    small = to_working_scale(read_image(image.path), cell_size)
    field = Field.of(small, WORKING_CELL_SIZE)
    stained = field.transmission < field.threshold
    rim = int(RIM * WORKING_CELL_SIZE)
    boxed = np.zeros_like(stained)
    scaled = boxes.clip(image.boxes_xyxy * np.float32(WORKING_CELL_SIZE / cell_size), (small.shape[1], small.shape[0]))
    for left, top, right, bottom in np.rint(scaled).astype(int):
        boxed[top:bottom, left:right] = True
    inner = np.s_[rim : max(small.shape[0] - rim, rim), rim : max(small.shape[1] - rim, rim)]
    return int((stained & boxed)[inner].sum()), int(stained[inner].sum())
