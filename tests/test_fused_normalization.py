"""The fused kernel learns what Keras's own batch normalisation learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from malaria_cells.fitting.fused_normalization import fused_normalization, layers_within


def network(**settings):
    keras.utils.set_random_seed(5)
    inner = keras.Sequential([keras.Input((8, 8, 4)), keras.layers.Conv2D(6, 3), keras.layers.BatchNormalization(**settings)])
    layers = [inner, keras.layers.ReLU(), keras.layers.GlobalAveragePooling2D(), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((8, 8, 4)), *layers])


def step(model, pixels, **how):
    with tf.GradientTape() as tape:
        answers = model(pixels, **how)
        loss = tf.reduce_mean(tf.square(answers - 1))
    return [answers, *tape.gradient(loss, [w.value for w in model.trainable_weights]), *model.get_weights()]


PIXELS = np.random.default_rng(0).normal(3, 2, size=(5, 8, 8, 4)).astype("float32")


@pytest.mark.parametrize("settings", [{}, {"scale": False}, {"center": False}, {"momentum": 0.5, "epsilon": 1e-5}])
def test_answers_gradients_and_statistics_are_keras_own(settings):
    fused, plain = network(**settings), network(**settings)
    with fused_normalization(fused):
        found = [step(fused, PIXELS + n, training=True) for n in range(3)]
    expected = [step(plain, PIXELS + n, training=True) for n in range(3)]
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_statistics_of_mixed_precision_are_kept_in_float32(precision):
    keras.mixed_precision.set_global_policy(precision)
    try:
        fused, plain = network(), network()
        with fused_normalization(fused):
            found = step(fused, PIXELS, training=True)
        expected = step(plain, PIXELS, training=True)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(tf.cast(a, tf.float32), tf.cast(b, tf.float32), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("how", [{"training": False}, {"training": True}])
def test_layers_are_keras_own_afterwards_and_when_frozen(how):
    used, plain = network(), network()
    with fused_normalization(used):
        used.trainable = False
        found = step(used, PIXELS, **how)
    plain.trainable = False
    for a, b in zip(found, step(plain, PIXELS, **how), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not any("call" in vars(layer) for layer in layers_within(used))


def test_it_is_the_kernel_that_runs():
    model = network()

    def kernels():
        graph = tf.function(lambda x: model(x, training=True)).get_concrete_function(tf.TensorSpec((5, 8, 8, 4))).graph
        return [op.type for op in graph.get_operations()].count("FusedBatchNormV3")

    with fused_normalization(model):
        assert kernels() == 1
    assert kernels() == 0


def test_axis_that_the_kernel_does_not_serve_stays_as_it_is():
    fused, plain = network(axis=1), network(axis=1)
    with fused_normalization(fused):
        found = step(fused, PIXELS, training=True)
    for a, b in zip(found, step(plain, PIXELS, training=True), strict=True):
        np.testing.assert_array_equal(a, b)


class Composite(keras.layers.Layer):
    """Holds its layers as attributes, as blocks of keras-cv do."""

    def __init__(self):
        super().__init__()
        self.first, self.more = keras.layers.BatchNormalization(), [keras.layers.BatchNormalization()]

    def call(self, inputs, training=None):
        return self.more[0](self.first(inputs, training=training), training=training)


def test_layers_of_nested_models_and_composite_layers_are_found():
    model = keras.Sequential([keras.Input((8, 8, 4)), network().layers[0], Composite()])
    # `_flatten_layers` is not public: it is what the own walk is compared with.
    found, expected = (
        [id(layer) for layer in layers if type(layer) is keras.layers.BatchNormalization]
        for layers in (layers_within(model), model._flatten_layers())
    )
    assert len(found) == 3
    assert set(found) == set(expected)


def test_where_keras_forbids_it_the_layer_computes_as_it_is(monkeypatch, caplog):
    used, plain = network(), network()
    setting = keras.layers.BatchNormalization.__setattr__

    def refuses(layer, name, value):
        if name == "call":
            raise AttributeError("call is fixed")
        setting(layer, name, value)

    monkeypatch.setattr(keras.layers.BatchNormalization, "__setattr__", refuses)
    with fused_normalization(used):
        found = step(used, PIXELS, training=True)
    assert "without the fused kernel, up to half as fast: call is fixed" in caplog.text
    for a, b in zip(found, step(plain, PIXELS, training=True), strict=True):
        np.testing.assert_array_equal(a, b)
