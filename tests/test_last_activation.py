"""The last activation of a network is found behind layers that hand values on, and within other networks."""

import keras
import pytest

from malaria_cells.models.last_activation import last_activation


def inner(activation="softmax"):
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(3, activation=activation)(inputs))


def shared():
    """A layer that is called twice: what counts is the call that the output comes from."""
    inputs, layer = keras.Input((3,)), keras.layers.Dropout(0.1)
    early = layer(keras.layers.Dense(3, activation="tanh")(inputs))
    return keras.Model(inputs, layer(keras.layers.Dense(3, activation="sigmoid")(early)))


def of_operations():
    inputs = keras.Input((3,))
    return keras.Model(inputs, keras.ops.softmax(keras.layers.Dense(3)(inputs)))


def of_two_outputs():
    inputs = keras.Input((4,))
    two = keras.Model(inputs, [keras.layers.Dense(3, activation="softmax")(inputs), keras.layers.Dense(2)(inputs)])
    return keras.Model(inputs, two(inputs)[0])


NETWORKS = {
    "functional": (inner, "softmax"),
    "listed outputs": (lambda: keras.Model((a := inner()).inputs, list(a.outputs)), "softmax"),
    "linear": (lambda: inner(None), "linear"),
    "sequential": (lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="sigmoid")]), "sigmoid"),
    "within": (
        lambda: keras.Sequential([keras.Input((4,)), inner(), keras.layers.Activation("linear"), keras.layers.Flatten()]),
        "softmax",
    ),
    "twice within": (lambda: keras.Sequential([keras.Input((4,)), keras.Sequential([keras.Input((4,)), inner("relu")])]), "relu"),
    "softmax layer": (lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Softmax()]), "softmax"),
    "operations": (of_operations, "softmax"),
    "shared": (shared, "sigmoid"),
    "none": (lambda: keras.Sequential([keras.Input((4,)), keras.layers.UnitNormalization()]), "unknown"),
    "input alone": (lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.1)]), "unknown"),
    "one of two": (of_two_outputs, "unknown"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_activation(name, tmp_path):
    build, activation = NETWORKS[name]
    network = build()
    assert last_activation(network) == activation
    network.save(tmp_path / "m.keras")
    assert last_activation(keras.saving.load_model(tmp_path / "m.keras")) == activation
