"""Models as Keras 2 saved them: ``NAME.json`` (architecture) beside ``NAME.h5`` (weights), or one whole ``NAME.h5``.

Keras 3 reads the weights of such files but not the architecture, because its classes no longer have some of the arguments. These
arguments are removed here (all of them are at defaults that can no longer be changed), and both parts are written to one file, which
Keras' own reader of the old format then loads.
"""

import inspect
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

from malaria_cells.base.errors import InputError, reason
from malaria_cells.models.stored.architecture import check_architecture
from malaria_cells.models.stored.hdf5 import SIGNATURE, RefusedError, values_in
from malaria_cells.models.stored.network_limits import check_network, limited_weights

_COMMON_ARGUMENTS = {"name", "trainable", "dtype", "batch_input_shape", "batch_shape", "input_shape"}
MAX_CONFIG = 2**26  # bytes of an architecture; the largest in keras.applications has 2**20
_CONTAINERS = {"Functional", "Model", "Sequential"}


def load_keras2(path: Path) -> Any:
    """Load a model that Keras 2 saved.

    Args:
        path: the .h5 file. The architecture is in it or in the .json file of the same name.

    Raises:
        InputError: the file does not exist or is not HDF5, or it holds a layer that Keras 3 does not have. Code in the file is never run.
    """
    try:
        _check_is_hdf5(path)
        model = _load(path)
        check_network(model)
    except InputError as error:
        has_path = str(error).startswith((str(path), str(path.with_suffix(".json"))))
        raise error if has_path else InputError(f"{path}: not a model of Keras 2 that can be loaded: {error}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # damaged files cause exceptions of many types
        raise InputError(f"{path}: not a model of Keras 2 that can be loaded: {reason(error)}") from error
    return model


def _check_is_hdf5(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(len(SIGNATURE))
    if start[:4] == b"PK\x03\x04":
        raise InputError("is a zip archive, which Keras 3 writes as *.keras; rename it to *.keras")
    if start != SIGNATURE:
        raise InputError("is not an HDF5 file (file signature not found); it is damaged or of another type")


def _load(path: Path) -> Any:
    import h5py
    import keras

    try:
        n_values = values_in(path)
    except RefusedError as error:
        raise InputError(str(error)) from None
    with tempfile.TemporaryDirectory() as folder, h5py.File(path) as source:
        architecture = _rewritten(_architecture(path, source))
        check_architecture(architecture)
        weights = source.get("model_weights", source)
        whole = Path(folder) / "whole.h5"
        with h5py.File(whole, "w") as target:
            _copy(weights, target.create_group("model_weights"))
            target.attrs["model_config"] = json.dumps(architecture).encode()
            for key in ("backend", "keras_version"):
                target.attrs[key] = source.attrs.get(key, b"tensorflow" if key == "backend" else b"2")
        with warnings.catch_warnings(), limited_weights(n_values):
            warnings.simplefilter("ignore", UserWarning)  # advice on how to write models in Keras 3
            return keras.saving.load_model(whole, compile=False, safe_mode=True)


def _architecture(path: Path, source: Any) -> dict[str, Any]:
    json_path = path.with_suffix(".json")
    if "model_config" in source.attrs:
        text, holder = source.attrs["model_config"], path
    elif "layer_names" not in source.attrs and "layers" in source:
        raise InputError(
            f"{path}: holds only weights, as written by Keras 3's save_weights(); save the whole network: model.save('NAME.keras')"
        )
    elif json_path.is_file():
        text, holder = json_path.read_bytes(), json_path
    else:
        raise InputError(f"{path}: holds only weights; put the architecture beside it as {json_path.name} (Keras 2's model.to_json())")
    if len(text) > MAX_CONFIG:
        raise InputError(f"{holder}: an architecture of {len(text):,} bytes, more than that of any network")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: invalid JSON or invalid UTF-8
        raise InputError(f"{holder}: not valid JSON ({reason(error)}); expected the output of Keras 2's model.to_json()") from error
    _check_version(path, content, source.attrs.get("keras_version"))
    if not isinstance(content, dict) or content.get("class_name") not in _CONTAINERS:
        raise InputError(
            f"{holder}: found no model; expected the output of Keras 2's model.to_json(), with a class_name of {sorted(_CONTAINERS)}"
        )
    return content


def _check_version(path: Path, content: Any, version: Any) -> None:
    """Refuse files of Keras 1, which has other names for most arguments. Keras 2 up to 2.3 can convert them."""
    if version is None and isinstance(content, dict):
        version = content.get("keras_version")
    version = version.decode(errors="replace") if isinstance(version, bytes) else str(version)
    is_list = isinstance(content, dict) and content.get("class_name") == "Sequential" and isinstance(content.get("config"), list)
    if version.startswith(("0.", "1.")) or (is_list and '"nb_filter"' in json.dumps(content)):
        raise InputError(
            f"{path}: was written by Keras {version}, whose files Keras 3 cannot read; convert it with Keras 2, which reads them: "
            "in Python 3.7 with `pip install keras==2.3.1 tensorflow==1.15.5 'h5py<3' 'protobuf<3.21'`: "
            "`keras.models.load_model('OLD.h5').save('NEW.h5')`"
        )


def _copy(source: Any, target: Any) -> None:
    for key in source:
        source.copy(key, target)
    for key, value in source.attrs.items():
        if key != "model_config":
            target.attrs[key] = value


def _rewritten(part: Any) -> Any:
    """Convert an architecture: remove the arguments that Keras 3's classes do not have."""
    if isinstance(part, list):
        return [_rewritten(p) for p in part]
    if not isinstance(part, dict):
        return part
    rewritten = {k: _rewritten(v) for k, v in part.items() if k not in {"module", "registered_name", "build_config", "compile_config"}}
    name, config = rewritten.get("class_name"), rewritten.get("config")
    if name in {"Model", "Functional"} and isinstance(config, dict):
        rewritten["class_name"] = "Functional"
        _rewrite_graph(config)
    elif isinstance(config, dict) and name not in _CONTAINERS:
        known = _known_arguments(str(name))
        rewritten["config"] = {k: v for k, v in config.items() if known is None or k in known}
    return rewritten


def _rewrite_graph(config: dict[str, Any]) -> None:
    """Convert Keras 2's connection lists: Keras 3 does not wrap a single input, and counts a nested model's calls from 0 instead of 1."""
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
    """Argument names of a Keras layer's class and its base classes; None if there is no layer of that name."""
    import keras

    layer = getattr(keras.layers, name, None)
    if layer is None or not hasattr(layer, "__mro__"):
        return None
    return _COMMON_ARGUMENTS.union(*(inspect.signature(c.__init__).parameters for c in layer.__mro__ if c is not object))
