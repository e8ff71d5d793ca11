"""Reads a network from a file of Keras that anybody may have made: checked before Keras sees it, and the network after.

``.keras`` is a zip archive of ``config.json`` and ``model.weights.h5``; for ``.h5`` see `keras2`.
"""

import json
import zipfile
from pathlib import Path

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.tensorflow_setup import start_tensorflow
from malaria_cells.models.stored.architecture import check_architecture
from malaria_cells.models.stored.hdf5 import SIGNATURE, RefusedError, values_in
from malaria_cells.models.stored.keras2 import load_keras2
from malaria_cells.models.stored.network_limits import check_network, limited_weights

SUFFIXES = (".keras", ".h5", ".hdf5")
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
LFS = b"version https://git-lfs.github.com/spec/"
MAX_CONFIG = 2**26  # bytes of an architecture; that of the largest of keras.applications has 2**20
FEW_WEIGHTS = 2**28  # bytes of weights that may be compressed to whatever they can be
MAX_COMPRESSION = 100  # the most by which more than those may be


def check_is_there(path: Path) -> None:
    """See that a network's file is there and is not the pointer to it that Git LFS leaves in a repository.

    Raises:
        InputError: no file, or a pointer.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with path.open("rb") as file:
        if file.read(len(LFS)) == LFS:
            raise InputError(f"{path}: is a pointer of Git LFS, not the file itself; fetch that with: git lfs pull")


def load_network(path: Path):  # type: ignore[no-untyped-def]
    """Load a Keras model without running code from the file: ``.keras``, or ``.h5`` of Keras 2 (see `keras2`).

    Raises:
        InputError: no such file, no such model, one with parts that are not Keras' own, or with weights that are no numbers.
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
    except Exception as error:  # zipfile, h5py and Keras raise whatever the broken part raises
        raise InputError(f"{path}: not a Keras model that can be loaded{_of_another_keras(path)}: {reason(error)}") from error


def _load_keras3(path: Path):  # type: ignore[no-untyped-def]
    import keras

    _check_is_zip(path)
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        missing = [name for name in (CONFIG, WEIGHTS) if name not in names]
        if missing:
            raise InputError(f"holds no {missing[0]}; expected what Keras' model.save() writes")
        extra = sorted(names - {CONFIG, METADATA, WEIGHTS})
        if extra:
            raise InputError(
                f"holds a file '{extra[0][:60]}'; expected {CONFIG}, {METADATA} and {WEIGHTS} alone, as networks of images have"
            )
        text = _read(archive, CONFIG, MAX_CONFIG)
        try:
            content = json.loads(text)
        except RecursionError:
            raise InputError(f"its {CONFIG} is nested too deeply for a network's") from None
        weights = _read(archive, WEIGHTS, FEW_WEIGHTS)
    if b"malaria_cells>" in text:  # layers of ours, which are known to Keras once they are imported
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
        raise InputError("is an HDF5 file, which Keras writes as *.h5; rename it so")
    if not zipfile.is_zipfile(path):
        raise InputError("is no zip archive, which a *.keras file is; it is damaged, or of another kind")


def _read(archive: zipfile.ZipFile, name: str, small: int) -> bytes:
    """Read a whole part, which compares its checksum too."""
    part = archive.getinfo(name)
    if part.file_size > max(small, MAX_COMPRESSION * part.compress_size):
        raise InputError(f"its {name} would have {part.file_size:,} bytes, {part.compress_size:,} when compressed, which no network's has")
    return archive.read(name)


def _of_another_keras(path: Path) -> str:
    """A hint naming the Keras version that wrote a ``.keras`` file if it differs from the installed one, else an empty text."""
    import keras

    try:
        with zipfile.ZipFile(path) as archive:
            written = json.loads(_read(archive, METADATA, MAX_CONFIG))["keras_version"]
    except Exception:  # noqa: BLE001  the file is broken, which is being told
        return ""
    if written == keras.__version__ or not isinstance(written, str) or not written.replace(".", "").isalnum():
        return ""
    return f" (it was written by Keras {written}, installed is {keras.__version__}: pip install keras=={written})"
