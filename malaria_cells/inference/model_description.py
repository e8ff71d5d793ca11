"""Description of the networks in a model folder: the content of ``model.yaml``, which `model_yaml` reads and writes."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field

from malaria_cells.data.labels import LabelSet
from malaria_cells.data.stain import Normalization
from malaria_cells.inference.calibration import Calibration
from malaria_cells.inference.classifier import Network
from malaria_cells.inference.decision import DetectionSettings
from malaria_cells.inference.error_rates import ErrorRates
from malaria_cells.inference.familiarity import FamiliarityModel
from malaria_cells.inference.screening import Screening
from malaria_cells.inference.suppression import NestedBoxes
from malaria_cells.inference.tta import Refinement
from malaria_cells.inference.unfamiliar import UnfamiliarSigmoid
from malaria_cells.proposals import Margins, ProposalSettings

CLASSIFIER = "classifier.keras"
ONE_STAGE = "detector.keras"
ABOUT = "model.yaml"
Positive = Annotated[float, Field(gt=0)]
CellSize = Annotated[float, Field(ge=1)]  # pixels
Pixels = Annotated[int, Field(gt=0, le=4096)]


@dataclass(frozen=True)
class InferenceSettings:
    """Values that were tuned together with the networks, and that trainings do not choose.

    Attributes:
        refinement: which patches are refined.
        nested_boxes: what happens to the scores of nested boxes.
        proposals: candidates and cell size of the learned proposals.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    refinement: Refinement = field(default=Refinement())
    nested_boxes: NestedBoxes = field(default=NestedBoxes())
    proposals: ProposalSettings = field(default=ProposalSettings())


@dataclass(frozen=True)
class ModelDescription:
    """The content of ``model.yaml`` except for library versions, the golden output and checksums.

    Attributes:
        labels: the classes.
        model: name of the architecture.
        has_background: whether the network has a background class after the labels.
        image_size_hw: height and width of the classifier's input in pixels.
        context: side of the square that is cropped around a box, as a multiple of the box's longer side.
        cell_size: median longer side of a cell in the training images in pixels; None if they had no boxes.
        proposals: proposal method.
        box_margins: box offsets of the proposer, see `proposals.Proposer`.
        settings: thresholds and options of the decision.
        calibration: calibration of the probabilities.
        fingerprints: hashes of data and config, by name.
        seed: `random_state` of the training.
        detector: ``two_stage``, or a kind of `models.one_stage`; the input size of the latter is `image_size_hw`.
        errors: error rates on the validation images, or None.
        scan: `runs` and `scan` of the test-time augmentation of whole images, or None.
        proposer_tta: number of mirrored views that the learned proposals are averaged over, 1, 2 or 4.
        refiner: name of the refiner's architecture, or None.
        refiner_size_hw: height and width of the refiner's input in pixels; None: as the classifier's.
        stain: normalization of an image before any network, see `stain`.
        cell_sizes: `cell_size` of each data set by its name, if the model was trained on several.
        adapted_from: `name` and `fingerprint` of the model from which the training started, or None.
        errors_elsewhere: error rates on each data set, measured by a training that left the data set out; or None.
        familiarity: appearance of the training images, or None.
        unfamiliar: from evidence to the probability of infection on images unlike all training images with infected cells, measured by
            trainings that left data sets out; or None.
        terms: terms of use of the weights; None: unspecified.
        refiner_file: name of the refiner's file, which differs in older folders.
        inference: tuned values of refinement, nested boxes and proposals.
        screening: which candidates are not classified, as the network of the learned proposals has a screening head; None: none.
    """

    labels: LabelSet
    model: str
    has_background: bool
    image_size_hw: tuple[Pixels, Pixels]
    context: Positive
    cell_size: CellSize | None
    proposals: str
    box_margins: dict[str, Margins]
    settings: DetectionSettings
    calibration: Calibration
    fingerprints: dict[str, str]
    seed: int
    scan: dict[str, int] | None = None
    errors: ErrorRates | None = None
    detector: Literal["two_stage", "yolo", "retinanet"] = "two_stage"
    proposer_tta: Literal[1, 2, 4] = 1
    refiner: str | None = None
    refiner_size_hw: tuple[Pixels, Pixels] | None = None
    stain: Normalization = "none"
    cell_sizes: dict[str, CellSize] = field(default_factory=dict)
    adapted_from: dict[str, str] | None = None
    errors_elsewhere: dict[str, ErrorRates] | None = None
    familiarity: FamiliarityModel | None = None
    unfamiliar: UnfamiliarSigmoid | None = None
    terms: str | None = None
    refiner_file: Literal["refiner.keras", "second_look.keras"] = "refiner.keras"
    inference: InferenceSettings = field(default=InferenceSettings())
    screening: Screening | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the main networks' files."""
        if self.detector != "two_stage":
            return (ONE_STAGE,)
        return (CLASSIFIER, self.refiner_file) if self.refiner else (CLASSIFIER,)


def file_fingerprint(text: str) -> str:
    """Short hash of a text."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def golden_output(networks: Sequence[Network], description: ModelDescription) -> np.ndarray:
    """Mean output of the networks on four fixed patches or, of a one-stage detector, in four grid cells of one image: float32 (4, k)."""
    sizes_hw = [description.image_size_hw, description.refiner_size_hw or description.image_size_hw]
    n_images = 4 if description.detector == "two_stage" else 1
    outputs = [network(golden_pixels((n_images, *size_hw, 3))) for network, size_hw in zip(networks, sizes_hw, strict=False)]
    if description.detector == "two_stage":
        return np.mean(outputs, axis=0)
    grid = outputs[0][0]
    return grid[:: len(grid) // 4][:4]


def golden_pixels(shape: tuple[int, ...]) -> np.ndarray:
    """The fixed pixels of `golden_output`, uint8: the bytes of PCG64's first integers, which NumPy promises never to change.

    Examples:
        >>> golden_pixels((2, 3)).tolist()
        [[95, 130, 194], [217, 207, 235]]
    """
    integers = np.random.PCG64(0).random_raw(-(-math.prod(shape) // 8))
    return integers.astype("<u8").view(np.uint8)[: math.prod(shape)].reshape(shape)


def plain(value: Any) -> Any:
    """Convert tuples to lists and NumPy scalars to Python numbers, for YAML and JSON."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
