"""A trained network with everything that turns patches into calibrated class probabilities."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from malaria_cells.base.tensorflow_setup import UNSCALED, InputRange, to_inference_function
from malaria_cells.data.labels import BACKGROUND, LabelSet
from malaria_cells.data.patches import resize
from malaria_cells.inference.calibration import Calibration
from malaria_cells.inference.tta import averaged, needs_refinement

Network = Callable[[np.ndarray], np.ndarray]
# From rows of patches, int64 (n,), to the same cells in the size of the second classifier, uint8 (n, h, w, 3).
CropForRefiner = Callable[[np.ndarray], np.ndarray]

BATCH = 256  # patches a call: larger ones gained nothing on two cores and take memory


@dataclass(frozen=True)
class PatchClassifier:
    """Patches in, probabilities out.

    Attributes:
        labels: the classes.
        has_background: whether there is one more class after the labels: background.
        image_size_hw: height and width of its input in pixels.
        context: side of the square to cut around a box, as a multiple of the box's longer side.
        calibration: applied to the network's output.
        network: from uint8 or float patches (n, H, W, 3) to its raw output, (n, c) or (n, 1) for one sigmoid unit.
        refiner: a network of the same kind that is asked about what is uncertain to the first (`tta.needs_refinement`), or None.
        refiner_size_hw: of its input; None: as the first's.
    """

    labels: LabelSet
    has_background: bool
    image_size_hw: tuple[int, int]
    context: float
    calibration: Calibration
    network: Network
    refiner: Network | None = None
    refiner_size_hw: tuple[int, int] | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the probability columns."""
        return (*self.labels.names, BACKGROUND) if self.has_background else self.labels.names

    def __call__(self, patches: np.ndarray, views: int = 1, crop_for_refiner: CropForRefiner | None = None) -> np.ndarray:
        """Calibrated probabilities.

        Args:
            patches: uint8 (n, H, W, 3), n may be 0.
            views: views averaged for each patch that is uncertain, 1 to 8 (see `tta`).
            crop_for_refiner: cuts what is uncertain again, in the size of the refiner; None: the patches are resized to it.

        Returns:
            float32 (n, n_classes), rows sum to 1.
        """
        if len(patches) == 0:
            return np.zeros((0, len(self.class_names)), dtype=np.float32)
        is_infected = infected_classes(self.labels, len(self.class_names))
        if crop_for_refiner is None and self.refiner_size_hw is not None:
            crop_for_refiner = partial(_resized, patches, self.refiner_size_hw)
        return self.calibration(raw_probabilities(self.network, self.refiner, patches, views, is_infected, crop_for_refiner))

    def closest(self, patches: np.ndarray, views: int) -> np.ndarray:
        """What the refiner, or the only one, gives for patches of its size, not calibrated: float32 (n, n_classes).

        Args:
            patches: uint8 (n, H, W, 3), n may be 0.
            views: averaged for each patch, 1 to 8 (see `tta`).
        """
        if len(patches) == 0:
            return np.zeros((0, len(self.class_names)), dtype=np.float32)
        return np.array(averaged(partial(_in_batches, self.refiner or self.network), patches, views))


def _resized(patches: np.ndarray, size_hw: tuple[int, int], rows: np.ndarray) -> np.ndarray:
    return np.stack([resize(patch, size_hw) for patch in patches[rows]])


def raw_probabilities(
    network: Network,
    refiner: Network | None,
    patches: np.ndarray,
    views: int,
    is_infected: np.ndarray,
    crop_for_refiner: CropForRefiner | None = None,
) -> np.ndarray:
    """Class probabilities as networks give them, not calibrated: float32 (n, n_classes).

    Args:
        network: see `PatchClassifier`.
        refiner: likewise.
        patches: uint8 (n, H, W, 3), n at least 1.
        views: averaged for each patch that is uncertain.
        is_infected: bool (n_classes,), see `tta.needs_refinement`.
        crop_for_refiner: see `PatchClassifier.__call__`; None: the refiner is shown the patches themselves.
    """
    found = _in_batches(network, patches)
    again = np.flatnonzero(needs_refinement(found, is_infected))
    if len(again) and (views > 1 or refiner is not None):
        answers = [averaged(partial(_in_batches, network), patches[again], views)]
        if refiner is not None:
            answers.append(
                averaged(partial(_in_batches, refiner), patches[again] if crop_for_refiner is None else crop_for_refiner(again), views)
            )
        found = np.array(found)
        found[again] = np.mean(answers, axis=0)
    return found


def _in_batches(network: Network, patches: np.ndarray) -> np.ndarray:
    outputs = [network(patches[i : i + BATCH]) for i in range(0, len(patches), BATCH)]
    return both_classes(np.concatenate(outputs))


def infected_classes(labels: LabelSet, n_classes: int) -> np.ndarray:
    """Which of a network's classes are infected: bool (n_classes,)."""
    return np.pad(labels.is_infected, (0, n_classes - len(labels)))


def both_classes(output: np.ndarray) -> np.ndarray:
    """Turn one sigmoid unit's output (n, 1) into two columns; leave softmax (n, c) as it is."""
    return np.concatenate([1 - output, output], axis=1) if output.shape[1] == 1 else output


def inference_function(model, scaled: InputRange = UNSCALED, is_logits: bool = False) -> Callable[[np.ndarray], np.ndarray]:  # type: ignore[no-untyped-def]
    """Wrap a Keras model as one graph with a free batch size (see `engine.to_inference_function`).

    Args:
        model: a Keras model.
        scaled: what is done to pixels before, for models that leave the scaling to their user.
        is_logits: whether it gives logits, which become probabilities.
    """
    return to_inference_function(model, (None, *model.input_shape[1:3], 3), scaled, is_logits)
