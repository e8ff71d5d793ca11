"""Where a classifier looks: Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391), place by place.

The paper weighs the last convolution's maps by gradients averaged over the patch. Here that layer has four places a side,
and its answer was beside the parasite; earlier layers want each place weighed by its own gradient, as LayerCAM does (Jiang
et al. 2021, IEEE Transactions on Image Processing 30, equations 5 and 6). On IML-Malaria's rings that is where a grey square
laid on the cell changes the answer most, which the tests hold it to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.patches import resize
from malaria_cells.data.stain import Normalization, Stain, with_stain
from malaria_cells.inference.model_description import CLASSIFIER, load_description
from malaria_cells.inference.model_folder import load_network

FEWEST_PLACES = 16  # a side, of the last layer that is taken: a ring's dot has a twentieth of its cell's diameter
MOST_COLOURS = 4  # tensors of more channels are maps, not images
STRENGTH = 0.65  # opacity of the hottest place of an overlay


class GradCam:
    """Grad-CAM of one classifier.

    Args:
        model: a Keras classifier from pixels (b, H, W, 3) in 0..255 to probabilities.

    Raises:
        InputError: a model without a convolution, or whose last layer is not dense.
    """

    def __init__(self, model: Any):
        import keras

        last = model.layers[-1]
        # What layers are given, not what they give: a nested backbone's own output belongs to another graph.
        tensors = [tensor for layer in model.layers[1:] for tensor in keras.tree.flatten(layer.input)]
        maps = [tensor for tensor in tensors if len(tensor.shape) == 4 and tensor.shape[-1] > MOST_COLOURS]
        if not maps or not isinstance(last, keras.layers.Dense):
            raise InputError(f"--explain: {model.name}: Grad-CAM needs convolutions and a dense last layer, which this model has not")
        chosen = next((tensor for tensor in reversed(maps) if min(tensor.shape[1:3]) >= FEWEST_PLACES), maps[-1])
        self._network = keras.Model(model.inputs, [chosen, last.input])
        self._last = last

    def __call__(self, patches: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
        """What speaks for a class, by place.

        Args:
            patches: uint8 (n, H, W, 3).
            class_ids: int (n,), the class of each that is asked about.

        Returns:
            float32 (n, H, W), 0 to 1, the largest of each patch being 1, or all 0 where nothing speaks for the class.
        """
        import tensorflow as tf

        pixels = tf.constant(patches, dtype=tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            maps, features = self._network(pixels, training=False)
            logits = tf.matmul(tf.cast(features, tf.float32), self._last.kernel)
            if self._last.use_bias:
                logits += self._last.bias
            if logits.shape[1] == 1:  # one sigmoid unit: of class 1, and against it of class 0
                logits = tf.concat([-logits, logits], axis=1)
            score = tf.reduce_sum(tf.gather(logits, class_ids, axis=1, batch_dims=1))
        heat = tf.nn.relu(tf.reduce_sum(tf.nn.relu(tape.gradient(score, maps)) * maps, axis=-1)).numpy()
        heat = heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-9)
        size_wh = patches.shape[2], patches.shape[1]
        return np.stack([cv2.resize(h, size_wh, interpolation=cv2.INTER_CUBIC).clip(0, 1) for h in heat]).astype(np.float32)


def overlay(patch: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay heat (H, W), 0 to 1, on a patch of any size: uint8 RGB as the patch; cold places stay as they are."""
    height, width = patch.shape[:2]
    heat = cv2.resize(heat, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    opacity = heat[..., None] * STRENGTH
    return np.rint(patch * (1 - opacity) + colours * opacity).astype(np.uint8)


@dataclass(frozen=True)
class Explainer:
    """Grad-CAM of the classifier in a model folder.

    Attributes:
        labels: the classes.
        context: side of the square that the classifier sees, by the longer side of a cell's box.
        image_size_hw: of its input.
        cam: of its network.
        stain: what is done to an image before the classifier sees it.
    """

    labels: LabelSet
    context: float
    image_size_hw: tuple[int, int]
    cam: GradCam
    stain: Normalization = "none"

    @classmethod
    def load(cls, folder: Path) -> "Explainer":
        """Load from a model folder; the first classifier is explained, not the second.

        Raises:
            InputError: no model folder, a one-stage detector, an exported one, or a network without convolutions.
        """
        description, _ = load_description(folder)
        if description.detector != "two_stage":
            raise InputError(f"{folder}: is a {description.detector} detector; Grad-CAM asks the classifier of a two-stage one")
        if not (folder / CLASSIFIER).is_file():
            raise InputError(f"{folder}: Grad-CAM needs {CLASSIFIER}, which an exported detector has not; name the folder it came from")
        cam = GradCam(load_network(folder / CLASSIFIER))
        return cls(description.labels, description.context, description.image_size_hw, cam, description.stain)

    def overlays(self, patches: np.ndarray, label: str, stains: Sequence[Stain]) -> np.ndarray:
        """What speaks for a label, drawn on patches: uint8 (n, H, W, 3).

        Args:
            patches: uint8 (n, H, W, 3) of any size, cut with `context`.
            label: one of the labels.
            stains: of the images that the patches are from, n of them; of no use, and may be none, where `stain` is ``none``.
        """
        if len(patches) == 0:
            return patches
        seen = patches if self.stain == "none" else [with_stain(p, s, self.stain) for p, s in zip(patches, stains, strict=True)]
        small = np.stack([resize(patch, self.image_size_hw) for patch in seen])
        heat = self.cam(small, np.full(len(small), self.labels.names.index(label)))
        return np.stack([overlay(patch, h) for patch, h in zip(patches, heat, strict=True)])
