"""What an adaptation to a few images begins with and ends in."""

from dataclasses import dataclass

from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.training.budget import Budget
from malaria_cells.training.training_result import TrainingResult

PART = "cross-validation"  # name of its scored part


@dataclass(frozen=True)
class AdaptationImages:
    """The images of an adaptation.

    Attributes:
        annotated: the images to adapt to.
        test: the data set's own test part, which is not used; or None.
        old: training images of the start model; may be empty.
    """

    annotated: AnnotationSet
    test: AnnotationSet | None
    old: AnnotationSet


@dataclass(frozen=True)
class Adapted:
    """A new model, beside its files.

    Attributes:
        result: what a report is made of.
        before: the start model's figures on the images; None if it has labels that the new model lacks.
        after: figures of networks that were not trained on the image in question.
        messages: what stays the start model's because there are too few cells.
        budget: steps and time.
    """

    result: TrainingResult
    before: dict[str, float | None] | None
    after: dict[str, float | None]
    messages: list[str]
    budget: Budget
