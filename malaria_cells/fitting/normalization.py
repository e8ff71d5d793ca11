"""Adapts a network's normalisation layer to the training patches in one streamed pass; the result is cached beside the patches."""

import hashlib
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from malaria_cells.base import files
from malaria_cells.base.progress import progress
from malaria_cells.data.patch_store import PatchStore

BATCH = 64  # patches per batch


def adapt_normalization(model: keras.Model, store: PatchStore, rows: np.ndarray, cache: Path) -> bool:
    """Set mean and variance of the first `keras.layers.Normalization` layer without fixed values.

    Args:
        model: a network from pixels.
        store: the patches.
        rows: int64 (n,), the rows of the training patches in the store.
        cache: folder of the patch stores; mean and variance are cached there under a hash of their inputs.

    Returns:
        Whether the model has such a layer.
    """
    match = _adaptable_layer(model)
    if match is None:
        return False
    owner, layer = match
    key = hashlib.blake2b(np.ascontiguousarray(rows).tobytes() + f"{store.fingerprint} {model.name}".encode(), digest_size=12).hexdigest()
    path = cache / f"normalization-{key}.json"
    if path.is_file():
        moments = json.loads(path.read_text(encoding="utf-8"))
    else:
        moments = _moments(keras.Model(owner.inputs[0], layer.input), store, rows)
        files.write_json(path, moments)
    layer.adapt_mean.assign(np.array(moments["mean"]).reshape(layer.adapt_mean.shape))
    layer.adapt_variance.assign(np.array(moments["variance"]).reshape(layer.adapt_variance.shape))
    layer.finalize_state()
    return True


def _adaptable_layer(model: keras.Model) -> tuple[keras.Model, Any] | None:
    """The first layer to adapt, and the model or nested model that holds it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            match = _adaptable_layer(layer)
            if match is not None:
                return match
        elif isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            return model, layer
    return None


def _moments(upstream: keras.Model, store: PatchStore, rows: np.ndarray) -> dict[str, list[float]]:
    """Mean and variance of each channel of the layer's input, computed in float64."""
    count, total, squares = 0, np.zeros(3), np.zeros(3)
    starts = range(0, len(rows), BATCH)
    for start in progress(starts, len(starts), "adapting normalisation", "batch"):
        values = np.asarray(upstream(store.patches[rows[start : start + BATCH]].astype(np.float32))).astype(np.float64).reshape(-1, 3)
        count, total, squares = count + len(values), total + values.sum(axis=0), squares + (values**2).sum(axis=0)
    mean = total / count
    return {"mean": mean.tolist(), "variance": np.maximum(squares / count - mean**2, 0).tolist()}
