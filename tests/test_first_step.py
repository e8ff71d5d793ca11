"""A step is traced once, and building ahead changes nothing that is learnt."""

import keras
import numpy as np
import tensorflow as tf

from malaria_cells.fitting.first_step import build_ahead
from malaria_cells.fitting.metrics import MacroF1


def fitted(ahead):
    keras.utils.set_random_seed(3)
    layers = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    optimizer = keras.optimizers.AdamW(0.1, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy", MacroF1(3)], weighted_metrics=[])
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(8, 4)).astype("float32"), np.eye(3, dtype="float32")[rng.integers(3, size=8)], np.ones(8, "float32")
    batches = tf.data.Dataset.from_tensor_slices(rows).repeat().batch(4)
    traced, step = [], model.train_step
    model.train_step = lambda data: traced.append(None) or step(data)
    if ahead:
        build_ahead(model, batches)
    history = model.fit(batches, epochs=3, steps_per_epoch=2, shuffle=False, verbose=0).history
    return model.get_weights(), history, len(traced)


def test_what_is_learnt_is_the_same():
    weights, history, traced = fitted(True)
    expected_weights, expected_history, _ = fitted(False)
    assert traced == 1
    assert history == expected_history
    for found, expected in zip(weights, expected_weights, strict=True):
        np.testing.assert_array_equal(found, expected)
