"""Reads and writes ``model.yaml``: the description of a model's networks, validated, and what the networks are verified by."""

import importlib.metadata
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import TypeAdapter, ValidationError

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.text import shortened
from malaria_cells.base.yaml_text import load_yaml
from malaria_cells.inference.classifier import Network
from malaria_cells.inference.decision import DetectionSettings
from malaria_cells.inference.error_rates import MAX_NUMBER
from malaria_cells.inference.former_names import with_present_names
from malaria_cells.inference.model_description import ABOUT, ModelDescription, golden_output, plain
from malaria_cells.models.stored.checksums import checksums
from malaria_cells.proposals import check_method

FORMAT_VERSION = 2
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
    "inference",
    "screening",
}
MAX_FAULT = 1000  # characters of what is wrong in an error message; it may quote what the file holds
MAX_SCAN = 1000  # number of crops of an image, and of augmented views of each crop
LIBRARIES = ("malaria-cells", "tensorflow", "keras", "numpy", "opencv-python-headless", "pillow", "scikit-learn")


def save_description(
    folder: Path, networks: Sequence[Network], description: ModelDescription, made_from: Mapping[str, str] | None = None
) -> None:
    """Write ``model.yaml`` for networks whose files are in the folder, with their golden output and the files' checksums.

    Args:
        folder: an existing folder.
        networks: the main networks.
        description: the content but for what is computed here.
        made_from: of an export that answers as the original: checksums of the Keras files that it was made from, by name.
    """
    content = {
        "format_version": FORMAT_VERSION,
        **plain(asdict(description)),
        "preprocessing": "RGB pixels 0 to 255; squares cut with `context`, reflected at the border, resized; scaling is inside the network",
        "libraries": _versions(),
        "golden_output": [[round(float(v), 6) for v in row] for row in golden_output(networks, description)],
        "files": checksums(folder),
        **({"made_from": dict(made_from)} if made_from else {}),
    }
    (folder / ABOUT).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def list_files(folder: Path, written: Sequence[str]) -> None:
    """Enter the checksums of files that were written beside the networks of a model folder into its ``model.yaml``."""
    content = load_yaml(folder / ABOUT)
    found = checksums(folder)
    content["files"] = dict(sorted({**(content.get("files") or {}), **{name: found[name] for name in written}}.items()))
    with files.replacing(folder / ABOUT) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


@dataclass(frozen=True)
class NetworkReference:
    """Reference values in ``model.yaml`` by which the networks are verified.

    Attributes:
        golden: mean output of the networks on fixed pixels, see `golden_output`.
        files: SHA-256 of the networks' files by name; empty in older folders.
        made_from: of an export, SHA-256 of the Keras files that it was made from; empty in older and in eight-bit exports.
    """

    golden: np.ndarray
    files: dict[str, str]
    made_from: dict[str, str] = field(default_factory=dict)


def load_description(folder: Path) -> tuple[ModelDescription, np.ndarray]:
    """Read ``model.yaml``: the description and the golden output.

    Raises:
        InputError: the folder is not a model folder, or ``model.yaml`` is damaged or of another format version.
    """
    description, reference = load_with_reference(folder)
    return description, reference.golden


def load_with_reference(folder: Path) -> tuple[ModelDescription, NetworkReference]:
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
    return InputError(f"{path}: damaged ({shortened(fault, MAX_FAULT)}); copy or train the model again")


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
    checksums_of = TypeAdapter(dict[str, str]).validate_python
    return NetworkReference(
        np.array(golden, dtype=np.float32), checksums_of(content.get("files") or {}), checksums_of(content.get("made_from") or {})
    )


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
    if description.screening is not None:
        description.screening.check(len(description.labels))
    errors, scan = description.errors, description.scan
    if errors is not None:
        errors.check("errors")
    for name, set_errors in (description.errors_elsewhere or {}).items():
        set_errors.check(f"errors_elsewhere.{name}")
    if scan is not None and (set(scan) != {"runs", "scan"} or not all(1 <= n <= MAX_SCAN for n in scan.values())):
        raise ValueError(f"scan: found {_shortened(scan)}, expected runs and scan from 1 to {MAX_SCAN}")
    return description


def _versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
