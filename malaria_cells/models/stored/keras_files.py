"""Loads a network from an untrusted Keras file: the file is validated before Keras reads it, and the network afterwards.

A ``.keras`` file is a zip archive of ``config.json`` and ``model.weights.h5``; for ``.h5`` files see `keras2`.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.tensorflow_setup import start_tensorflow
from malaria_cells.models.stored.architecture import check_architecture
from malaria_cells.models.stored.hdf5 import SIGNATURE, RefusedError, values_in
from malaria_cells.models.stored.keras2 import load_keras2
from malaria_cells.models.stored.network_limits import check_network, limited_weights
from malaria_cells.models.stored.presence import check_is_there

SUFFIXES = (".keras", ".h5", ".hdf5")
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MAX_CONFIG = 2**26  # bytes of an architecture; the largest in keras.applications has 2**20
MAX_UNCHECKED_WEIGHTS = 2**28  # bytes of uncompressed weights up to which the compression ratio is not checked
MAX_COMPRESSION = 100  # maximum compression ratio of larger parts


def load_network(path: Path) -> Any:
    """Load a Keras model without running code from the file.

    Args:
        path: a ``.keras`` file, or an ``.h5`` file of Keras 2 (see `keras2`).

    Raises:
        InputError: the file does not exist or is not a Keras model, it has parts that are not Keras' own, or its weights are not finite.
    """
    check_is_there(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{path}: not a Keras model that can be loaded: expected a file named {', '.join(f'*{s}' for s in SUFFIXES)}; "
            "for another engine, give the folder that malaria-cells export writes"
        )
    start_tensorflow()
    if suffix != ".keras":
        return load_keras2(path)
    try:
        return _load_keras3(path)
    except InputError as error:
        raise InputError(f"{path}: not a Keras model that can be loaded: {error}") from error
    except Exception as error:  # damaged files cause exceptions of many types
        raise InputError(f"{path}: not a Keras model that can be loaded{_of_another_keras(path)}: {reason(error)}") from error


def _load_keras3(path: Path) -> Any:
    import keras

    _check_is_zip(path)
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        missing = [name for name in (CONFIG, WEIGHTS) if name not in names]
        if missing:
            raise InputError(f"holds no {missing[0]}; expected a file written by Keras' model.save()")
        extra = sorted(names - {CONFIG, METADATA, WEIGHTS})
        if extra:
            raise InputError(
                f"holds a file '{extra[0][:60]}'; expected only {CONFIG}, {METADATA} and {WEIGHTS}, as networks for images have"
            )
        text = _read(archive, CONFIG, MAX_CONFIG)
        try:
            content = json.loads(text)
        except RecursionError:
            raise InputError(f"its {CONFIG} is nested too deeply") from None
        weights = _read(archive, WEIGHTS, MAX_UNCHECKED_WEIGHTS)
    if b"malaria_cells>" in text:  # importing the module registers its layers with Keras
        import malaria_cells.models.one_stage_networks  # noqa: F401
    check_architecture(content)

    try:
        n_values = values_in(weights)
    except RefusedError as error:
        raise InputError(f"its {WEIGHTS}: {error}") from None
    del weights
    with limited_weights(n_values):
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    check_network(model)
    return model


def _check_is_zip(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(len(SIGNATURE))
    if start == SIGNATURE:
        raise InputError("is an HDF5 file, which Keras writes as *.h5; rename it to *.h5")
    if not zipfile.is_zipfile(path):
        raise InputError("is not a zip archive, as a *.keras file is; it is damaged or of another type")


def _read(archive: zipfile.ZipFile, name: str, small: int) -> bytes:
    """Read a member of the archive completely, so that its checksum is verified.

    Args:
        archive: the archive.
        name: name of the member.
        small: bytes up to which the compression ratio is not checked.
    """
    part = archive.getinfo(name)
    if part.file_size > max(small, MAX_COMPRESSION * part.compress_size):
        raise InputError(
            f"its {name} would have {part.file_size:,} bytes ({part.compress_size:,} compressed), more than that of any network"
        )
    return archive.read(name)


def _of_another_keras(path: Path) -> str:
    """A hint naming the Keras version that wrote a ``.keras`` file if it differs from the installed one, else an empty text."""
    import keras

    try:
        with zipfile.ZipFile(path) as archive:
            written = json.loads(_read(archive, METADATA, MAX_CONFIG))["keras_version"]
    except Exception:  # noqa: BLE001  the file is damaged, which the caller reports
        return ""
    if written == keras.__version__ or not isinstance(written, str) or not written.replace(".", "").isalnum():
        return ""
    return f" (it was written by Keras {written}, installed is {keras.__version__}: pip install keras=={written})"
