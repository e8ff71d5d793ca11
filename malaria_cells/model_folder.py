"""A trained model on disk: everything a prediction needs, checked at load.

``classifier.keras`` holds the network (``detector.keras`` a one-stage one), ``second_look.keras`` one that looks again where
the first has a hint of a finding, ``model.yaml`` all the rest. Loading runs no code from the folder (Keras' safe mode, no
pickles, no lambdas) and compares the networks' answer on fixed pixels with the one they gave when they were saved. A folder
that `export` wrote holds the networks in another form and the same ``model.yaml``.
"""

import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.classifier import Network, PatchClassifier, compiled
from malaria_cells.detection import Detector, TwoStageDetector
from malaria_cells.engine import graph_of, start_tensorflow
from malaria_cells.engines import ENGINES, KERAS, exported_network, find_exported
from malaria_cells.errors import InputError, nearest, reason
from malaria_cells.keras2 import load_keras2
from malaria_cells.model_description import (
    ABOUT,
    CLASSIFIER,
    ONE_STAGE,
    ModelDescription,
    golden_output,
    load_description,
    save_description,
)
from malaria_cells.one_stage import OneStageDetector
from malaria_cells.proposals import CentreNetwork, Proposer

PROPOSER = "proposer.keras"
# Other processors and library versions round otherwise; a wrong file is off by far more.
GOLDEN_TOLERANCE = 2e-3
SIGNIFICANT_BITS = 12  # of float32's 24; float16 has 11


def save_model(folder: Path, networks: Sequence[Any], description: ModelDescription, proposer: Any = None) -> None:
    """Write the networks, ``model.yaml`` and, if there is one, ``proposer.keras`` into an existing folder.

    Args:
        folder: where to.
        networks: the Keras models of the classifier and the second look, or that of a one-stage detector.
        description: the rest.
        proposer: the Keras model of the learned proposals (`models.centres`), or None.
    """
    for network, file in zip(networks, description.files, strict=True):
        _save_plain(network, folder / file)
    if proposer is not None:
        _save_plain(proposer, folder / PROPOSER)
    save_description(folder, [compiled(network) for network in networks], description)


def _save_plain(model: Any, path: Path) -> None:
    """Save without the optimizer's state, which is twice as large as the weights, and without bits that tell nothing.

    Weights are rounded to `SIGNIFICANT_BITS`, in the model too, and the file is compressed: it is a third smaller for it. zlib's
    fastest level takes a fifth of the usual one's time and leaves 4 % more bytes.
    """
    import keras

    for variable in model.variables:
        if variable.dtype == "float32":
            variable.assign(_rounded(np.asarray(variable)))
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.name
        keras.Model(model.inputs[0], model.outputs[0], name=model.name).save(plain)
        with zipfile.ZipFile(plain) as stored, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as small:
            for name in stored.namelist():
                small.writestr(name, stored.read(name))


def _rounded(values: np.ndarray) -> np.ndarray:
    """The nearest float32 of `SIGNIFICANT_BITS`."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(mantissa, SIGNIFICANT_BITS)), exponent - SIGNIFICANT_BITS).astype(np.float32)


def shipped() -> Path:
    """The folder of the model that comes with the repository.

    Raises:
        InputError: the package was installed without it.
    """
    found = Path(__file__).parents[1] / "pretrained" / "vivax"
    if not found.exists():
        raise InputError("--model: name a model; the shipped one is in the repository's pretrained/vivax, which is not here")
    return found


def load_detector(folder: Path, engine: str | None = None) -> tuple[Detector, ModelDescription]:
    """Load a model folder.

    Args:
        folder: as training or `export` wrote it.
        engine: what runs the networks, one of `engines.ENGINES`; None: what the folder holds them for. Other engines than
            Keras are looked for in the folder and in its subfolder of the engine's name.

    Raises:
        InputError: see `load_description`; also a network that cannot be loaded or answers otherwise than when saved.
    """
    folder, engine = _with_engine(folder, engine)
    description, golden = load_description(folder)

    def network(file: str) -> Network:
        if engine != KERAS:
            return exported_network(folder, Path(file).stem, engine)
        model = load_network(folder / file)
        return compiled_centres(model) if file == PROPOSER else compiled(model)

    main = [network(file) for file in description.files]
    try:
        found = golden_output(main, description)
    except Exception as error:  # each engine raises its own
        size = " x ".join(map(str, description.image_size_hw))
        raise InputError(
            f"{folder / ABOUT}: image_size_hw: {' and '.join(description.files)} cannot be given {size} pixels ({reason(error)}); "
            "put the value right, copy or train the model again"
        ) from error
    if found.shape != golden.shape or np.abs(found - golden).max() > GOLDEN_TOLERANCE * max(np.abs(golden).max(), 1) / len(main):
        raise InputError(
            f"{folder}: the network of {' and '.join(description.files)} does not answer as when it was saved; it is not that of {ABOUT}"
        )
    if description.detector != "two_stage":
        return assemble_one_stage(description, main[0]), description
    has_proposer = description.proposals == "learned" or (engine == KERAS and (folder / PROPOSER).is_file())
    return assemble(description, main, network(PROPOSER) if has_proposer else None), description


def _with_engine(folder: Path, engine: str | None) -> tuple[Path, str]:
    """The folder that holds the networks for an engine, and the engine where none was named."""
    stems = {Path(CLASSIFIER).stem, Path(ONE_STAGE).stem}
    here = next((found for stem in stems if (found := find_exported(folder, stem))), None)
    if engine is None:
        return folder, here or KERAS
    if engine == KERAS or here == engine or not folder.is_dir():
        return folder, engine
    if any(find_exported(folder / engine, stem) == engine for stem in stems):
        return folder / engine, engine
    if engine not in ENGINES:
        raise InputError(f"engine: {engine} is unknown{nearest(engine, ENGINES)}; expected one of {', '.join(ENGINES)}")
    raise InputError(
        f"--engine {engine}: {folder} has not been exported for it; do so once: malaria-cells export --model {folder} --format {engine}"
    )


def assemble_one_stage(description: ModelDescription, network) -> OneStageDetector:  # type: ignore[no-untyped-def]
    """Put a one-stage detector together from a description and a network (see `OneStageDetector.network`)."""
    return OneStageDetector(
        network, description.image_size_hw, description.labels, settings=description.settings, errors=description.errors
    )


def assemble(description: ModelDescription, networks: Sequence[Network], centres: CentreNetwork | None = None) -> TwoStageDetector:
    """Put a detector together from a description, the networks of `ModelDescription.files`, and one of learned proposals."""
    classifier = PatchClassifier(
        description.labels,
        description.rejects,
        description.image_size_hw,
        description.context,
        description.calibration,
        networks[0],
        networks[1] if len(networks) > 1 else None,
        description.second_look_size_hw,
    )
    proposer = Proposer(description.proposals, description.cell_size, description.box_margins, centres, description.proposer_tta)
    return TwoStageDetector(proposer, classifier, settings=description.settings, errors=description.errors)


def compiled_centres(model) -> CentreNetwork:  # type: ignore[no-untyped-def]
    """Wrap the Keras model of the learned proposals as one graph for pictures of any size."""
    return graph_of(model, (1, None, None, 3))


def load_network(path: Path):  # type: ignore[no-untyped-def]
    """Load a Keras model without running code from the file: ``.keras``, or ``.h5`` of Keras 2 (see `keras2`).

    Raises:
        InputError: no such file, or no such model.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    start_tensorflow()
    import keras

    if path.name == ONE_STAGE:
        import malaria_cells.models.one_stage  # noqa: F401  registers the layers that the file names
    if path.suffix.lower() in {".h5", ".hdf5"}:
        return load_keras2(path)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever the broken part raises
        other = _of_another_keras(path, keras.__version__)
        raise InputError(f"{path}: not a Keras model that can be loaded{other}: {reason(error)}") from error


def _of_another_keras(path: Path, installed: str) -> str:
    """Say which Keras wrote a ``.keras`` file where it is not the installed one; nothing where that is not to be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            written = json.loads(archive.read("metadata.json"))["keras_version"]
    except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError):
        return ""
    return "" if written == installed else f" (it was written by Keras {written}, installed is {installed}: pip install keras=={written})"
