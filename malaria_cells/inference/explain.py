"""Grad-CAM of the patch classifier (Selvaraju et al. 2017, arXiv:1610.02391), with pixel-wise weights.

The paper weights the feature maps of the last convolution by gradients averaged over the patch. Here that layer has a grid of 4 x 4, and
its heat map missed the parasite. An earlier layer is used instead, each of whose pixels is weighted by its own gradient, as in LayerCAM
(Jiang et al. 2021, IEEE Transactions on Image Processing 30, equations 5 and 6). On IML-Malaria's rings the heat map agrees with occlusion
by a grey square, which the tests check.
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
from malaria_cells.inference.model_description import CLASSIFIER
from malaria_cells.inference.model_yaml import load_description
from malaria_cells.models.stored.keras_files import load_network

MIN_GRID = 16  # pixels: minimum side of the feature map that is used; a ring's dot has a twentieth of its cell's diameter
MAX_IMAGE_CHANNELS = 4  # channels: a tensor with more is a feature map, not an image
OPACITY = 0.65  # opacity of an overlay where the heat is 1


class GradCam:
    """Grad-CAM of one classifier.

    Args:
        model: a Keras classifier from pixels (b, H, W, 3) in 0..255 to probabilities.

    Raises:
        InputError: the model has no convolution, or its last layer is not dense.
    """

    def __init__(self, model: Any):
        import keras

        last = model.layers[-1]
        # The layers' inputs and not their outputs, since the output of a nested backbone belongs to another graph.
        tensors = [tensor for layer in model.layers[1:] for tensor in keras.tree.flatten(layer.input)]
        maps = [tensor for tensor in tensors if len(tensor.shape) == 4 and tensor.shape[-1] > MAX_IMAGE_CHANNELS]
        if not maps or not isinstance(last, keras.layers.Dense):
            raise InputError(f"{model.name}: Grad-CAM needs convolutions and a dense last layer, which this model does not have")
        chosen = next((tensor for tensor in reversed(maps) if min(tensor.shape[1:3]) >= MIN_GRID), maps[-1])
        self._network = keras.Model(model.inputs, [chosen, last.input])
        self._last = last

    def __call__(self, patches: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
        """Heat maps of the evidence for a class.

        Args:
            patches: uint8 (n, H, W, 3).
            class_ids: int (n,), the class to explain of each patch.

        Returns:
            float32 (n, H, W), 0 to 1. The maximum of each map is about 1, or 0 if nothing in the patch is evidence for the class.
        """
        import tensorflow as tf

        pixels = tf.constant(patches, dtype=tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            maps, features = self._network(pixels, training=False)
            logits = tf.matmul(tf.cast(features, tf.float32), self._last.kernel)
            if self._last.use_bias:
                logits += self._last.bias
            if logits.shape[1] == 1:  # one sigmoid unit: its logit is that of class 1, and negated that of class 0
                logits = tf.concat([-logits, logits], axis=1)
            score = tf.reduce_sum(tf.gather(logits, class_ids, axis=1, batch_dims=1))
        heat = tf.nn.relu(tf.reduce_sum(tf.nn.relu(tape.gradient(score, maps)) * maps, axis=-1)).numpy()
        heat = heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-9)
        size_wh = patches.shape[2], patches.shape[1]
        return np.stack([cv2.resize(h, size_wh, interpolation=cv2.INTER_CUBIC).clip(0, 1) for h in heat]).astype(np.float32)


def overlay(patch: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Draw a heat map (H, W), 0 to 1, over a patch of any size: uint8 RGB of the patch's size, unchanged where the heat is 0."""
    height, width = patch.shape[:2]
    heat = cv2.resize(heat, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    opacity = heat[..., None] * OPACITY
    return np.rint(patch * (1 - opacity) + colours * opacity).astype(np.uint8)


@dataclass(frozen=True)
class Explainer:
    """Grad-CAM of the classifier in a model folder.

    Attributes:
        labels: the classes.
        context: side of the square that is cropped around a box, as a multiple of the box's longer side.
        image_size_hw: height and width of the classifier's input in pixels.
        cam: Grad-CAM of the classifier's network.
        stain: normalization of an image before the classifier.
    """

    labels: LabelSet
    context: float
    image_size_hw: tuple[int, int]
    cam: GradCam
    stain: Normalization = "none"

    @classmethod
    def load(cls, folder: Path) -> "Explainer":
        """Load the classifier of a model folder; the refiner is not explained.

        Raises:
            InputError: the folder is no model folder, holds a one-stage or an exported detector, or the classifier has no convolutions.
        """
        description, _ = load_description(folder)
        if description.detector != "two_stage":
            raise InputError(f"{folder}: is a {description.detector} detector; Grad-CAM needs a two-stage detector with a classifier")
        if not (folder / CLASSIFIER).is_file():
            raise InputError(f"{folder}: Grad-CAM needs {CLASSIFIER}, which exported detectors lack; name the folder it was exported from")
        cam = GradCam(load_network(folder / CLASSIFIER))
        return cls(description.labels, description.context, description.image_size_hw, cam, description.stain)

    def overlays(self, patches: np.ndarray, label: str, stains: Sequence[Stain]) -> np.ndarray:
        """Draw the heat maps of a label over patches: uint8 (n, H, W, 3).

        Args:
            patches: uint8 (n, H, W, 3) of any size, cropped with `context`.
            label: one of the labels.
            stains: stain of the image of each patch, n of them; ignored if `stain` is ``none``.
        """
        if len(patches) == 0:
            return patches
        stained = patches if self.stain == "none" else [with_stain(p, s, self.stain) for p, s in zip(patches, stains, strict=True)]
        resized = np.stack([resize(patch, self.image_size_hw) for patch in stained])
        heat = self.cam(resized, np.full(len(resized), self.labels.names.index(label)))
        return np.stack([overlay(patch, h) for patch, h in zip(patches, heat, strict=True)])
