"""Patch classifier: from patches to calibrated class probabilities by one or two networks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from malaria_cells.base.tensorflow_setup import UNSCALED, InputRange, to_inference_function
from malaria_cells.data.labels import BACKGROUND, LabelSet
from malaria_cells.data.patches import resize
from malaria_cells.inference.calibration import Calibration
from malaria_cells.inference.tta import Refinement, averaged

Network = Callable[[np.ndarray], np.ndarray]
# From indices of patches, int64 (n,), to crops of the same cells in the refiner's input size, uint8 (n, h, w, 3).
CropForRefiner = Callable[[np.ndarray], np.ndarray]

BATCH = 256  # patches per call of a network; larger batches were no faster on two cores


@dataclass(frozen=True)
class Cascade:
    """The network that classifies all patches, and a second one, if there is one, that refines the uncertain ones.

    Attributes:
        network: from uint8 or float patches (n, H, W, 3) to probabilities, (n, c), or (n, 1) for one sigmoid unit.
        refiner: second-stage classifier of the patches that are uncertain after the first, or None.
        refiner_size_hw: height and width of the refiner's input in pixels; None: as the first network's.
        refinement: which patches are uncertain.
    """

    network: Network
    refiner: Network | None = None
    refiner_size_hw: tuple[int, int] | None = field(default=None, kw_only=True)
    refinement: Refinement = field(default=Refinement(), kw_only=True)

    def raw_probabilities(
        self, patches: np.ndarray, views: int, is_infected: np.ndarray, crop_for_refiner: CropForRefiner | None = None
    ) -> np.ndarray:
        """Uncalibrated class probabilities: float32 (n, n_classes).

        Args:
            patches: uint8 (n, H, W, 3), n at least 1.
            views: number of views averaged for each uncertain patch.
            is_infected: bool (n_classes,), see `tta.Refinement.needed`.
            crop_for_refiner: see `PatchClassifier.__call__`; None: the refiner is given the patches themselves.
        """
        probabilities = _in_batches(self.network, patches)
        uncertain = np.flatnonzero(self.refinement.needed(probabilities, is_infected))
        if len(uncertain) and (views > 1 or self.refiner is not None):
            crops = patches[uncertain] if crop_for_refiner is None or self.refiner is None else crop_for_refiner(uncertain)
            probabilities = np.array(probabilities)
            probabilities[uncertain] = self._refined(probabilities[uncertain], patches[uncertain], crops, views, is_infected)
        return probabilities

    def _refined(self, first: np.ndarray, patches: np.ndarray, crops: np.ndarray, views: int, is_infected: np.ndarray) -> np.ndarray:
        """Mean of both networks' probabilities, in several views where one leaves an infection possible: float32 (n, n_classes).

        Args:
            first: the first network's probabilities for the patches, float (n, n_classes).
            patches: uint8 (n, H, W, 3), for the first network.
            crops: uint8 (n, h, w, 3), the same cells for the refiner.
            views: number of views.
            is_infected: bool (n_classes,).
        """
        seen = [(self.network, patches, first)]
        if self.refiner is not None:
            seen.append((self.refiner, crops, _in_batches(self.refiner, crops)))
        refined = np.mean([output for _, _, output in seen], axis=0)
        rows = np.flatnonzero(self.refinement.undecided(refined, is_infected))
        if views > 1 and len(rows):
            outputs = [averaged(partial(_in_batches, network), given[rows], views, output[rows]) for network, given, output in seen]
            refined[rows] = np.mean(outputs, axis=0)
        return refined

    def closest(self, patches: np.ndarray, views: int, first: np.ndarray | None = None) -> np.ndarray:
        """Uncalibrated probabilities by the refiner or, if there is none, by the only network: float32 (n, n_classes).

        Args:
            patches: uint8 (n, H, W, 3) in that network's input size, n at least 1.
            views: number of views averaged for each patch, 1 to 8 (see `tta`).
            first: what this method gave for one view, if that is known.
        """
        return averaged(partial(_in_batches, self.refiner or self.network), patches, views, first)


@dataclass(frozen=True)
class PatchClassifier:
    """Classifier of patches by one or two networks.

    Attributes:
        labels: the classes.
        has_background: whether the networks have a background class after the labels.
        image_size_hw: height and width of the first network's input in pixels.
        context: side of the square that is cropped around a box, as a multiple of the box's longer side.
        calibration: applied to the networks' mean output.
        cascade: the networks.
    """

    labels: LabelSet
    has_background: bool
    image_size_hw: tuple[int, int]
    context: float
    calibration: Calibration
    cascade: Cascade

    @property
    def refiner_size_hw(self) -> tuple[int, int] | None:
        """Height and width of the refiner's input in pixels; None: as `image_size_hw`."""
        return self.cascade.refiner_size_hw

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the probability columns."""
        return (*self.labels.names, BACKGROUND) if self.has_background else self.labels.names

    def __call__(self, patches: np.ndarray, views: int = 1, crop_for_refiner: CropForRefiner | None = None) -> np.ndarray:
        """Calibrated probabilities.

        Args:
            patches: uint8 (n, H, W, 3), n may be 0.
            views: number of views averaged for each uncertain patch, 1 to 8 (see `tta`).
            crop_for_refiner: crops the uncertain cells again, in the refiner's input size; None: the patches are resized to it.

        Returns:
            float32 (n, n_classes), rows sum to 1.
        """
        if len(patches) == 0:
            return np.zeros((0, len(self.class_names)), dtype=np.float32)
        is_infected = infected_classes(self.labels, len(self.class_names))
        if crop_for_refiner is None and self.refiner_size_hw is not None:
            crop_for_refiner = partial(_resized, patches, self.refiner_size_hw)
        return self.calibration(self.cascade.raw_probabilities(patches, views, is_infected, crop_for_refiner))

    def closest(self, patches: np.ndarray, views: int, first: np.ndarray | None = None) -> np.ndarray:
        """Uncalibrated probabilities by the refiner or, if there is none, by the only network: float32 (n, n_classes).

        Args:
            patches: uint8 (n, H, W, 3) in that network's input size, n may be 0.
            views: number of views averaged for each patch, 1 to 8 (see `tta`).
            first: what this method gave for one view, if that is known.
        """
        if len(patches) == 0:
            return np.zeros((0, len(self.class_names)), dtype=np.float32)
        return self.cascade.closest(patches, views, first)


def _resized(patches: np.ndarray, size_hw: tuple[int, int], rows: np.ndarray) -> np.ndarray:
    return np.stack([resize(patch, size_hw) for patch in patches[rows]])


def _in_batches(network: Network, patches: np.ndarray) -> np.ndarray:
    outputs = [network(patches[i : i + BATCH]) for i in range(0, len(patches), BATCH)]
    return both_classes(np.concatenate(outputs))


def infected_classes(labels: LabelSet, n_classes: int) -> np.ndarray:
    """Which of a network's classes are infected: bool (n_classes,)."""
    return np.pad(labels.is_infected, (0, n_classes - len(labels)))


def both_classes(output: np.ndarray) -> np.ndarray:
    """Two columns of probabilities for the output of one sigmoid unit, (n, 1); the output itself for a softmax, (n, c)."""
    return np.concatenate([1 - output, output], axis=1) if output.shape[1] == 1 else output


def inference_function(model: Any, scaled: InputRange = UNSCALED, is_logits: bool = False) -> Network:
    """Compile a Keras model into one graph with a free batch size (see `tensorflow_setup.to_inference_function`).

    Args:
        model: a Keras model.
        scaled: scaling of pixels before the model, for models that do not scale their input.
        is_logits: whether the model returns logits, which are then converted to probabilities.
    """
    return to_inference_function(model, (None, *model.input_shape[1:3], 3), scaled, is_logits)
