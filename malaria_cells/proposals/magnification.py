"""Pictures whose cells are larger or smaller than those of the training: another microscope, another camera.

A network of learned proposals finds cells of about the size that it was trained on, and next to nothing at twice or half of it. It
also says how large each cell is. Shown a picture in the size of its cells, it is sure of much of what it sees, and what it is sure of
has the size that was expected; in any other size it takes nuclei, clusters and parts of cells for cells, but is sure of few of them.
So a picture is looked at in several sizes, quickly, and the size is believed in which expectation and answer agree.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from malaria_cells import boxes
from malaria_cells.annotations import AnnotationSet, Picture
from malaria_cells.proposals.learned import LEAST_HEAT, WORKING_CELL_SIZE
from malaria_cells.proposals.watershed import estimate_cell_size

Found = tuple[np.ndarray, np.ndarray]
Glance = Callable[[np.ndarray, float], Found]

CONFIDENT = 4 * LEAST_HEAT
# Times: in IML-Malaria's photographs the median cell is annotated as 0.87 to 1.20 of the usual one.
USUAL = (0.8, 1.3)
# Measured by `benchmarks/cell_sizes.py` on the training parts of six laboratories with networks that had seen some of them: in the size
# of the red cells, the agreeing share was 0.3 or more with five cells or more in nearly all photographs; in sizes twice as large or
# small and beyond in up to 6 %, and with a network of one laboratory in up to 12 % of another one's.
AGREE = 1.4  # times: as much as the size of a cell may differ from the size expected
BELIEVED = 0.3  # share of what is seen, weighted by score and size, that agrees
FEWEST = 5  # cells that agree with a size of the training
SETTLED = (0.85, 1.2)  # times the size expected: median of the confident cells, where nothing else need be tried
# Times the size expected: where the median is beyond, it is looked at in turn. A size that is too large costs more cells than one that
# is too small.
NEAR = (0.93, 1.1)
PULL = 1.5  # power of the median relative to the size expected: 1.0 to 1.8 were measured
SPREAD = 0.25  # standard deviation of the logarithm of sizes that speak for the size expected
PREFERRED = 0.9  # of the worth of the best size: a size of the training that reaches it is taken
# Of the worth of the size that the cells seem to have: a plain size of the training that reaches it is kept. With 0.75 a laboratory of a
# size between two of the training's was taken for the larger (deepbionet left out: a quarter of the photographs, 1.37 times).
STICKY = 0.9
STEP = 1.35  # times: from one size tried to the next
SMALLEST = 12.0  # pixels: cells smaller than these cannot be told apart
MOST_LOOKS = 3  # to come from a size that is believed to the median of the cells seen
GLANCED = 500_000  # pixels of the network's input that a quick look covers at most, the middle of the picture: some 300 cells
MOST_GLANCED = 30_000_000  # pixels of an enlarged picture: a second or two


@dataclass(frozen=True)
class View:
    """What a network finds in a picture, or in its middle, in one expected size of the cells.

    Attributes:
        size: longer side of a cell in pixels that was expected.
        found: boxes and proposal scores.
        part: area looked at, in pixels.
    """

    size: float
    found: Found
    part: float

    @cached_property
    def _seen(self) -> tuple[np.ndarray, np.ndarray]:
        """Size of each candidate relative to the one expected, and how much it weighs: its score times its size."""
        relative = np.maximum(boxes.cell_sizes(self.found[0]) / self.size, 1e-6)
        return relative, self.found[1] * relative

    @cached_property
    def _agrees(self) -> np.ndarray:
        relative = self._seen[0]
        return (self.found[1] >= CONFIDENT) & (relative < AGREE) & (relative > 1 / AGREE)

    @cached_property
    def is_believable(self) -> bool:
        """Whether enough of what is seen is surely a cell of about the size expected."""
        weight = self._seen[1]
        return bool(self._agrees.sum() >= FEWEST and weight[self._agrees].sum() >= BELIEVED * weight.sum())

    @property
    def shows_enough(self) -> bool:
        """Whether as many cells agree as a size that the training did not have is told by: fewer may be a leukocyte's lobes."""
        return bool(self._agrees.sum() >= boxes.ENOUGH)

    @cached_property
    def median(self) -> float:
        """Median longer side of the confident cells of about the size expected, in pixels; the size expected where there is none."""
        sizes = self._seen[0][self._agrees]
        return self.size * float(np.median(sizes)) if len(sizes) else self.size

    @property
    def aim(self) -> float:
        """Size that the cells seem to have in truth: networks take them for nearer to the size expected than they are."""
        return self.size * (self.median / self.size) ** PULL

    @cached_property
    def is_settled(self) -> bool:
        """Whether the size expected is so plainly that of the cells that no other need be tried."""
        if not self.is_believable or not self.shows_enough:
            return False
        middle = np.median(self._seen[0][self.found[1] >= CONFIDENT])
        return bool(SETTLED[0] <= middle <= SETTLED[1])

    @cached_property
    def worth(self) -> float:
        """How much speaks for the size: sizes of the confident cells times scores, less of those of another size, by area looked at.

        By the first power of the size: a count would prefer the many specks of an enlarged picture, an area the few leukocytes of a
        shrunken one.
        """
        relative, weight = self._seen
        near = np.exp(-0.5 * (np.log(relative) / SPREAD) ** 2)
        return float((weight * near)[self.found[1] >= CONFIDENT].sum() * self.size / self.part)


def in_own_size(find: Callable[[float], Found], glance: Glance, picture: np.ndarray, usual: float, sizes: Sequence[float] = ()) -> Found:
    """Candidates of a picture, in the size of its own cells where what is found in it is plainly more than in the usual size.

    Args:
        find: from the longer side of a cell in pixels to boxes, float32 (n, 4), and proposal scores, float32 (n,).
        glance: a quicker `find` of the part of the picture that it is given, to measure by.
        picture: uint8 RGB (H, W, 3).
        usual: longer side of a cell in the training pictures in pixels.
        sizes: those of the data sets of the training, where there were several.

    Returns:
        As `find`.
    """
    if len(sizes) > 1:
        return find(own_cell_size(glance, picture, usual, sizes))
    found = find(usual)
    first = View(usual, found, _area(picture))
    if first.is_settled:
        return found
    own = own_cell_size(glance, picture, usual, seen=first)
    return found if own == usual else find(own)


def own_cell_size(
    glance: Glance, picture: np.ndarray, usual: float | None = None, sizes: Sequence[float] = (), seen: View | None = None
) -> float:
    """Usual longer side of a cell of a picture in pixels, as the network sees it.

    Sizes of the training are tried first, from the largest, which is the quickest, then others; `usual` is the answer where none is
    believed.

    Args:
        glance: as in `in_own_size`.
        picture: uint8 RGB (H, W, 3).
        usual: as in `in_own_size`; None: as large as the dark regions.
        sizes: as in `in_own_size`.
        seen: what was found in the usual size already.
    """
    known = sorted(sizes or ([] if usual is None else [usual]), reverse=True)
    start = usual or estimate_cell_size(picture)
    least = _least_size(_area(picture), min(known, default=np.inf))
    views = {} if seen is None else {seen.size: seen}

    def look(size: float) -> View:
        if size not in views:
            part = _middle(picture, size)
            views[size] = View(size, glance(part, size), _area(part))
        return views[size]

    for size in _tried(known, start, least, min(picture.shape[:2]) / 2):
        if look(size).is_settled:
            return _refined(look, size, known, least)
    believed = [view for view in views.values() if view.is_believable and (view.size in known or view.shows_enough)]
    if not believed:
        return start
    best = max(believed, key=lambda view: view.worth)
    good = [view for view in believed if view.size in known and view.worth >= PREFERRED * best.worth]
    return max(good, key=lambda view: view.worth).size if good else _refined(look, best.size, known, least)


def _tried(known: Sequence[float], start: float, least: float, most: float) -> Iterator[float]:
    """Sizes of the training, then others in steps from `start`, the largest of each first."""
    if len(known) > 1:  # else cells that are larger than any are taken for the largest
        yield known[0] * STEP
    yield from known
    highest = math.floor(math.log(max(most, SMALLEST) / start, STEP))
    lowest = math.ceil(math.log(max(least, SMALLEST) / start, STEP))
    for step in range(max(highest, 1), lowest - 1, -1):
        size = start * STEP**step
        if size not in known:
            yield size


def _refined(look: Callable[[float], View], size: float, known: Sequence[float], least: float) -> float:
    """Go on from a size that is believed to that which the cells seem to have, as long as that is believed as well."""
    view = look(size)
    for smaller in sorted((each for each in known if each < size), reverse=True) if size in known else []:
        if view.median >= NEAR[0] * view.size or (again := look(smaller)).worth < view.worth:
            break
        view = again
    for _ in range(MOST_LOOKS):
        if NEAR[0] <= view.median / view.size <= NEAR[1]:
            break
        again = look(max(_snapped(view.aim, known), least))
        needed = view.worth / STICKY if view.size in known else PREFERRED * view.worth
        if not again.is_believable or again.worth < needed:
            break
        view = again
    return view.size if view.size in known else max(view.median, least)


def _snapped(size: float, known: Sequence[float]) -> float:
    """The size of the training that is nearest, if it is near: pictures of one laboratory were taken at one magnification."""
    near = [each for each in known if NEAR[0] <= size / each <= NEAR[1]]
    return min(near, key=lambda each: abs(math.log(size / each)), default=size)


def annotated_size(picture: Picture, usual: float, cells_xyxy: np.ndarray | None = None) -> float:
    """Usual longer side of a cell of an annotated picture in pixels: `usual`, or its own median where that is plainly another.

    Args:
        picture: few boxes do not tell another microscope from large cells.
        usual: longer side of a cell in the pictures of its data set in pixels.
        cells_xyxy: boxes of the cells that tell, see `AnnotationSet.sizing_cells`; None: all.
    """
    own = boxes.usual_size(picture.cells_xyxy if cells_xyxy is None else cells_xyxy)
    if own is None or _is_usual(own, [usual]):
        return usual
    return max(own, _least_size(math.prod(picture.size_wh), usual))


def annotated_sizes(annotations: AnnotationSet, usual: float) -> list[float]:
    """`annotated_size` of each picture, told by the red cells where there are any.

    Args:
        annotations: of one or more data sets.
        usual: longer side of a cell in pixels; where there are several data sets, each has its own instead.
    """
    by_set = annotations.usual_cell_sizes if annotations.is_of_several_sets else {}
    return [annotated_size(p, by_set.get(p.data_set, usual), annotations.sizing_cells(p)) for p in annotations.pictures]


def other_sizes(found_xyxy: Iterable[np.ndarray], usual: Sequence[float]) -> np.ndarray:
    """Median longer sides of the cells in those pictures where they are plainly of no usual size, in pixels.

    Args:
        found_xyxy: the boxes of each picture, (n, 4); pictures with few are left out.
        usual: longer sides of a cell in the training pictures in pixels, one or one for each data set.
    """
    sizes = map(boxes.usual_size, found_xyxy)
    return np.array([size for size in sizes if size is not None and not _is_usual(size, usual)])


def _middle(picture: np.ndarray, size: float) -> np.ndarray:
    """As much of the middle of a picture as `GLANCED` pixels of the network's input show."""
    height, width = picture.shape[:2]
    most = GLANCED * (size / WORKING_CELL_SIZE) ** 2
    side = math.sqrt(most)
    rows = round(min(height, max(side, most / width)))
    columns = round(min(width, max(side, most / height)))
    top, left = (height - rows) // 2, (width - columns) // 2
    return picture[top : top + rows, left : left + columns]


def _area(picture: np.ndarray) -> int:
    return picture.shape[0] * picture.shape[1]


def _least_size(pixels: int, usual: float) -> float:
    return min(usual / 2, WORKING_CELL_SIZE * math.sqrt(pixels / MOST_GLANCED))


def _is_usual(size: float, usual: Sequence[float]) -> bool:
    return any(USUAL[0] <= size / each <= USUAL[1] for each in usual)
