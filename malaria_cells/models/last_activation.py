"""The activation of a network's output, read from the configuration that Keras writes to files, whose format is public."""

from collections.abc import Iterator
from typing import Any

# Layers whose outputs are the values of their inputs.
PASSING_LAYERS = {"Reshape", "Flatten", "Dropout", "Identity", "ActivityRegularization"}


def last_activation(network: Any) -> str:
    """Return the name of the activation of a network's first output, in Keras' spelling; ``unknown`` if its layer has none.

    Args:
        network: a functional or sequential Keras model.
    """
    for layer in _from_the_output(network.get_config()):
        kind, activation = layer["class_name"], layer["config"].get("activation")
        if kind in PASSING_LAYERS or (kind == "Activation" and activation == "linear"):
            continue
        if kind in {"Softmax", "Sigmoid"}:
            return str(kind).lower()
        return activation if isinstance(activation, str) else "unknown"
    return "unknown"


def _from_the_output(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Iterate over the layers before the output of a network, the last one first; of several inputs of a layer the first is followed."""
    import keras

    if "output_layers" not in config:  # a sequential model
        for layer in reversed(config.get("layers", [])):
            yield from _opened(layer)
        return
    layers = {layer["name"]: layer for layer in config["layers"]}
    name, call = keras.tree.flatten(config["output_layers"])[:2]
    while True:
        yield from _opened(layers[name])
        calls = layers[name]["inbound_nodes"]
        if not calls:
            return
        parts = keras.tree.flatten_with_path(calls[call])
        name, call = [value for path, value in parts if "keras_history" in path][:2]


def _opened(layer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A layer, or the layers of a network of one output that stands in its place."""
    import keras

    config = layer["config"]
    n_outputs = len(keras.tree.flatten(config.get("output_layers", ["", 0, 0]))) // 3  # of each: name, call, tensor
    if "layers" in config and n_outputs == 1:
        yield from _from_the_output(config)
    else:
        yield layer
