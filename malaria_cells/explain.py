"""Where a classifier looks: Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391), place by place.

The paper weighs the last convolution's maps by gradients averaged over the patch. Here that layer has four places a side,
and its answer was beside the parasite; earlier layers want each place weighed by its own gradient, as LayerCAM does (Jiang
et al. 2021, IEEE Transactions on Image Processing 30, equations 5 and 6). On IML-Malaria's rings that is where a grey square
laid on the cell changes the answer most, which the tests hold it to.
"""

from typing import Any

import cv2
import numpy as np

from malaria_cells.errors import InputError

FEWEST_PLACES = 16  # a side, of the last layer that is taken: a ring's dot has a twentieth of its cell's diameter
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
        maps = [layer for layer in model.layers if isinstance(layer.output, keras.KerasTensor) and len(layer.output.shape) == 4]
        maps = [layer for layer in maps if not isinstance(layer, keras.layers.InputLayer)]
        if not maps or not isinstance(last, keras.layers.Dense):
            raise InputError(f"--explain: {model.name}: Grad-CAM needs convolutions and a dense last layer, which this model has not")
        chosen = next((layer for layer in reversed(maps) if min(layer.output.shape[1:3]) >= FEWEST_PLACES), maps[-1])
        self._network = keras.Model(model.inputs, [chosen.output, last.input])
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
            logits = tf.matmul(tf.cast(features, tf.float32), self._last.kernel) + self._last.bias
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
