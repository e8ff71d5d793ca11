"""Models as Keras 2 saved them: ``NAME.json`` (architecture) beside ``NAME.h5`` (weights), or one whole ``NAME.h5``.

Keras 3 reads the weights of such files, but not the architecture beside them: its classes no longer know some of the
arguments. Those are dropped, all of them being defaults that no longer can be changed, and both parts are laid into one
file, which Keras' own reader of the old form then loads.
"""

import inspect
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

from malaria_cells.errors import InputError, reason

_ALWAYS = {"name", "trainable", "dtype", "batch_input_shape", "batch_shape", "input_shape"}
_CONTAINERS = {"Functional", "Model", "Sequential"}


def load_keras2(path: Path):  # type: ignore[no-untyped-def]
    """Load a model that Keras 2 saved.

    Args:
        path: the .h5 file; the architecture is in it, or in the .json file of the same name.

    Raises:
        InputError: no such files, no HDF5, or a layer that Keras 3 does not have; code in the file is never run.
    """
    import h5py
    import keras

    try:
        with tempfile.TemporaryDirectory() as folder, h5py.File(path) as source:
            architecture = _architecture(path, source)
            whole = Path(folder) / "whole.h5"
            with h5py.File(whole, "w") as target:
                _copy(source.get("model_weights", source), target.create_group("model_weights"))
                target.attrs["model_config"] = json.dumps(_rewritten(architecture)).encode()
                for key in ("backend", "keras_version"):
                    target.attrs[key] = source.attrs.get(key, b"tensorflow" if key == "backend" else b"2")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # advice on how to write models in Keras 3
                return keras.saving.load_model(whole, compile=False, safe_mode=True)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # h5py and Keras raise whatever the broken part raises
        raise InputError(f"{path}: not a model of Keras 2 that can be loaded: {reason(error)}") from error


def _architecture(path: Path, source: Any) -> dict[str, Any]:
    beside = path.with_suffix(".json")
    if "model_config" in source.attrs:
        text = source.attrs["model_config"]
    elif beside.is_file():
        text = beside.read_text(encoding="utf-8")
    else:
        raise InputError(f"{path}: holds weights alone; put the architecture beside it as {beside.name} (Keras 2's model.to_json())")
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{beside}: not valid JSON ({error}); expected what Keras 2's model.to_json() writes") from error
    if not isinstance(content, dict) or content.get("class_name") not in _CONTAINERS:
        raise InputError(
            f"{beside}: found no model; expected what Keras 2's model.to_json() writes, with a class_name of {sorted(_CONTAINERS)}"
        )
    return content


def _copy(source: Any, target: Any) -> None:
    for key in source:
        source.copy(key, target)
    for key, value in source.attrs.items():
        if key != "model_config":
            target.attrs[key] = value


def _rewritten(part: Any) -> Any:
    """The architecture without what Keras 3's classes do not know."""
    if isinstance(part, list):
        return [_rewritten(p) for p in part]
    if not isinstance(part, dict):
        return part
    kept = {k: _rewritten(v) for k, v in part.items() if k not in {"module", "registered_name", "build_config", "compile_config"}}
    name, config = kept.get("class_name"), kept.get("config")
    if name == "Lambda":
        raise InputError("the model holds a Lambda layer, which carries code; code from model files is not run")
    if name in {"Model", "Functional"} and isinstance(config, dict):
        kept["class_name"] = "Functional"
        _rewrite_graph(config)
    elif isinstance(config, dict) and name not in _CONTAINERS:
        known = _known_arguments(str(name))
        kept["config"] = {k: v for k, v in config.items() if known is None or k in known}
    return kept


def _rewrite_graph(config: dict[str, Any]) -> None:
    """What is said about connections otherwise: one input is no list of one, and a nested model's first call is its first node."""
    for key in ("input_layers", "output_layers"):
        if len(config.get(key, ())) == 1 and isinstance(config[key][0], list):
            config[key] = config[key][0]
    nested = {layer["config"]["name"] for layer in config["layers"] if layer["class_name"] in _CONTAINERS}
    for layer in config["layers"]:
        for node in layer.get("inbound_nodes", ()):
            for connection in node:
                if isinstance(connection, list) and connection and connection[0] in nested:
                    connection[1] -= 1


def _known_arguments(name: str) -> set[str] | None:
    """Arguments of a Keras layer's class and its bases; None where it is no layer."""
    import keras

    layer = getattr(keras.layers, name, None)
    if layer is None:
        return None
    return _ALWAYS.union(*(inspect.signature(c.__init__).parameters for c in layer.__mro__ if c is not object))
