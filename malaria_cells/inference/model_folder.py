"""Model folders: a trained detector on disk, which is verified when it is loaded.

``classifier.keras`` holds the classifier (``detector.keras`` a one-stage detector), ``refiner.keras`` the second-stage classifier of
uncertain cells, ``proposer.keras`` the network of the learned proposals, and ``model.yaml`` everything else. Loading runs no code from
the folder: only Keras' own layers are accepted (see `architecture`), no pickles, and a SavedModel only on request and if it does nothing
but compute (see `saved_model`). The networks' output on fixed pixels and the checksums of their files are compared with those from when
they were saved. A folder that `export` wrote holds the networks in another format and the same ``model.yaml``.
"""

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base.errors import InputError, nearest, reason
from malaria_cells.base.shipped import shipped_path
from malaria_cells.inference.assembly import assemble, assemble_one_stage, proposal_inference_function
from malaria_cells.inference.classifier import Cascade, Network, inference_function
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.engines import ENGINES, KERAS, SAVED_MODEL, engine_names, exported_network, find_exported
from malaria_cells.inference.model_description import ABOUT, CLASSIFIER, ONE_STAGE, ModelDescription, golden_output
from malaria_cells.inference.model_yaml import load_with_reference, save_description
from malaria_cells.models.stored.checksums import check_checksums
from malaria_cells.models.stored.keras_files import load_network
from malaria_cells.proposals import CentreNetwork
from malaria_cells.proposals.learned.prediction import MULTIPLE, PLACE_CHANNELS, SCREENING_CHANNELS, STRIDE

PROPOSER = "proposer.keras"
# Tolerance of the output on fixed pixels. Other processors and library versions round differently; a wrong file differs by far more.
GOLDEN_TOLERANCE = 2e-3
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
    """Load a model folder.

    Args:
        folder: a folder that training or `export` wrote.
        engine: the inference engine, one of `engines.ENGINES`; None: the one that the folder's networks are for. The networks of an
            engine other than Keras may be in the folder or in its subfolder of the engine's name.

    Returns:
        The detector, and the content of ``model.yaml``.

    Raises:
        InputError: see `load_description`; or a network cannot be loaded, or its output differs from when it was saved.
    """
    folder, engine = _with_engine(folder, engine)
    description, reference = load_with_reference(folder)
    has_proposer = description.detector == "two_stage" and (
        description.proposals == "learned" or (engine == KERAS and (folder / PROPOSER).is_file())
    )
    stems = [Path(file).stem for file in (*description.files, *([PROPOSER] if has_proposer else []))]
    if engine != KERAS:  # before a library that verifies nothing opens the files; a .keras file holds checksums of its own
        check_checksums(folder, reference.files, stems, ABOUT)

    def network(file: str) -> Network:
        if engine != KERAS:
            return exported_network(folder, Path(file).stem, engine)
        model = load_network(folder / file)
        return _compiled(folder / file, model)

    main = [network(file) for file in description.files]
    _check_answers(folder, main, description, reference.golden)
    if engine == KERAS:
        check_checksums(folder, reference.files, stems, ABOUT)
    if description.detector != "two_stage":
        return assemble_one_stage(description, main[0]), description
    centres = network(PROPOSER) if has_proposer else None
    if centres is not None:
        _check_centres(folder, centres, description.screening is not None)
    cascade = Cascade(*main, refiner_size_hw=description.refiner_size_hw, refinement=description.inference.refinement)
    return assemble(description, cascade, centres), description


def _compiled(path: Path, model: Any) -> Network:
    """Compile a Keras model into one graph; it must have one image as input, and one output."""
    try:
        return proposal_inference_function(model) if path.name == PROPOSER else inference_function(model)
    except Exception as error:  # Keras and TensorFlow raise whatever stops a layer
        raise InputError(f"{path}: expected a network from one image to one output; it cannot be used: {reason(error)}") from error


def _check_answers(folder: Path, main: Sequence[Network], description: ModelDescription, golden: np.ndarray) -> None:
    """Check that the main networks' output on fixed pixels is as when they were saved, with a column for each class."""
    files = " and ".join(description.files)
    try:
        output = golden_output(main, description)
    except Exception as error:  # each engine raises its own exceptions
        size = " x ".join(map(str, description.image_size_hw))
        raise InputError(
            f"{folder / ABOUT}: image_size_hw: {files} cannot be given {size} pixels ({reason(error)}); "
            "put the value right, copy or train the model again"
        ) from error
    tolerance = GOLDEN_TOLERANCE * max(np.abs(golden).max(), 1) / len(main)
    # The comparison is negated so that NaN is refused too.
    if output.shape != golden.shape or not np.abs(output - golden).max() <= tolerance:
        raise InputError(f"{folder}: the output of {files} differs from when it was saved; copy the folder or train the model again")
    n = len(description.labels)
    n_classes = n + description.has_background
    expected = {4 + n} if description.detector != "two_stage" else {n_classes} | ({1} if n_classes == 2 else set())
    if output.shape[1] not in expected:
        raise InputError(
            f"{folder / ABOUT}: labels: found {n} names{' and background' if description.has_background else ''}, but the output of "
            f"{files} has {output.shape[1]} columns; put the labels right, copy or train the model again"
        )


def _check_centres(folder: Path, centres: CentreNetwork, screens: bool) -> None:
    """Check the output of the learned proposals' network for a small image: its shape, and that it is finite."""
    channels = PLACE_CHANNELS + SCREENING_CHANNELS if screens else PLACE_CHANNELS
    name = Path(PROPOSER).stem
    try:
        grid = centres(np.full((1, 4 * STRIDE * MULTIPLE, 4 * STRIDE * MULTIPLE, 3), 200, dtype=np.uint8))
    except Exception as error:  # each engine raises its own exceptions
        raise InputError(f"{folder}: its {name} cannot be given an image ({reason(error)}); copy or train the model again") from error
    if grid.shape != (1, 4 * MULTIPLE, 4 * MULTIPLE, channels) or not np.isfinite(grid).all():
        raise InputError(
            f"{folder}: the output of its {name} has the shape {grid.shape} or is not finite; expected {channels} finite values for each "
            f"cell of the grid, as of learned proposals with{'' if screens else 'out'} a screening head; copy or train the model again"
        )


def _with_engine(folder: Path, engine: str | None) -> tuple[Path, str]:
    """The folder with the networks of an engine, and the engine; None stands for the engine of the files in the folder."""
    stems = {Path(CLASSIFIER).stem, Path(ONE_STAGE).stem}
    present = next((exported for stem in stems if (exported := find_exported(folder, stem))), None)
    if engine is None:
        if present == SAVED_MODEL and not any((folder / file).is_file() for file in (CLASSIFIER, ONE_STAGE)):
            raise InputError(
                f"{folder}: holds a SavedModel, whose graph is a program; it is loaded only if this engine is requested "
                "(--engine savedmodel), and only if its operations do nothing but compute"
            )
        return folder, KERAS if present in {None, SAVED_MODEL} else present
    if engine == KERAS or present == engine or not folder.is_dir():
        return folder, engine
    if any(find_exported(folder / engine, stem) == engine for stem in stems):
        return folder / engine, engine
    if engine not in ENGINES:
        raise InputError(f"engine: '{engine}' is unknown{nearest(engine, engine_names())}; expected one of {', '.join(engine_names())}")
    raise InputError(
        f"engine: {engine}: {folder} has not been exported for it; export it once: malaria-cells export --model {folder} --format {engine}"
    )
