"""Model folders: a trained detector on disk, which is verified when it is loaded.

``classifier.keras`` holds the classifier (``detector.keras`` a one-stage detector), ``refiner.keras`` the second-stage classifier of
uncertain cells, ``proposer.keras`` the network of the learned proposals, and ``model.yaml`` everything else. Loading runs no code from
the folder: only Keras' own layers are accepted (see `architecture`), no pickles, and a SavedModel only on request and if it does nothing
but compute (see `saved_model`). The networks' output on fixed pixels and the checksums of their files are compared with those from when
they were saved. A folder that `export` wrote holds the networks in another format and the same ``model.yaml``.
"""

import logging
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base.errors import InputError, nearest, reason
from malaria_cells.base.shipped import shipped_path
from malaria_cells.inference.answers import check_answers, check_centres
from malaria_cells.inference.assembly import assemble, assemble_one_stage, proposal_inference_function
from malaria_cells.inference.classifier import Cascade, Network, inference_function
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.engine_choice import AUTO, fastest_first, ready_engines, stems_of, why_unusable
from malaria_cells.inference.engines import ENGINES, KERAS, SAVED_MODEL, engine_names, exported_network, find_exported
from malaria_cells.inference.model_description import ABOUT, CLASSIFIER, ONE_STAGE, ModelDescription
from malaria_cells.inference.model_yaml import load_with_reference, save_description
from malaria_cells.models.stored.checksums import check_checksums
from malaria_cells.models.stored.keras_files import load_network

log = logging.getLogger(__name__)

PROPOSER = "proposer.keras"
SIGNIFICANT_BITS = 12  # bits of a weight's mantissa that are saved; float32 has 24, float16 has 11


def save_model(folder: Path, networks: Sequence[Any], description: ModelDescription, proposer: Any = None) -> None:
    """Write the networks, ``model.yaml`` and, if there is one, ``proposer.keras`` into an existing folder.

    Args:
        folder: an existing folder.
        networks: Keras models of the files in `ModelDescription.files`: the classifier and any refiner, or a one-stage detector.
        description: content of ``model.yaml``.
        proposer: the Keras model of the learned proposals (`proposals.learned.centre_network`), or None.
    """
    for network, file in zip(networks, description.files, strict=True):
        _save_compact(network, folder / file)
    if proposer is not None:
        _save_compact(proposer, folder / PROPOSER)
    save_description(folder, [inference_function(network) for network in networks], description)


def _save_compact(model: Any, path: Path) -> None:
    """Save a Keras model without the optimizer's state, with rounded weights, in a compressed file.

    The optimizer's state is twice as large as the weights. Weights are rounded to `SIGNIFICANT_BITS`, in the model too, which makes the
    compressed file a third smaller. zlib's fastest level takes a fifth of the default level's time for 4 % more bytes.
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
    """Round float32 values to `SIGNIFICANT_BITS`."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(mantissa, SIGNIFICANT_BITS)), exponent - SIGNIFICANT_BITS).astype(np.float32)


def shipped() -> Path:
    """The folder of the shipped model.

    Raises:
        InputError: the package was installed without the shipped model.
    """
    folder = shipped_path("pretrained", "thin_smear")
    if not folder.exists():
        raise InputError(
            "model: this installation has no shipped model, which is in pretrained/thin_smear of the repository; name a model folder"
        )
    return folder


def load_detector(folder: Path, engine: str | None = None) -> tuple[Detector, ModelDescription]:
    """Load a model folder; see `load_by_engine`, whose first two values are returned."""
    detector, description, _ = load_by_engine(folder, engine)
    return detector, description


def load_by_engine(folder: Path, engine: str | None = None, threads: int | None = None) -> tuple[Detector, ModelDescription, str]:
    """Load a model folder.

    Args:
        folder: a folder that training or `export` wrote.
        engine: the inference engine, one of `engines.ENGINES`. The networks of an engine other than Keras may be in the folder or in its
            subfolder of the engine's name. ``auto``: the fastest that is there, see `engine_choice`; if its files cannot be used, a
            warning says why and the next is taken. None: Keras, or else the engine whose networks the folder holds.
        threads: at most so many for each call of a network, for programs that call it from several threads; see `Engine.open_with`.

    Returns:
        The detector, the content of ``model.yaml``, and the engine's name.

    Raises:
        InputError: see `load_description`; or a network cannot be loaded, or its output differs from when it was saved.
    """
    if engine == AUTO:
        return _load_fastest(folder, threads)
    folder, engine = _with_engine(folder, engine)
    return (*_load(folder, engine, threads), engine)


def _load_fastest(folder: Path, threads: int | None) -> tuple[Detector, ModelDescription, str]:
    has_keras = any((folder / file).is_file() for file in (CLASSIFIER, ONE_STAGE))
    choices = fastest_first(folder, ready_engines(folder), has_keras, _verified_networks)
    for left, choice in zip(reversed(range(len(choices))), choices, strict=True):
        try:
            return (*_load(choice.folder, choice.engine, threads), choice.engine)
        except InputError as error:
            if not left and not has_keras:
                raise
            log.warning(f"--engine auto: {choice.engine} is left out: {error}")
    folder, engine = _with_engine(folder, None)
    return (*_load(folder, engine, threads), engine)


def _verified_networks(engine: str, folder: Path) -> dict[str, Network]:
    """Open the networks of an engine in a model folder by name, after a comparison of their files' checksums."""
    description, reference = load_with_reference(folder)
    stems = stems_of(description, description.detector == "two_stage" and description.proposals == "learned")
    _check_files(folder, engine, reference.files, stems)
    network = _opener(folder, engine, None)
    return {stem: network(f"{stem}.keras") for stem in stems}


def _check_files(folder: Path, engine: str, stored: dict[str, str], stems: Sequence[str]) -> None:
    """Compare the checksums of the files that an engine reads, and of Keras' files, from which they were made, where those are there."""
    left_out = {ENGINES[name].suffix for name in ENGINES if name != engine} - {""}
    if engine != "openvino":
        left_out.add(".bin")  # OpenVINO's weights
    if engine != KERAS and not any((folder / f"{stem}.keras").is_file() for stem in stems):
        left_out.add(".keras")
    check_checksums(folder, stored, stems, ABOUT, left_out)


def _opener(folder: Path, engine: str, threads: int | None) -> Callable[[str], Network]:
    """Return a function that opens a network by the name of its Keras file."""
    if engine != KERAS:
        return lambda file: exported_network(folder, Path(file).stem, engine, threads)
    return lambda file: _compiled(folder / file, load_network(folder / file))


def _load(folder: Path, engine: str, threads: int | None) -> tuple[Detector, ModelDescription]:
    """Load a folder that holds the networks of an engine."""
    description, reference = load_with_reference(folder)
    has_proposer = description.detector == "two_stage" and (
        description.proposals == "learned" or (engine == KERAS and (folder / PROPOSER).is_file())
    )
    stems = stems_of(description, has_proposer)
    if engine != KERAS:  # before a library that verifies nothing opens the files; a .keras file holds checksums of its own
        _check_files(folder, engine, reference.files, stems)
        if (reason_not := why_unusable(folder, engine, stems, reference)) is not None:
            raise InputError(reason_not)
    network = _opener(folder, engine, threads)
    main = [network(file) for file in description.files]
    check_answers(folder, main, description, reference.golden)
    if engine == KERAS:
        _check_files(folder, engine, reference.files, stems)
    if description.detector != "two_stage":
        return assemble_one_stage(description, main[0]), description
    centres = network(PROPOSER) if has_proposer else None
    if centres is not None:
        check_centres(folder, centres, description.screening is not None)
    cascade = Cascade(*main, refiner_size_hw=description.refiner_size_hw, refinement=description.inference.refinement)
    return assemble(description, cascade, centres), description


def _compiled(path: Path, model: Any) -> Network:
    """Compile a Keras model into one graph; it must have one image as input, and one output."""
    try:
        return proposal_inference_function(model) if path.name == PROPOSER else inference_function(model)
    except Exception as error:  # Keras and TensorFlow raise whatever stops a layer
        raise InputError(f"{path}: expected a network from one image to one output; it cannot be used: {reason(error)}") from error


def _with_engine(folder: Path, engine: str | None) -> tuple[Path, str]:
    """The folder with the networks of an engine, and the engine; None stands for the engine of the files in the folder."""
    stems = {Path(CLASSIFIER).stem, Path(ONE_STAGE).stem}
    present = next((exported for stem in stems if (exported := find_exported(folder, stem))), None)
    if engine is None:
        if any((folder / file).is_file() for file in (CLASSIFIER, ONE_STAGE)):
            return folder, KERAS
        if present == SAVED_MODEL:
            raise InputError(
                f"{folder}: holds a SavedModel, whose graph is a program; it is loaded only if this engine is requested "
                "(--engine savedmodel), and only if its operations do nothing but compute"
            )
        return folder, present or KERAS
    if engine == KERAS or any(find_exported(folder, stem, engine) for stem in stems) or not folder.is_dir():
        return folder, engine
    if any(find_exported(folder / engine, stem, engine) for stem in stems):
        return folder / engine, engine
    if engine not in ENGINES:
        known = ", ".join((*engine_names(), AUTO))
        raise InputError(f"engine: '{engine}' is unknown{nearest(engine, engine_names())}; expected one of {known}")
    raise InputError(
        f"engine: {engine}: {folder} has not been exported for it; export it once: malaria-cells export --model {folder} --format {engine}"
    )
