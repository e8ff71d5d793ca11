"""A trained model on disk: everything a prediction needs, checked at load.

``classifier.keras`` holds the network (``detector.keras`` a one-stage one), ``second_look.keras`` one that looks again where
the first has a hint of a finding, ``model.yaml`` all the rest. Loading runs no
code from the folder (Keras' safe mode, no pickles, no lambdas) and compares the network's answer on fixed pixels with the
one it gave when it was saved. A folder that `export` wrote holds the networks in another form and the same ``model.yaml``.
"""

import hashlib
import importlib.metadata
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from malaria_cells.calibration import Calibration
from malaria_cells.classifier import Network, PatchClassifier, compiled
from malaria_cells.counting import ErrorRates
from malaria_cells.detection import DetectionSettings, Detector, TwoStageDetector
from malaria_cells.engine import start_tensorflow
from malaria_cells.engines import KERAS, exported_network, find_exported
from malaria_cells.errors import InputError
from malaria_cells.keras2 import load_keras2
from malaria_cells.labels import LabelSet
from malaria_cells.one_stage import OneStageDetector
from malaria_cells.proposals import METHODS, CentreNetwork, Margins, Proposer

FORMAT_VERSION = 2
CLASSIFIER = "classifier.keras"
SECOND_LOOK = "second_look.keras"
PROPOSER = "proposer.keras"
ONE_STAGE = "detector.keras"
ABOUT = "model.yaml"
LIBRARIES = ("malaria-cells", "tensorflow", "keras", "numpy", "opencv-python-headless", "pillow", "scikit-learn")
# Other processors and library versions round otherwise; a wrong file is off by far more.
GOLDEN_TOLERANCE = 2e-3
SIGNIFICANT_BITS = 12  # of float32's 24; float16 has 11


@dataclass(frozen=True)
class ModelDescription:
    """The content of ``model.yaml``, but for versions and the golden output.

    Attributes:
        labels: the classes.
        model: name of the architecture.
        rejects: whether the network has a background class after the labels.
        image_size_hw: the classifier's input in pixels.
        context: side of the square cut around a box, as a multiple of its longer side.
        cell_size: usual longer side of a cell in the training pictures in pixels; None where there were no boxes.
        proposals: method that finds candidates.
        box_margins: see `proposals.Proposer`.
        settings: thresholds and the rest of the decision.
        calibration: of the probabilities.
        fingerprints: of data and config, by name.
        seed: `random_state` of the training.
        detector: ``two_stage``, or a kind of `models.one_stage`, whose input `image_size_hw` is then.
        errors: how often the detector was right about the validation pictures, or None.
        scan: `runs` and `scan` of a test-time augmentation of whole pictures, or None.
        proposer_tta: mirror images of a picture that the learned proposals are averaged over, 1, 2 or 4.
        second_look: name of the architecture that looks again where the first has a hint of a finding, or None.
    """

    labels: LabelSet
    model: str
    rejects: bool
    image_size_hw: tuple[int, int]
    context: float
    cell_size: float | None
    proposals: str
    box_margins: dict[str, Margins]
    settings: DetectionSettings
    calibration: Calibration
    fingerprints: dict[str, str]
    seed: int
    scan: dict[str, int] | None = None
    errors: ErrorRates | None = None
    detector: str = "two_stage"
    proposer_tta: int = 1
    second_look: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the main networks' files."""
        if self.detector != "two_stage":
            return (ONE_STAGE,)
        return (CLASSIFIER, SECOND_LOOK) if self.second_look else (CLASSIFIER,)


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


def save_description(folder: Path, networks: Sequence[Network], description: ModelDescription) -> None:
    """Write ``model.yaml`` for networks that are in the folder already, with their mean answer on fixed pixels."""
    content = {
        "format_version": FORMAT_VERSION,
        **_plain(asdict(description)),
        "preprocessing": "RGB pixels 0 to 255; squares cut with `context`, reflected at the border, resized; scaling is inside the network",
        "libraries": _versions(),
        "golden_output": [[round(float(v), 6) for v in row] for row in _golden_output(networks, description)],
    }
    (folder / ABOUT).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _save_plain(model: Any, path: Path) -> None:
    """Save without the optimizer's state, which is twice as large as the weights, and without bits that tell nothing.

    Weights are rounded to `SIGNIFICANT_BITS`, in the model too, and the file is compressed: it is a third smaller for it.
    """
    import keras

    for variable in model.variables:
        if variable.dtype == "float32":
            variable.assign(_rounded(np.asarray(variable)))
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.name
        keras.Model(model.inputs[0], model.outputs[0], name=model.name).save(plain)
        with zipfile.ZipFile(plain) as stored, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small:
            for name in stored.namelist():
                small.writestr(zipfile.ZipInfo(name), stored.read(name), zipfile.ZIP_DEFLATED)


def _rounded(values: np.ndarray) -> np.ndarray:
    """The nearest float32 of `SIGNIFICANT_BITS`."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(mantissa, SIGNIFICANT_BITS)), exponent - SIGNIFICANT_BITS).astype(np.float32)


def load_description(folder: Path) -> tuple[ModelDescription, np.ndarray]:
    """Read ``model.yaml``: the description and the golden output.

    Raises:
        InputError: no model folder, a newer format, or a damaged file.
    """
    path = folder / ABOUT
    if not path.is_file():
        raise InputError(f"{folder}: not a model folder, {ABOUT} is missing; train.py writes one, below `output_models`")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        version = content["format_version"]
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged ({error}); copy or train the model again") from error
    if version != FORMAT_VERSION:
        raise InputError(f"{path}: format {version}, this version reads {FORMAT_VERSION}; {_way_out(version)}")
    try:
        return _description(content), np.array(content["golden_output"], dtype=np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error!r}); copy or train the model again") from error


def _way_out(version: object) -> str:
    return "update malaria-cells" if isinstance(version, int) and version > FORMAT_VERSION else "train the model again"


def _description(content: dict[str, Any]) -> ModelDescription:
    calibration = content["calibration"]
    if content["proposals"] not in METHODS:
        raise ValueError(f"proposals: {content['proposals']}")
    return ModelDescription(
        labels=LabelSet(**{key: tuple(names) for key, names in content["labels"].items()}),
        model=content["model"],
        rejects=content["rejects"],
        image_size_hw=tuple(content["image_size_hw"]),
        context=content["context"],
        cell_size=content["cell_size"],
        proposals=content["proposals"],
        box_margins={source: tuple(margins) for source, margins in content["box_margins"].items()},
        settings=DetectionSettings(**{f.name: content["settings"][f.name] for f in fields(DetectionSettings)}),
        calibration=Calibration(calibration["temperature"], calibration["shift"], tuple(calibration["log_prior_ratio"])),
        fingerprints=content["fingerprints"],
        seed=content["seed"],
        scan=content["scan"],
        detector=content["detector"],
        errors=ErrorRates(**content["errors"]) if content["errors"] else None,
        proposer_tta=content.get("proposer_tta", 1),  # models of before there was a choice
        second_look=content.get("second_look"),
    )


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
    found = _golden_output(main, description)
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
        description.labels, description.rejects, description.image_size_hw, description.context, description.calibration, *networks
    )
    proposer = Proposer(description.proposals, description.cell_size, description.box_margins, centres, description.proposer_tta)
    return TwoStageDetector(proposer, classifier, settings=description.settings, errors=description.errors)


def compiled_centres(model) -> CentreNetwork:  # type: ignore[no-untyped-def]
    """Wrap the Keras model of the learned proposals as one graph for pictures of any size."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, None, None, 3), tf.uint8)])
    def graph(pixels):  # type: ignore[no-untyped-def]
        return model(tf.cast(pixels, tf.float32), training=False)

    return lambda pixels: np.asarray(graph(tf.constant(pixels)))


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
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not a Keras model that can be loaded: {reason}") from error


def file_fingerprint(text: str) -> str:
    """Short hash of a text."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _golden_output(networks: Sequence[Network], description: ModelDescription) -> np.ndarray:
    """What networks answer to fixed pixels, averaged: float32 (4, k); of a one-stage detector, that to four places of a picture."""
    shape = (*description.image_size_hw, 3)
    rng = np.random.default_rng(0)
    if description.detector == "two_stage":
        pixels = rng.integers(0, 256, (4, *shape), dtype=np.uint8)
        return np.mean([network(pixels) for network in networks], axis=0)
    places = networks[0](rng.integers(0, 256, (1, *shape), dtype=np.uint8))[0]
    return places[:: len(places) // 4][:4]


def _versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
