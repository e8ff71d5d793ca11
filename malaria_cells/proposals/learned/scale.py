"""Estimation of the cell size of an image, for images from another microscope or camera.

The learned proposal network finds cells of about the size that it was trained on, and almost none at twice or half that size. It also
predicts the size of each cell. At the right scale most of its detections are confident and have the expected size; at a wrong scale
it takes nuclei, clusters and parts of cells for cells, with low scores. The image is therefore shown to the network at several scales,
and the scale is accepted at which the expected and the predicted sizes agree.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.proposals.learned.prediction import MIN_SCORE, WORKING_CELL_SIZE
from malaria_cells.proposals.watershed import estimate_cell_size

ScoredBoxes = tuple[np.ndarray, np.ndarray]
Detect = Callable[[np.ndarray, float], ScoredBoxes]

CONFIDENT = 4 * MIN_SCORE  # proposal score from which a detection counts in the estimation
# Ratio to the reference size. The median cell of an IML-Malaria image is annotated as 0.87 to 1.20 of the reference size.
REFERENCE_RANGE = (0.8, 1.3)
# Measured by `benchmarks/cell_sizes.py` on the training parts of six laboratories with networks that had seen some of them: at the scale
# of the red cells, the consistent fraction was at least 0.3 with at least five cells in nearly all images; at scales wrong by a factor
# of two or more in up to 6 %, and with a network of one laboratory in up to 12 % of another one's images.
SIZE_TOLERANCE = 1.4  # ratio by which a predicted size may differ from the expected one and still be consistent with it
MIN_CONSISTENT = 0.3  # fraction of the detections, weighted by score and size, that must be consistent
MIN_CELLS = 5  # consistent detections that a cell size of the training needs
CONCLUSIVE = (0.85, 1.2)  # ratio of the median predicted size to the expected one within which no other scale is tried
# Ratio of the median predicted size to the expected one within which the refinement stops. A size that is too large costs more cells than
# one that is too small.
CONVERGED = (0.93, 1.1)
SHRINKAGE_POWER = 1.5  # exponent that corrects predicted size ratios, which networks pull towards 1; 1.0 to 1.8 were measured
LOG_SIZE_SD = 0.25  # standard deviation of the logarithm of predicted sizes around the expected size, in the evidence for a scale
KNOWN_PREFERENCE = 0.9  # fraction of the best evidence from which a cell size of the training is preferred to any other
# Fraction of the evidence for a refined size from which the cell size of the training is kept. With 0.75, images of a laboratory whose
# cell size lay between two of the training were given the larger one (deepbionet left out: 1.37 times in a quarter of the images).
KNOWN_TOLERANCE = 0.9
SCALE_STEP = 1.35  # ratio of one trial size to the next
MIN_CELL_SIZE = 12.0  # pixels: smaller cells cannot be told apart
MAX_REFINEMENTS = 3  # trials from an accepted size towards the median predicted size
FAST_PIXELS = 500_000  # pixels of the network's input in a trial: the centre of the image, some 300 cells
MAX_ENLARGED_PIXELS = 30_000_000  # pixels of an enlarged image: one or two seconds of inference


@dataclass(frozen=True)
class ScaleTrial:
    """Detections in an image, or in its centre, under the assumption of one cell size.

    Attributes:
        size: assumed longer side of a cell in pixels.
        detections: boxes, float32 (n, 4), and proposal scores, float32 (n,).
        area: area of the image that was searched, in pixels.
    """

    size: float
    detections: ScoredBoxes
    area: float

    @cached_property
    def _relative_sizes(self) -> np.ndarray:
        """Predicted size of each detection divided by the assumed one."""
        return np.maximum(boxes.cell_sizes(self.detections[0]) / self.size, 1e-6)

    @cached_property
    def _weights(self) -> np.ndarray:
        """Weight of each detection: its score times its relative size."""
        return self.detections[1] * self._relative_sizes

    @cached_property
    def _is_consistent(self) -> np.ndarray:
        """Whether each detection is confident and of about the assumed size."""
        relative = self._relative_sizes
        return (self.detections[1] >= CONFIDENT) & (relative < SIZE_TOLERANCE) & (relative > 1 / SIZE_TOLERANCE)

    @cached_property
    def is_plausible(self) -> bool:
        """Whether enough of the detections are consistent with the assumed size."""
        weights = self._weights
        return bool(self._is_consistent.sum() >= MIN_CELLS and weights[self._is_consistent].sum() >= MIN_CONSISTENT * weights.sum())

    @property
    def has_enough_cells(self) -> bool:
        """Whether enough detections are consistent for a size that the training did not have; fewer may be a leukocyte's lobes."""
        return bool(self._is_consistent.sum() >= boxes.ENOUGH)

    @cached_property
    def median(self) -> float:
        """Median predicted longer side of the consistent detections, in pixels; the assumed size where there are none."""
        relative = self._relative_sizes[self._is_consistent]
        return self.size * float(np.median(relative)) if len(relative) else self.size

    @property
    def corrected_size(self) -> float:
        """Median predicted size, corrected for the network's pull towards the assumed size."""
        return self.size * (self.median / self.size) ** SHRINKAGE_POWER

    @cached_property
    def is_conclusive(self) -> bool:
        """Whether the assumed size fits so well that no other need be tried."""
        if not self.is_plausible or not self.has_enough_cells:
            return False
        middle = np.median(self._relative_sizes[self.detections[1] >= CONFIDENT])
        return bool(CONCLUSIVE[0] <= middle <= CONCLUSIVE[1])

    @cached_property
    def evidence(self) -> float:
        """Evidence for the assumed size: summed sizes of the confident detections, weighted by score and by nearness to it, per area.

        The first power of the size is used: a count would prefer the many specks of an enlarged image, an area the few leukocytes of a
        shrunken one.
        """
        near = np.exp(-0.5 * (np.log(self._relative_sizes) / LOG_SIZE_SD) ** 2)
        return float((self._weights * near)[self.detections[1] >= CONFIDENT].sum() * self.size / self.area)


def detect_at_own_scale(
    detect: Callable[[float], ScoredBoxes], detect_fast: Detect, image: np.ndarray, reference: float, sizes: Sequence[float] = ()
) -> ScoredBoxes:
    """Candidates of an image at the scale of its own cells, if that is clearly better than the reference scale.

    Args:
        detect: from the longer side of a cell in pixels to boxes, float32 (n, 4), and proposal scores, float32 (n,).
        detect_fast: faster detection in a crop of the image, for the estimation.
        image: uint8 RGB (H, W, 3).
        reference: reference size, the longer side of a cell in the training images in pixels.
        sizes: reference sizes of the data sets of the training, if there were several.

    Returns:
        Boxes and scores, as `detect` returns them.
    """
    if len(sizes) > 1:
        return detect(estimate_scale(detect_fast, image, reference, sizes))
    detections = detect(reference)
    first = ScaleTrial(reference, detections, _area(image))
    if first.is_conclusive:
        return detections
    size = estimate_scale(detect_fast, image, reference, first=first)
    return detections if size == reference else detect(size)


def estimate_scale(
    detect_fast: Detect, image: np.ndarray, reference: float | None = None, sizes: Sequence[float] = (), first: ScaleTrial | None = None
) -> float:
    """Estimate the longer side of the cells of an image in pixels by the network's detections.

    The sizes of the training are tried first, from the largest, which is the fastest, then other sizes. If none is plausible the
    reference size is returned.

    Args:
        detect_fast: as in `detect_at_own_scale`.
        image: uint8 RGB (H, W, 3).
        reference: reference size in pixels; None: estimated from the dark regions of the image.
        sizes: as in `detect_at_own_scale`.
        first: a trial at the reference size that has been made already.
    """
    known = sorted(sizes or ([] if reference is None else [reference]), reverse=True)
    start = reference or estimate_cell_size(image)
    least = _min_size(_area(image), min(known, default=np.inf))
    trials = {} if first is None else {first.size: first}

    def trial(size: float) -> ScaleTrial:
        if size not in trials:
            crop = _central_crop(image, size)
            trials[size] = ScaleTrial(size, detect_fast(crop, size), _area(crop))
        return trials[size]

    for size in _sizes_to_try(known, start, least, min(image.shape[:2]) / 2):
        if trial(size).is_conclusive:
            return _refined(trial, size, known, least)
    plausible = [each for each in trials.values() if each.is_plausible and (each.size in known or each.has_enough_cells)]
    if not plausible:
        return start
    best = max(plausible, key=lambda each: each.evidence)
    good = [each for each in plausible if each.size in known and each.evidence >= KNOWN_PREFERENCE * best.evidence]
    return max(good, key=lambda each: each.evidence).size if good else _refined(trial, best.size, known, least)


def _sizes_to_try(known: Sequence[float], start: float, least: float, most: float) -> Iterator[float]:
    """Sizes of the training, then sizes in steps from `start`, each from the largest."""
    if len(known) > 1:  # otherwise cells larger than all sizes of the training would be taken for the largest of those
        yield known[0] * SCALE_STEP
    yield from known
    highest = math.floor(math.log(max(most, MIN_CELL_SIZE) / start, SCALE_STEP))
    lowest = math.ceil(math.log(max(least, MIN_CELL_SIZE) / start, SCALE_STEP))
    for step in range(max(highest, 1), lowest - 1, -1):
        size = start * SCALE_STEP**step
        if size not in known:
            yield size


def _refined(trial: Callable[[float], ScaleTrial], size: float, known: Sequence[float], least: float) -> float:
    """Move from an accepted size towards the predicted one as long as the new size is plausible too."""
    current = trial(size)
    for smaller in sorted((each for each in known if each < size), reverse=True) if size in known else []:
        if current.median >= CONVERGED[0] * current.size or (again := trial(smaller)).evidence < current.evidence:
            break
        current = again
    for _ in range(MAX_REFINEMENTS):
        if CONVERGED[0] <= current.median / current.size <= CONVERGED[1]:
            break
        again = trial(max(_nearest_known(current.corrected_size, known), least))
        needed = current.evidence / KNOWN_TOLERANCE if current.size in known else KNOWN_PREFERENCE * current.evidence
        if not again.is_plausible or again.evidence < needed:
            break
        current = again
    return current.size if current.size in known else max(current.median, least)


def _nearest_known(size: float, known: Sequence[float]) -> float:
    """The nearest size of the training if it is close to `size`, otherwise `size`: a laboratory's images share one magnification."""
    near = [each for each in known if CONVERGED[0] <= size / each <= CONVERGED[1]]
    return min(near, key=lambda each: abs(math.log(size / each)), default=size)


def annotated_cell_size(image: AnnotatedImage, reference: float, cells_xyxy: np.ndarray | None = None) -> float:
    """Cell size of an annotated image in pixels: the reference size, or the image's own median if that is clearly different.

    Args:
        image: the annotated image; with few boxes the reference size is used.
        reference: reference size, the longer side of a cell in the images of its data set in pixels.
        cells_xyxy: boxes that the size is measured on, see `AnnotationSet.sizing_cells`; None: all.
    """
    own = boxes.median_size(image.cells_xyxy if cells_xyxy is None else cells_xyxy)
    if own is None or _is_reference(own, [reference]):
        return reference
    return max(own, _min_size(math.prod(image.size_wh), reference))


def annotated_cell_sizes(annotations: AnnotationSet, reference: float) -> list[float]:
    """`annotated_cell_size` of each image, measured on the red cells if there are any.

    Args:
        annotations: of one or more data sets.
        reference: reference size in pixels; where there are several data sets, each has its own instead.
    """
    by_set = annotations.median_cell_sizes if annotations.is_of_several_sets else {}
    return [annotated_cell_size(p, by_set.get(p.data_set, reference), annotations.sizing_cells(p)) for p in annotations.images]


def unusual_cell_sizes(boxes_xyxy: Iterable[np.ndarray], reference: Sequence[float]) -> np.ndarray:
    """Median cell sizes, in pixels, of the images in which they differ clearly from every reference size.

    Args:
        boxes_xyxy: the boxes of each image, (n, 4); images with few boxes are left out.
        reference: reference sizes in pixels, one or one for each data set.
    """
    sizes = map(boxes.median_size, boxes_xyxy)
    return np.array([size for size in sizes if size is not None and not _is_reference(size, reference)])


def _central_crop(image: np.ndarray, size: float) -> np.ndarray:
    """The central part of an image that fills `FAST_PIXELS` pixels of the network's input."""
    height, width = image.shape[:2]
    most = FAST_PIXELS * (size / WORKING_CELL_SIZE) ** 2
    side = math.sqrt(most)
    rows = round(min(height, max(side, most / width)))
    columns = round(min(width, max(side, most / height)))
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[top : top + rows, left : left + columns]


def _area(image: np.ndarray) -> int:
    return image.shape[0] * image.shape[1]


def _min_size(pixels: int, reference: float) -> float:
    return min(reference / 2, WORKING_CELL_SIZE * math.sqrt(pixels / MAX_ENLARGED_PIXELS))


def _is_reference(size: float, reference: Sequence[float]) -> bool:
    return any(REFERENCE_RANGE[0] <= size / each <= REFERENCE_RANGE[1] for each in reference)
