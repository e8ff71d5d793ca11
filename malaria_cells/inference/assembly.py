"""Puts detectors together from a model's description and its networks in use."""

from typing import Any

from malaria_cells.base.tensorflow_setup import to_inference_function
from malaria_cells.inference.classifier import Cascade, Network, PatchClassifier
from malaria_cells.inference.model_description import ModelDescription
from malaria_cells.inference.one_stage_detector import OneStageDetector
from malaria_cells.inference.two_stage_detector import TwoStageDetector
from malaria_cells.proposals import CentreNetwork, Proposer


def assemble_one_stage(description: ModelDescription, network: Network) -> OneStageDetector:
    """Build a one-stage detector from a description and a network (see `OneStageDetector.network`)."""
    return OneStageDetector(network, description.image_size_hw, description.labels, **_shared(description))


def assemble(description: ModelDescription, cascade: Cascade, centres: CentreNetwork | None = None) -> TwoStageDetector:
    """Build a two-stage detector from a description, its classifiers, and any network of learned proposals."""
    classifier = PatchClassifier(
        description.labels,
        description.has_background,
        description.image_size_hw,
        description.context,
        description.calibration,
        cascade,
    )
    proposer = Proposer(
        description.proposals,
        description.cell_size,
        description.box_margins,
        centres,
        description.proposer_tta,
        cell_sizes=tuple(description.cell_sizes.values()),
        settings=description.inference.proposals,
    )
    return TwoStageDetector(proposer, classifier, description.stain, description.unfamiliar, description.screening, **_shared(description))


def _shared(description: ModelDescription) -> dict[str, Any]:
    """The arguments that both kinds of detectors take from a description."""
    return {
        "settings": description.settings,
        "errors": description.errors,
        "errors_elsewhere": description.errors_elsewhere,
        "known": description.familiarity,
        "measured_cell_size": description.cell_size,
        "nested_boxes": description.inference.nested_boxes,
    }


def proposal_inference_function(model: Any) -> CentreNetwork:
    """Compile the Keras model of the learned proposals into one graph for images of any size."""
    return to_inference_function(model, (1, None, None, 3))
