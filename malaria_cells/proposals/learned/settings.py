"""Settings of the learned proposals: what counts as a candidate, and how the cell size of an image is told from the candidates."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
AtLeastOne = Annotated[float, Field(ge=1, le=10)]
Range = tuple[PositiveFraction, AtLeastOne]  # lowest and highest ratio, with 1 between them


@dataclass(frozen=True)
class ProposalSettings:
    """Tuned values of the learned proposals, which belong to the network that they were tuned with.

    `size_tolerance`, `min_consistent` and `min_cells` were measured by `benchmarks/cell_sizes.py` on the training parts of six
    laboratories, with networks that were trained on some of them. At the scale of the red cells nearly all images had a consistent
    fraction of at least 0.3 and at least five consistent detections. At scales wrong by a factor of two or more, up to 6 % of the images
    had them; with a network trained on one laboratory, up to 12 % of the images of another.

    Attributes:
        min_score: minimum proposal score of a candidate. On IML-Malaria's validation part 0.1 finds 98.7 % of the cells with 139
            candidates per image, 0.2 finds 98.5 % with 123, 0.05 finds 98.8 % with 177.
        confident: proposal score from which a detection counts in the estimation of the cell size.
        reference_range: ratio of a median cell size to the reference size within which the two are taken for the same. The median cell
            of an IML-Malaria image is annotated as 0.87 to 1.20 of the reference size.
        conclusive: ratio of the median predicted size to the expected one within which no other scale is tried.
        size_tolerance: ratio by which a predicted size may differ from the expected one and still be consistent with it.
        min_consistent: fraction of the detections, weighted by score and size, that must be consistent.
        min_cells: minimum number of consistent detections for a cell size of the training.
        shrinkage_power: exponent that corrects predicted size ratios, which networks pull towards 1; 1.0 to 1.8 were measured.
        log_size_sd: standard deviation of the logarithm of predicted sizes around the expected size, in the evidence for a scale.
        known_preference: fraction of the best evidence from which a cell size of the training is preferred to any other.
        known_tolerance: fraction of the evidence for a refined size from which the cell size of the training is kept. With 0.75, images
            of a laboratory whose cell size lies between two sizes of the training got the larger one (deepbionet left out: 1.37 times in
            a quarter of the images).
        scale_step: ratio of one trial size to the next.
        converged: ratio of the median predicted size to the expected one within which the refinement stops. A size that is too large
            loses more cells than one that is too small.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    min_score: Annotated[float, Field(ge=0.01, le=1)] = 0.1  # with less, nearly every place of the grid would be a candidate
    confident: Fraction = 0.4
    reference_range: Range = (0.8, 1.3)
    conclusive: Range = (0.85, 1.2)
    size_tolerance: Annotated[float, Field(gt=1, le=10)] = 1.4
    min_consistent: Fraction = 0.3
    min_cells: Annotated[int, Field(ge=1, le=1000)] = 5
    shrinkage_power: Annotated[float, Field(gt=0, le=5)] = 1.5
    log_size_sd: Annotated[float, Field(ge=0.01, le=10)] = 0.25
    known_preference: PositiveFraction = 0.9
    known_tolerance: PositiveFraction = 0.9
    scale_step: Annotated[float, Field(ge=1.05, le=10)] = 1.35  # with less, the trials of an image would take minutes
    converged: Range = (0.93, 1.1)
