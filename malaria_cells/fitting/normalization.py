"""Adapts a network's normalisation layer to the training patches: one streamed pass, kept beside the patch store."""

import hashlib
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from malaria_cells.base import files
from malaria_cells.base.progress import progress
from malaria_cells.data.patches import PatchStore

BATCH = 64


def adapt_normalization(model: keras.Model, store: PatchStore, rows: np.ndarray, cache: Path) -> bool:
    """Set mean and variance of the first normalisation layer that has any to learn.

    Args:
        model: a network from pixels.
        store: the patches.
        rows: int64 (n,), the training rows.
        cache: folder of the patch stores; the figures are kept there under the hash of what they are computed from.

    Returns:
        Whether there was such a layer.
    """
    found = _layer(model)
    if found is None:
        return False
    owner, layer = found
    key = hashlib.blake2b(np.ascontiguousarray(rows).tobytes() + f"{store.fingerprint} {model.name}".encode(), digest_size=12).hexdigest()
    path = cache / f"normalization-{key}.json"
    if path.is_file():
        figures = json.loads(path.read_text(encoding="utf-8"))
    else:
        figures = _moments(keras.Model(owner.inputs[0], layer.input), store, rows)
        files.write_json(path, figures)
    layer.adapt_mean.assign(np.array(figures["mean"]).reshape(layer.adapt_mean.shape))
    layer.adapt_variance.assign(np.array(figures["variance"]).reshape(layer.adapt_variance.shape))
    layer.finalize_state()
    return True


def _layer(model: keras.Model) -> tuple[keras.Model, Any] | None:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found = _layer(layer)
            if found is not None:
                return found
        elif isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            return model, layer
    return None


def _moments(upstream: keras.Model, store: PatchStore, rows: np.ndarray) -> dict[str, list[float]]:
    """Mean and variance of each channel of what reaches the layer, in float64."""
    count, total, squares = 0, np.zeros(3), np.zeros(3)
    starts = range(0, len(rows), BATCH)
    for start in progress(starts, len(starts), "adapting normalisation", "batch"):
        values = np.asarray(upstream(store.patches[rows[start : start + BATCH]].astype(np.float32))).astype(np.float64).reshape(-1, 3)
        count, total, squares = count + len(values), total + values.sum(axis=0), squares + (values**2).sum(axis=0)
    mean = total / count
    return {"mean": mean.tolist(), "variance": np.maximum(squares / count - mean**2, 0).tolist()}
