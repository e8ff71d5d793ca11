"""Estimation of the cell size of an image, for images from another microscope or camera.

The learned proposal network finds cells of about the size that it was trained on, and almost none at twice or half that size. It also
predicts the size of each cell. At the right scale most of its detections are confident and have the expected size; at a wrong scale
it detects nuclei, clusters and parts of cells with low scores. The network is therefore run at several scales, and the scale at which
the expected and the predicted sizes agree is accepted.
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
# The next three values were measured by `benchmarks/cell_sizes.py` on the training parts of six laboratories, with networks that were
# trained on some of them. At the scale of the red cells nearly all images had a consistent fraction of at least 0.3 and at least five
# consistent detections. At scales wrong by a factor of two or more, up to 6 % of the images had them; with a network trained on one
# laboratory, up to 12 % of the images of another.
SIZE_TOLERANCE = 1.4  # ratio by which a predicted size may differ from the expected one and still be consistent with it
MIN_CONSISTENT = 0.3  # fraction of the detections, weighted by score and size, that must be consistent
MIN_CELLS = 5  # minimum number of consistent detections for a cell size of the training
CONCLUSIVE = (0.85, 1.2)  # ratio of the median predicted size to the expected one within which no other scale is tried
# Ratio of the median predicted size to the expected one within which the refinement stops. A size that is too large loses more cells
# than one that is too small.
CONVERGED = (0.93, 1.1)
SHRINKAGE_POWER = 1.5  # exponent that corrects predicted size ratios, which networks pull towards 1; 1.0 to 1.8 were measured
LOG_SIZE_SD = 0.25  # standard deviation of the logarithm of predicted sizes around the expected size, in the evidence for a scale
KNOWN_PREFERENCE = 0.9  # fraction of the best evidence from which a cell size of the training is preferred to any other
# Fraction of the evidence for a refined size from which the cell size of the training is kept. With 0.75, images of a laboratory whose
# cell size lies between two sizes of the training got the larger one (deepbionet left out: 1.37 times in a quarter of the images).
KNOWN_TOLERANCE = 0.9
SCALE_STEP = 1.35  # ratio of one trial size to the next
MIN_CELL_SIZE = 12.0  # pixels; smaller cells cannot be classified
MAX_REFINEMENTS = 3  # trials from an accepted size towards the median predicted size
FAST_PIXELS = 500_000  # pixels of the network's input in a trial, which uses the centre of the image: about 300 cells
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
        """Whether enough detections are consistent for a size that is not of the training; fewer may be the lobes of a leukocyte."""
        return bool(self._is_consistent.sum() >= boxes.ENOUGH)

    @cached_property
    def median(self) -> float:
        """Median predicted longer side of the consistent detections, in pixels; the assumed size where there are none."""
        relative = self._relative_sizes[self._is_consistent]
        return self.size * float(np.median(relative)) if len(relative) else self.size

    @property
    def corrected_size(self) -> float:
        """Median predicted size, corrected for the network's bias towards the assumed size."""
        return self.size * (self.median / self.size) ** SHRINKAGE_POWER

    @cached_property
    def is_conclusive(self) -> bool:
        """Whether the assumed size fits so well that no other size needs to be tried."""
        if not self.is_plausible or not self.has_enough_cells:
            return False
        middle = np.median(self._relative_sizes[self.detections[1] >= CONFIDENT])
        return bool(CONCLUSIVE[0] <= middle <= CONCLUSIVE[1])

    @cached_property
    def evidence(self) -> float:
        """Evidence for the assumed size: the sum over confident detections of size x score x closeness to the assumed size, per area.

        The first power of the size is used: a count would prefer the many specks of an enlarged image, an area the few leukocytes of a
        shrunken one.
        """
        near = np.exp(-0.5 * (np.log(self._relative_sizes) / LOG_SIZE_SD) ** 2)
        return float((self._weights * near)[self.detections[1] >= CONFIDENT].sum() * self.size / self.area)


def detect_at_own_scale(
    detect: Callable[[float], ScoredBoxes], detect_fast: Detect, image: np.ndarray, reference: float, sizes: Sequence[float] = ()
) -> ScoredBoxes:
    """Find the candidates in an image at the scale of its own cells if that is clearly better than the reference scale.

    Args:
        detect: from the longer side of a cell in pixels to boxes, float32 (n, 4), and proposal scores, float32 (n,).
        detect_fast: detection without test-time augmentation, from an image or crop and a cell size, for the estimation.
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
    """Estimate the longer side of the cells of an image in pixels from the network's detections.

    The sizes of the training are tried first, from the largest, which is the fastest, then other sizes. If none is plausible the
    reference size is returned.

    Args:
        detect_fast: as in `detect_at_own_scale`.
        image: uint8 RGB (H, W, 3).
        reference: reference size in pixels; None: estimated from the dark regions of the image.
        sizes: as in `detect_at_own_scale`.
        first: a trial at the reference size, if one has been made already.
    """
    known = sorted(sizes or ([] if reference is None else [reference]), reverse=True)
    start = reference or estimate_cell_size(image)
    min_size = _min_size(_area(image), min(known, default=np.inf))
    trials = {} if first is None else {first.size: first}

    def trial(size: float) -> ScaleTrial:
        if size not in trials:
            crop = _central_crop(image, size)
            trials[size] = ScaleTrial(size, detect_fast(crop, size), _area(crop))
        return trials[size]

    for size in _sizes_to_try(known, start, min_size, min(image.shape[:2]) / 2):
        if trial(size).is_conclusive:
            return _refined(trial, size, known, min_size)
    plausible = [t for t in trials.values() if t.is_plausible and (t.size in known or t.has_enough_cells)]
    if not plausible:
        return start
    best = max(plausible, key=lambda t: t.evidence)
    good = [t for t in plausible if t.size in known and t.evidence >= KNOWN_PREFERENCE * best.evidence]
    return max(good, key=lambda t: t.evidence).size if good else _refined(trial, best.size, known, min_size)


def _sizes_to_try(known: Sequence[float], start: float, min_size: float, max_size: float) -> Iterator[float]:
    """Yield the sizes of the training, then sizes in steps from `start`, both from the largest."""
    if len(known) > 1:  # otherwise the largest size of the training would be accepted for still larger cells
        yield known[0] * SCALE_STEP
    yield from known
    max_step = math.floor(math.log(max(max_size, MIN_CELL_SIZE) / start, SCALE_STEP))
    min_step = math.ceil(math.log(max(min_size, MIN_CELL_SIZE) / start, SCALE_STEP))
    for step in range(max(max_step, 1), min_step - 1, -1):
        size = start * SCALE_STEP**step
        if size not in known:
            yield size


def _refined(trial: Callable[[float], ScaleTrial], size: float, known: Sequence[float], min_size: float) -> float:
    """Move from an accepted size towards the predicted size as long as the new size is plausible too."""
    current = trial(size)
    for smaller in sorted((s for s in known if s < size), reverse=True) if size in known else []:
        if current.median >= CONVERGED[0] * current.size or (candidate := trial(smaller)).evidence < current.evidence:
            break
        current = candidate
    for _ in range(MAX_REFINEMENTS):
        if CONVERGED[0] <= current.median / current.size <= CONVERGED[1]:
            break
        candidate = trial(max(_nearest_known(current.corrected_size, known), min_size))
        needed = current.evidence / KNOWN_TOLERANCE if current.size in known else KNOWN_PREFERENCE * current.evidence
        if not candidate.is_plausible or candidate.evidence < needed:
            break
        current = candidate
    return current.size if current.size in known else max(current.median, min_size)


def _nearest_known(size: float, known: Sequence[float]) -> float:
    """The nearest size of the training if it is close to `size`, otherwise `size`: a laboratory's images share one magnification."""
    near = [s for s in known if CONVERGED[0] <= size / s <= CONVERGED[1]]
    return min(near, key=lambda s: abs(math.log(size / s)), default=size)


def annotated_cell_size(image: AnnotatedImage, reference: float, cells_xyxy: np.ndarray | None = None) -> float:
    """Cell size of an annotated image in pixels: the reference size, or the image's own median if that is clearly different.

    Args:
        image: the annotated image; with few boxes the reference size is used.
        reference: reference size, the longer side of a cell in the images of its data set in pixels.
        cells_xyxy: boxes that the size is measured on, see `AnnotationSet.sizing_cells`; None: all.
    """
    median = boxes.median_size(image.cells_xyxy if cells_xyxy is None else cells_xyxy)
    if median is None or _is_reference(median, [reference]):
        return reference
    return max(median, _min_size(math.prod(image.size_wh), reference))


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
    max_pixels = FAST_PIXELS * (size / WORKING_CELL_SIZE) ** 2
    side = math.sqrt(max_pixels)
    rows = round(min(height, max(side, max_pixels / width)))
    columns = round(min(width, max(side, max_pixels / height)))
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[top : top + rows, left : left + columns]


def _area(image: np.ndarray) -> int:
    return image.shape[0] * image.shape[1]


def _min_size(pixels: int, reference: float) -> float:
    """Smallest cell size to try: half the reference size, or less if the enlarged image has at most `MAX_ENLARGED_PIXELS`."""
    return min(reference / 2, WORKING_CELL_SIZE * math.sqrt(pixels / MAX_ENLARGED_PIXELS))


def _is_reference(size: float, reference: Sequence[float]) -> bool:
    return any(REFERENCE_RANGE[0] <= size / s <= REFERENCE_RANGE[1] for s in reference)
