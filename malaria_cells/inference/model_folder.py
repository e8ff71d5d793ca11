"""A trained model on disk: everything a prediction needs, checked at load.

``classifier.keras`` holds the network (``detector.keras`` a one-stage one), ``refiner.keras`` the refiner, which is asked where
the first has a hint of an infection, ``model.yaml`` all the rest. Loading runs no code from the folder (Keras' own layers alone, see
`architecture`; no pickles; a SavedModel only by name and if it does nothing but compute, see `saved_model`) and compares the
networks' answer on fixed pixels, and the checksums of their files, with those from when they were saved. A folder that `export` wrote
holds the networks in another format and the same ``model.yaml``.
"""

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base.errors import InputError, nearest, reason
from malaria_cells.base.shipped import shipped_path
from malaria_cells.base.tensorflow_setup import to_inference_function
from malaria_cells.inference.classifier import Network, PatchClassifier, inference_function
from malaria_cells.inference.detector import Detector, TwoStageDetector
from malaria_cells.inference.engines import ENGINES, KERAS, SAVED_MODEL, exported_network, find_exported
from malaria_cells.inference.model_description import (
    ABOUT,
    CLASSIFIER,
    ONE_STAGE,
    ModelDescription,
    golden_output,
    load_whole_description,
    save_description,
)
from malaria_cells.inference.one_stage_detector import OneStageDetector
from malaria_cells.models.stored.checksums import check_checksums
from malaria_cells.models.stored.keras_files import load_network
from malaria_cells.proposals import CentreNetwork, Proposer
from malaria_cells.proposals.learned.prediction import MULTIPLE, STRIDE

PROPOSER = "proposer.keras"
# Other processors and library versions round otherwise; a wrong file is off by far more.
GOLDEN_TOLERANCE = 2e-3
SIGNIFICANT_BITS = 12  # of float32's 24; float16 has 11


def save_model(folder: Path, networks: Sequence[Any], description: ModelDescription, proposer: Any = None) -> None:
    """Write the networks, ``model.yaml`` and, if there is one, ``proposer.keras`` into an existing folder.

    Args:
        folder: where to.
        networks: the Keras models of the classifier and the refiner, or that of a one-stage detector.
        description: the rest.
        proposer: the Keras model of the learned proposals (`models.centres`), or None.
    """
    for network, file in zip(networks, description.files, strict=True):
        _save_plain(network, folder / file)
    if proposer is not None:
        _save_plain(proposer, folder / PROPOSER)
    save_description(folder, [inference_function(network) for network in networks], description)


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
    found = shipped_path("pretrained", "thin_smear")
    if not found.exists():
        raise InputError("--model: name a model; the shipped one is in the repository's pretrained/thin_smear, which is not here")
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
    description, kept = load_whole_description(folder)
    has_proposer = description.detector == "two_stage" and (
        description.proposals == "learned" or (engine == KERAS and (folder / PROPOSER).is_file())
    )
    stems = [Path(file).stem for file in (*description.files, *([PROPOSER] if has_proposer else []))]
    if engine != KERAS:  # before a library that checks nothing by itself sees the files; a .keras file holds checksums of its own
        check_checksums(folder, kept.files, stems, ABOUT)

    def network(file: str) -> Network:
        if engine != KERAS:
            return exported_network(folder, Path(file).stem, engine)
        model = load_network(folder / file)
        return _in_use(folder / file, model)

    main = [network(file) for file in description.files]
    _check_answers(folder, main, description, kept.golden)
    if engine == KERAS:
        check_checksums(folder, kept.files, stems, ABOUT)
    if description.detector != "two_stage":
        return assemble_one_stage(description, main[0]), description
    centres = network(PROPOSER) if has_proposer else None
    if centres is not None:
        _check_centres(folder, centres)
    return assemble(description, main, centres), description


def _in_use(path: Path, model: Any) -> Network:
    """A Keras model as one graph, if it is of one image and one answer."""
    try:
        return proposal_inference_function(model) if path.name == PROPOSER else inference_function(model)
    except Exception as error:  # Keras and TensorFlow raise whatever stops a layer
        raise InputError(f"{path}: expected a network of one image and one answer; it cannot be used so: {reason(error)}") from error


def _check_answers(folder: Path, main: Sequence[Network], description: ModelDescription, golden: np.ndarray) -> None:
    """See that the main networks answer as when they were saved, and for as many classes as there are labels."""
    files = " and ".join(description.files)
    try:
        found = golden_output(main, description)
    except Exception as error:  # each engine raises its own
        size = " x ".join(map(str, description.image_size_hw))
        raise InputError(
            f"{folder / ABOUT}: image_size_hw: {files} cannot be given {size} pixels ({reason(error)}); "
            "put the value right, copy or train the model again"
        ) from error
    tolerance = GOLDEN_TOLERANCE * max(np.abs(golden).max(), 1) / len(main)
    # Written so that an answer which is no number (NaN) is refused too.
    if found.shape != golden.shape or not np.abs(found - golden).max() <= tolerance:
        raise InputError(f"{folder}: the network of {files} does not answer as when it was saved; it is not that of {ABOUT}")
    n = len(description.labels)
    n_classes = n + description.has_background
    expected = {4 + n} if description.detector != "two_stage" else {n_classes} | ({1} if n_classes == 2 else set())
    if found.shape[1] not in expected:
        raise InputError(
            f"{folder / ABOUT}: labels: {n} names{' and background' if description.has_background else ''} are not what the network of "
            f"{files} tells apart, whose answers have {found.shape[1]} columns; put them right, copy or train the model again"
        )


def _check_centres(folder: Path, centres: CentreNetwork) -> None:
    """See that the network of the learned proposals gives what it should for a small image."""
    name = Path(PROPOSER).stem
    try:
        grid = centres(np.full((1, 4 * STRIDE * MULTIPLE, 4 * STRIDE * MULTIPLE, 3), 200, dtype=np.uint8))
    except Exception as error:  # each engine raises its own
        raise InputError(f"{folder}: its {name} cannot be given an image ({reason(error)}); copy or train the model again") from error
    if grid.shape != (1, 4 * MULTIPLE, 4 * MULTIPLE, 5) or not np.isfinite(grid).all():
        raise InputError(
            f"{folder}: its {name} answers {grid.shape}, or with what is no number; expected 5 values for each place, as a network of "
            "learned proposals gives; copy or train the model again"
        )


def _with_engine(folder: Path, engine: str | None) -> tuple[Path, str]:
    """The folder that holds the networks for an engine, and the engine where none was named."""
    stems = {Path(CLASSIFIER).stem, Path(ONE_STAGE).stem}
    here = next((found for stem in stems if (found := find_exported(folder, stem))), None)
    if engine is None:
        if here == SAVED_MODEL and not any((folder / file).is_file() for file in (CLASSIFIER, ONE_STAGE)):
            raise InputError(
                f"{folder}: holds a SavedModel, whose graph is a program; it is loaded only where that is asked for by name "
                "(--engine savedmodel), and only if its operations do nothing but compute"
            )
        return folder, KERAS if here in {None, SAVED_MODEL} else here
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
    return OneStageDetector(network, description.image_size_hw, description.labels, **_shared(description))


def assemble(description: ModelDescription, networks: Sequence[Network], centres: CentreNetwork | None = None) -> TwoStageDetector:
    """Put a detector together from a description, the networks of `ModelDescription.files`, and one of learned proposals."""
    classifier = PatchClassifier(
        description.labels,
        description.has_background,
        description.image_size_hw,
        description.context,
        description.calibration,
        networks[0],
        networks[1] if len(networks) > 1 else None,
        description.refiner_size_hw,
    )
    proposer = Proposer(
        description.proposals,
        description.cell_size,
        description.box_margins,
        centres,
        description.proposer_tta,
        cell_sizes=tuple(description.cell_sizes.values()),
    )
    return TwoStageDetector(proposer, classifier, description.stain, description.unfamiliar, **_shared(description))


def _shared(description: ModelDescription) -> dict[str, Any]:
    """What every kind of detector has from its description."""
    return {
        "settings": description.settings,
        "errors": description.errors,
        "errors_elsewhere": description.errors_elsewhere,
        "known": description.familiarity,
        "measured_cell_size": description.cell_size,
    }


def proposal_inference_function(model) -> CentreNetwork:  # type: ignore[no-untyped-def]
    """Wrap the Keras model of the learned proposals as one graph for images of any size."""
    return to_inference_function(model, (1, None, None, 3))
