"""Estimation of the cell size of an image, for images from another microscope or camera.

The learned proposal network finds cells of about the size that it was trained on, and almost none at twice or half that size. It also
predicts the size of each cell. At the right scale most of its detections are confident and have the expected size; at a wrong scale
it detects nuclei, clusters and parts of cells with low scores. The network is therefore run at several scales, and the scale at which
the expected and the predicted sizes agree is accepted.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from malaria_cells.data.boxes import WORKING_CELL_SIZE
from malaria_cells.proposals.learned.prediction import ScoredBoxes
from malaria_cells.proposals.learned.scale_trial import ScaleTrial
from malaria_cells.proposals.learned.settings import ProposalSettings, Range
from malaria_cells.proposals.watershed import estimate_cell_size

Detect = Callable[[np.ndarray, float], ScoredBoxes]

MIN_CELL_SIZE = 12.0  # pixels; smaller cells cannot be classified
SAME_SIZE = 0.97  # ratio of two sizes of the training from which one trial serves both: a median of a hundred boxes is no more exact
MAX_REFINEMENTS = 3  # trials from an accepted size towards the median predicted size
FAST_PIXELS = 500_000  # pixels of the network's input in a trial, which uses the centre of the image: about 300 cells
MAX_ENLARGED_PIXELS = 30_000_000  # pixels of an enlarged image: one or two seconds of inference


def detect_at_own_scale(
    detect: Callable[[float], ScoredBoxes],
    detect_fast: Detect,
    image: np.ndarray,
    settings: ProposalSettings,
    reference: float,
    sizes: Sequence[float] = (),
) -> ScoredBoxes:
    """Find the candidates in an image at the scale of its own cells if that is clearly better than the reference scale.

    Args:
        detect: from the longer side of a cell in pixels to candidates.
        detect_fast: detection without test-time augmentation, from an image or crop and a cell size, for the estimation.
        image: uint8 RGB (H, W, 3).
        settings: those of the model.
        reference: reference size, the longer side of a cell in the training images in pixels.
        sizes: reference sizes of the data sets of the training, if there were several.

    Returns:
        Candidates, as `detect` returns them.
    """
    if len(sizes) > 1:
        return detect(estimate_scale(detect_fast, image, settings, reference, sizes))
    detections = detect(reference)
    first = ScaleTrial(reference, detections, _area(image), settings)
    if first.is_conclusive:
        return detections
    size = estimate_scale(detect_fast, image, settings, reference, first=first)
    return detections if size == reference else detect(size)


def own_scale(detect_fast: Detect, part: np.ndarray, settings: ProposalSettings, reference: float | None, sizes: Sequence[float]) -> float:
    """Cell size at which `detect_at_own_scale` would search an image, by a part of it; see there for the arguments."""
    if reference is None or len(sizes) > 1:
        return estimate_scale(detect_fast, part, settings, reference, sizes)
    first = ScaleTrial(reference, detect_fast(part, reference), _area(part), settings)
    return reference if first.is_conclusive else estimate_scale(detect_fast, part, settings, reference, first=first)


def estimate_scale(
    detect_fast: Detect,
    image: np.ndarray,
    settings: ProposalSettings,
    reference: float | None = None,
    sizes: Sequence[float] = (),
    first: ScaleTrial | None = None,
) -> float:
    """Estimate the longer side of the cells of an image in pixels from the network's detections.

    The sizes of the training are tried first, from the largest, which is the fastest, then other sizes. If none is plausible the
    reference size is returned.

    Args:
        detect_fast: as in `detect_at_own_scale`.
        image: uint8 RGB (H, W, 3).
        settings: those of the model.
        reference: reference size in pixels; None: estimated from the dark regions of the image.
        sizes: as in `detect_at_own_scale`.
        first: a trial at the reference size, if one has been made already.
    """
    known = _distinct(sizes or ([] if reference is None else [reference]))
    start, min_size = reference or estimate_cell_size(image), min_size_of(_area(image), min(known, default=np.inf))
    trials = {} if first is None else {first.size: first}

    def trial(size: float) -> ScaleTrial:
        if size not in trials:
            crop = _central_crop(image, size)
            trials[size] = ScaleTrial(size, detect_fast(crop, size), _area(crop), settings)
        return trials[size]

    for size in _sizes_to_try(known, start, (min_size, min(image.shape[:2]) / 2), settings.scale_step):
        if trial(size).is_conclusive:
            return _refined(trial, size, known, min_size)
    plausible = [t for t in trials.values() if t.is_plausible and (t.size in known or t.has_enough_cells)]
    if not plausible:
        return start
    best = max(plausible, key=lambda t: t.evidence)
    good = [t for t in plausible if t.size in known and t.evidence >= settings.known_preference * best.evidence]
    return max(good, key=lambda t: t.evidence).size if good else _refined(trial, best.size, known, min_size)


def _distinct(sizes: Sequence[float]) -> list[float]:
    """The sizes from the largest, without those that are nearly as large as another."""
    distinct: list[float] = []
    for size in sorted(sizes, reverse=True):
        distinct += [size] if not distinct or size < SAME_SIZE * distinct[-1] else []
    return distinct


def _sizes_to_try(known: Sequence[float], start: float, limits: tuple[float, float], scale_step: float) -> Iterator[float]:
    """Yield the sizes of the training, then sizes in steps from `start` within limits, both from the largest."""
    min_size, max_size = (max(size, MIN_CELL_SIZE) for size in limits)
    if len(known) > 1:  # otherwise the largest size of the training would be accepted for still larger cells
        yield known[0] * scale_step
    yield from known
    max_step, min_step = math.floor(math.log(max_size / start, scale_step)), math.ceil(math.log(min_size / start, scale_step))
    for step in range(max(max_step, 1), min_step - 1, -1):
        size = start * scale_step**step
        if size not in known:
            yield size


def _refined(trial: Callable[[float], ScaleTrial], size: float, known: Sequence[float], min_size: float) -> float:
    """Move from an accepted size towards the predicted size as long as the new size is plausible too."""
    current = trial(size)
    settings = current.settings
    low, high = settings.converged
    for smaller in sorted((s for s in known if s < size), reverse=True) if size in known else []:
        if current.median >= low * current.size or (candidate := trial(smaller)).evidence < current.evidence:
            break
        current = candidate
    for _ in range(MAX_REFINEMENTS):
        if low <= current.median / current.size <= high:
            break
        candidate = trial(max(_nearest_known(current.corrected_size, known, settings.converged), min_size))
        needed = current.evidence / settings.known_tolerance if current.size in known else settings.known_preference * current.evidence
        if not candidate.is_plausible or candidate.evidence < needed:
            break
        current = candidate
    return current.size if current.size in known else max(current.median, min_size)


def _nearest_known(size: float, known: Sequence[float], near: Range) -> float:
    """The nearest size of the training if it is close to `size`, otherwise `size`: a laboratory's images share one magnification."""
    candidates = [s for s in known if near[0] <= size / s <= near[1]]
    return min(candidates, key=lambda s: abs(math.log(size / s)), default=size)


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


def min_size_of(pixels: int, reference: float) -> float:
    """Smallest cell size to try in an image with this number of pixels.

    It is half the reference size, or less if the enlarged image has at most `MAX_ENLARGED_PIXELS`.
    """
    return min(reference / 2, WORKING_CELL_SIZE * math.sqrt(pixels / MAX_ENLARGED_PIXELS))
