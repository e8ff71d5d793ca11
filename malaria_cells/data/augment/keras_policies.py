"""Augmentation policies of Keras' layers, and keras-cv's RandAugment, which work on batches of tensors and may mix labels.

The policies of Keras' layers are seeded anew for each batch, so a resumed run sees the batches of an uninterrupted one. RandAugment is
seeded once per run, since samplers within it keep a state that cannot be set: a repeated run sees the same batches, but a resumed run
continues with other random draws.
"""

from collections.abc import Callable, Sequence
from typing import Any

from malaria_cells.base.keras_cv_parts import keras_cv_part
from malaria_cells.data.augment.registry import BatchPolicy, batch_augmentation

CROP_FROM = 1.12  # factor by which an image is enlarged before a random crop of the original size
RAND_AUGMENT_MAGNITUDE = 0.3  # of the distortions, 0 to 1


class _OfLayers:
    """A policy of Keras' layers, each of which draws by a seed of its own."""

    def __init__(self, layers: Sequence[Any], apply: BatchPolicy) -> None:
        self._layers, self._apply = layers, apply

    def __call__(self, images: Any, labels: Any) -> tuple[Any, Any]:
        return self._apply(images, labels)

    def reseed(self, seed: Any) -> None:
        """Let the next draws depend on a seed alone: an int64 tensor, also within tf.data."""
        import tensorflow as tf

        for number, layer in enumerate(self._layers):
            state = layer.generator.state
            state.assign(tf.cast(tf.stack([seed + number, 0]), state.dtype))


def _layers(image_size_hw: tuple[int, int], seed: int) -> BatchPolicy:
    import keras

    enlarged_hw = [round(n * CROP_FROM) for n in image_size_hw]
    layers = [
        keras.layers.Resizing(*enlarged_hw),
        keras.layers.RandomCrop(*image_size_hw, seed=seed),
        keras.layers.RandomFlip("horizontal_and_vertical", seed=seed + 1),
        keras.layers.RandomRotation(0.25, fill_mode="reflect", seed=seed + 2),
        keras.layers.RandomZoom((-0.2, 0.0), fill_mode="reflect", seed=seed + 3),
        keras.layers.RandomContrast(0.2, value_range=(0, 255), seed=seed + 4),
    ]

    def apply(images: Any, labels: Any) -> tuple[Any, Any]:
        for layer in layers:
            images = layer(images, training=True)
        return images, labels

    return _OfLayers([layer for layer in layers if hasattr(layer, "generator")], apply)


def _rand_augment(image_size_hw: tuple[int, int], seed: int) -> BatchPolicy:  # noqa: ARG001
    import tensorflow as tf

    # Keras' own RandAugment draws the distortions once for a whole batch; keras-cv's draws them for each image.
    layer = keras_cv_part("layers.RandAugment")(
        value_range=(0, 255), augmentations_per_image=2, magnitude=RAND_AUGMENT_MAGNITUDE, seed=seed
    )

    def augment(image: Any) -> Any:
        return layer(image, training=True)

    # One image after the other: given a batch, the layer maps ten images in parallel over one random state, so which image gets which draw
    # would be a race.
    return lambda images, labels: (tf.map_fn(augment, images, parallel_iterations=1), labels)


def _cut_mix(image_size_hw: tuple[int, int], seed: int) -> BatchPolicy:  # noqa: ARG001
    import keras

    return _mixing(keras.layers.CutMix(factor=(1.0, 1.0), seed=seed, dtype="float32"))


def _mix_up(image_size_hw: tuple[int, int], seed: int) -> BatchPolicy:  # noqa: ARG001
    import keras

    return _mixing(keras.layers.MixUp(alpha=0.2, seed=seed, dtype="float32"))


def _mixing(layer: Any) -> BatchPolicy:
    def apply(images: Any, labels: Any) -> tuple[Any, Any]:
        mixed = layer({"images": images, "labels": labels}, training=True)
        return mixed["images"], mixed["labels"]

    return _OfLayers([layer], apply)


POLICIES: dict[str, Callable[[tuple[int, int], int], BatchPolicy]] = {
    "layers": _layers,
    "randaugment": _rand_augment,
    "cutmix": _cut_mix,
    "mixup": _mix_up,
}

for _rank, (_name, _make) in enumerate(POLICIES.items(), start=20):
    batch_augmentation(_name, rank=_rank)(_make)
