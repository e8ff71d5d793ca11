"""Description of the networks in a model folder: ``model.yaml``, validated when it is read."""

import hashlib
import importlib.metadata
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import Field, TypeAdapter, ValidationError

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.yaml_text import load_yaml
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.stain import Normalization
from malaria_cells.inference.calibration import Calibration
from malaria_cells.inference.classifier import Network
from malaria_cells.inference.counting import MAX_NUMBER, ErrorRates
from malaria_cells.inference.detector import DetectionSettings
from malaria_cells.inference.familiarity import FamiliarityModel
from malaria_cells.inference.former_names import with_present_names
from malaria_cells.inference.unfamiliar import UnfamiliarSigmoid
from malaria_cells.models.stored.checksums import checksums
from malaria_cells.proposals import Margins, check_method

FORMAT_VERSION = 2
CLASSIFIER = "classifier.keras"
ONE_STAGE = "detector.keras"
ABOUT = "model.yaml"
# Keys that models saved by older versions lack.
NEWER = {
    "proposer_tta",
    "refiner",
    "refiner_size_hw",
    "stain",
    "cell_sizes",
    "adapted_from",
    "familiarity",
    "errors_elsewhere",
    "terms",
    "unfamiliar",
    "refiner_file",
}
Positive = Annotated[float, Field(gt=0)]
CellSize = Annotated[float, Field(ge=1)]  # pixels
Pixels = Annotated[int, Field(gt=0, le=4096)]
MAX_SCAN = 1000  # number of crops of an image, and of augmented views of each crop
LIBRARIES = ("malaria-cells", "tensorflow", "keras", "numpy", "opencv-python-headless", "pillow", "scikit-learn")


@dataclass(frozen=True)
class ModelDescription:
    """The content of ``model.yaml`` except for library versions, the golden output and checksums.

    Attributes:
        labels: the classes.
        model: name of the architecture.
        has_background: whether the network has a background class after the labels.
        image_size_hw: height and width of the classifier's input in pixels.
        context: side of the square that is cropped around a box, as a multiple of the box's longer side.
        cell_size: median longer side of a cell in the training images in pixels; None if they had no boxes.
        proposals: proposal method.
        box_margins: box offsets of the proposer, see `proposals.Proposer`.
        settings: thresholds and options of the decision.
        calibration: calibration of the probabilities.
        fingerprints: hashes of data and config, by name.
        seed: `random_state` of the training.
        detector: ``two_stage``, or a kind of `models.one_stage`; the input size of the latter is `image_size_hw`.
        errors: error rates on the validation images, or None.
        scan: `runs` and `scan` of the test-time augmentation of whole images, or None.
        proposer_tta: number of mirrored views that the learned proposals are averaged over, 1, 2 or 4.
        refiner: name of the refiner's architecture, or None.
        refiner_size_hw: height and width of the refiner's input in pixels; None: as the classifier's.
        stain: normalization of an image before any network, see `stain`.
        cell_sizes: `cell_size` of each data set by its name, if the model was trained on several.
        adapted_from: `name` and `fingerprint` of the model from which the training started, or None.
        errors_elsewhere: error rates on each data set, measured by a training that left the data set out; or None.
        familiarity: appearance of the training images, or None.
        unfamiliar: from evidence to the probability of infection on images unlike all training images with infected cells, measured by
            trainings that left data sets out; or None.
        terms: terms of use of the weights; None: unspecified.
        refiner_file: name of the refiner's file, which differs in older folders.
    """

    labels: LabelSet
    model: str
    has_background: bool
    image_size_hw: tuple[Pixels, Pixels]
    context: Positive
    cell_size: CellSize | None
    proposals: str
    box_margins: dict[str, Margins]
    settings: DetectionSettings
    calibration: Calibration
    fingerprints: dict[str, str]
    seed: int
    scan: dict[str, int] | None = None
    errors: ErrorRates | None = None
    detector: Literal["two_stage", "yolo", "retinanet"] = "two_stage"
    proposer_tta: Literal[1, 2, 4] = 1
    refiner: str | None = None
    refiner_size_hw: tuple[Pixels, Pixels] | None = None
    stain: Normalization = "none"
    cell_sizes: dict[str, CellSize] = field(default_factory=dict)
    adapted_from: dict[str, str] | None = None
    errors_elsewhere: dict[str, ErrorRates] | None = None
    familiarity: FamiliarityModel | None = None
    unfamiliar: UnfamiliarSigmoid | None = None
    terms: str | None = None
    refiner_file: Literal["refiner.keras", "second_look.keras"] = "refiner.keras"

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the main networks' files."""
        if self.detector != "two_stage":
            return (ONE_STAGE,)
        return (CLASSIFIER, self.refiner_file) if self.refiner else (CLASSIFIER,)


def save_description(folder: Path, networks: Sequence[Network], description: ModelDescription) -> None:
    """Write ``model.yaml`` for networks whose files are in the folder, with their golden output and the files' checksums."""
    content = {
        "format_version": FORMAT_VERSION,
        **plain(asdict(description)),
        "preprocessing": "RGB pixels 0 to 255; squares cut with `context`, reflected at the border, resized; scaling is inside the network",
        "libraries": _versions(),
        "golden_output": [[round(float(v), 6) for v in row] for row in golden_output(networks, description)],
        "files": checksums(folder),
    }
    (folder / ABOUT).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


@dataclass(frozen=True)
class NetworkReference:
    """Reference values in ``model.yaml`` by which the networks are verified.

    Attributes:
        golden: mean output of the networks on fixed pixels, see `golden_output`.
        files: SHA-256 of the networks' files by name; empty in older folders.
    """

    golden: np.ndarray
    files: dict[str, str]


def load_description(folder: Path) -> tuple[ModelDescription, np.ndarray]:
    """Read ``model.yaml``: the description and the golden output.

    Raises:
        InputError: the folder is not a model folder, or ``model.yaml`` is damaged or of another format version.
    """
    description, reference = load_whole_description(folder)
    return description, reference.golden


def load_whole_description(folder: Path) -> tuple[ModelDescription, NetworkReference]:
    """Read ``model.yaml``: the description, and the reference values by which the networks are verified.

    Raises:
        InputError: see `load_description`.
    """
    path = folder / ABOUT
    if not path.is_file():
        if (previous := files.former(folder)) is not None:
            raise InputError(f"{folder}: writing a new model was interrupted; the previous model is now {previous}; move it back")
        raise InputError(f"{folder}: not a model folder, {ABOUT} is missing; train.py writes one, below `output_models`")
    try:
        content = load_yaml(path)
    except InputError as error:
        raise _damaged(path, str(error).removeprefix(f"{path}: ")) from error
    if not isinstance(content, dict) or "format_version" not in content:
        raise _damaged(path, "found no format_version")
    version = content["format_version"]
    if version != FORMAT_VERSION:
        raise InputError(f"{path}: format {str(version)[:20]}, this version reads {FORMAT_VERSION}; {_remedy(version)}")
    try:
        content = with_present_names(content)
        _check_numbers(content)
        description = _description(content)
        _check_method(path, description.proposals)
        return description, _reference(content)
    except InputError:
        raise
    except ValidationError as error:
        errors = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}, found {_shortened(e['input'])}" for e in error.errors()[:5])
        raise InputError(f"{path}: {'; '.join(errors)}; put the value right, copy or train the model again") from None
    except KeyError as error:
        raise _damaged(path, f"{error!r}: a key is missing") from error
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise _damaged(path, repr(error)) from error


def _check_method(path: Path, name: str) -> None:
    try:
        check_method(name)
    except InputError as error:
        raise InputError(f"{path}: {error}; put the value right, or install the plugin that adds the method") from error


def _damaged(path: Path, fault: str) -> InputError:
    return InputError(f"{path}: damaged ({fault}); copy or train the model again")


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}.."


def _check_numbers(content: dict[Any, Any]) -> None:
    """Check that no number is NaN, infinite or huge: with such a threshold a model would silently detect nothing, or everything."""
    for key, value in _numbers({k: v for k, v in content.items() if k != "seed"}, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key}: found {value}, expected a finite number")
        if abs(value) > MAX_NUMBER:
            raise ValueError(f"{key}: found {_shortened(value)}, expected at most {MAX_NUMBER:.0e}")


def _numbers(part: Any, key: str) -> Iterator[tuple[str, int | float]]:
    if isinstance(part, int | float):
        yield key, part
    elif isinstance(part, list | dict):
        for name, value in part.items() if isinstance(part, dict) else enumerate(part):
            yield from _numbers(value, f"{key}.{name}".lstrip("."))


def _reference(content: dict[str, Any]) -> NetworkReference:
    golden = TypeAdapter(list[list[float]]).validate_python(content["golden_output"])
    if not golden or len({len(row) for row in golden}) != 1:
        raise ValueError("golden_output: expected rows of equal length")
    return NetworkReference(np.array(golden, dtype=np.float32), TypeAdapter(dict[str, str]).validate_python(content.get("files") or {}))


def _remedy(version: object) -> str:
    return "update malaria-cells" if isinstance(version, int) and version > FORMAT_VERSION else "train the model again"


def _description(content: dict[str, Any]) -> ModelDescription:
    for part, kind in ((content, ModelDescription), (content["settings"], DetectionSettings)):
        if not isinstance(part, dict):
            raise TypeError(f"settings: expected keys and values, found {_shortened(part)}")
        missing = {f.name for f in fields(kind)} - part.keys() - NEWER
        if missing:
            raise KeyError(*sorted(missing))
    description = TypeAdapter(ModelDescription).validate_python(content)
    calibration, n_classes = description.calibration, len(description.labels) + description.has_background
    for key, values in (
        ("log_prior_ratio", calibration.log_prior_ratio),
        ("infection.classes", calibration.infection.classes if calibration.infection else None),
    ):
        if values is not None and len(values) != n_classes:
            raise ValueError(f"calibration.{key} has {len(values)} values, but there are {n_classes} classes")
    errors, scan = description.errors, description.scan
    if errors is not None:
        errors.check("errors")
    for name, set_errors in (description.errors_elsewhere or {}).items():
        set_errors.check(f"errors_elsewhere.{name}")
    if scan is not None and (set(scan) != {"runs", "scan"} or not all(1 <= n <= MAX_SCAN for n in scan.values())):
        raise ValueError(f"scan: found {_shortened(scan)}, expected runs and scan from 1 to {MAX_SCAN}")
    return description


def file_fingerprint(text: str) -> str:
    """Short hash of a text."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def golden_output(networks: Sequence[Network], description: ModelDescription) -> np.ndarray:
    """Mean output of the networks on four fixed patches or, of a one-stage detector, in four grid cells of one image: float32 (4, k)."""
    sizes_hw = [description.image_size_hw, description.refiner_size_hw or description.image_size_hw]
    n_images = 4 if description.detector == "two_stage" else 1
    outputs = [network(golden_pixels((n_images, *size_hw, 3))) for network, size_hw in zip(networks, sizes_hw, strict=False)]
    if description.detector == "two_stage":
        return np.mean(outputs, axis=0)
    grid = outputs[0][0]
    return grid[:: len(grid) // 4][:4]


def golden_pixels(shape: tuple[int, ...]) -> np.ndarray:
    """The fixed pixels of `golden_output`, uint8: the bytes of PCG64's first integers, which NumPy promises never to change.

    Examples:
        >>> golden_pixels((2, 3)).tolist()
        [[95, 130, 194], [217, 207, 235]]
    """
    integers = np.random.PCG64(0).random_raw(-(-math.prod(shape) // 8))
    return integers.astype("<u8").view(np.uint8)[: math.prod(shape)].reshape(shape)


def _versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def plain(value: Any) -> Any:
    """Convert tuples to lists and NumPy scalars to Python numbers, for YAML and JSON."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
