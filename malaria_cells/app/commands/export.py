"""``export``: writes the detector of a model folder for another engine."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.progress import progress
from malaria_cells.config import load_config
from malaria_cells.data.dataset import load_data_set
from malaria_cells.data.images import list_images, read_image
from malaria_cells.inference.answers import GOLDEN_TOLERANCE
from malaria_cells.inference.classifier import Network
from malaria_cells.inference.engine_choice import keras_files
from malaria_cells.inference.engines import ENGINES, SAVED_MODEL, Batches, exported_network, find_exported
from malaria_cells.inference.model_description import ABOUT, ModelDescription, golden_output
from malaria_cells.inference.model_folder import PROPOSER, load_detector
from malaria_cells.inference.model_yaml import list_files, load_with_reference, save_description
from malaria_cells.models.stored.checksums import NETWORKS, check_checksums
from malaria_cells.models.stored.keras_files import load_network

IMAGES = 40  # maximum number of calibration images for quantisation
PATCHES = 8  # candidates of each image drawn evenly, and as many of those least like the commonest class
# Networks that --int8 leaves in float32. On IML-Malaria's validation part OpenVINO's eight-bit proposer lost two points of cell AP50
# with each preset of nncf and was a tenth faster; eight-bit proposers of the other formats lost nothing. An eight-bit refiner with
# calibrated ranges lost two points of infected F1 on validation and test together, and is called for few cells; LiteRT's lost nothing.
FLOAT32_NETWORKS = {("openvino", "proposer"), ("openvino", "refiner"), ("onnx", "refiner")}

# Names of the files of exports but their networks, also of earlier versions. Python makes __pycache__ where modules are imported.
_MODULES = r"__init__|classification|decision|images|model|program|proposals|stain"
_EXPORTED = rf"example\.py|cells\.py|model\.yaml|config\.yaml|split\.json|(standalone/)?__pycache__|standalone|standalone/({_MODULES})\.py"


def default_folder(model: Path, format_name: str, int8: bool) -> Path:
    """Return the subfolder of a model that an export is written to where no folder is named."""
    return model / (f"{format_name}-int8" if int8 else format_name)


def export_beside(model: Path, format_name: str) -> int:
    """Write a detector's networks for another engine beside Keras' files, and their checksums into ``model.yaml``.

    ``--engine auto`` chooses among the engines whose files are there. If it is interrupted, the checksums tell.

    Args:
        model: folder that training wrote.
        format_name: one of `ENGINES` but for a SavedModel, which is not loaded unless asked for.

    Returns:
        Exit code.

    Raises:
        InputError: see `export`.
    """
    if not ENGINES[format_name].suffix:
        raise InputError(f"--beside: a {format_name} is a folder that is loaded on request alone; leave --beside out")
    description, stored = load_with_reference(model)
    _check_trained(model, description.files)
    names = _network_names(model, description, stored.files)
    with files.scratch_folder(model / format_name) as new_folder:
        for name in names:
            _write_network(model / name, new_folder, format_name, False, None)
        exported = [exported_network(new_folder, Path(file).stem, format_name) for file in description.files]
        _check_outputs(model, exported, description, stored.golden)
        written = sorted(path.name for path in new_folder.iterdir())
        for name in written:
            (new_folder / name).replace(model / name)
    list_files(model, written)
    size = sum((model / name).stat().st_size for name in written)
    print(f"{model}: {', '.join(written)}, {size / 2**20:.1f} MiB\nnext:  python run.py --model {model} --image IMAGES")
    return 0


def _network_names(model: Path, description: ModelDescription, stored: dict[str, str]) -> list[str]:
    """Names of the networks' files; the proposer's checksum is compared, the others are checked by their outputs."""
    if description.proposals != "learned" or description.detector != "two_stage":
        return [*description.files]
    check_checksums(model, stored, [Path(PROPOSER).stem], ABOUT, [ENGINES[name].suffix for name in ENGINES] + [".bin"])
    return [*description.files, PROPOSER]


def export(model: Path, format_name: str, int8: bool, image: str | None, output: Path | None) -> int:
    """Export a detector for another engine.

    Args:
        model: folder that training wrote.
        format_name: one of `ENGINES`.
        int8: whether to quantise.
        image: images to calibrate the quantisation on, for formats that need them (`Engine.needs_examples`); None: the training
            images.
        output: folder to write; None: a subfolder of `model`, named after the format.

    Returns:
        Exit code.

    Raises:
        InputError: the model does not exist or its networks' outputs differ from those stored at saving, the format cannot be quantised,
            images or a library are missing, or `output` holds other files.
    """
    from malaria_cells.export import EXAMPLE, quantized_formats, write_example

    description, stored = load_with_reference(model)
    if int8 and not ENGINES[format_name].quantizes:
        formats = ", ".join(quantized_formats())
        raise InputError(f"--int8: not available for --format {format_name}; choose one of {formats}, or leave --int8 out")
    _check_trained(model, description.files)
    output = output or default_folder(model, format_name, int8)
    _check_output(output)
    names = _network_names(model, description, stored.files)
    # Loading compares the networks' outputs with those stored at saving; without --int8 those of the exported networks are compared.
    detector = load_detector(model)[0] if int8 else None
    examples = _examples(detector, _images(model, image)) if ENGINES[format_name].needs_examples and detector is not None else {}
    with files.replacing_folder(output, EXAMPLE) as new_folder:
        for name in names:
            inputs = examples.get("classifier" if name == description.refiner_file else Path(name).stem)
            _write_network(model / name, new_folder, format_name, int8, inputs)
        exported = [exported_network(new_folder, Path(file).stem, format_name) for file in description.files]
        if not int8:
            _check_outputs(model, exported, description, stored.golden)
        made_from = None if int8 else keras_files(stored, [Path(name).stem for name in names])
        save_description(new_folder, exported, description, made_from)
        write_example(new_folder, description)
        for extra in ("config.yaml", "split.json"):
            if (model / extra).is_file():
                shutil.copyfile(model / extra, new_folder / extra)
    _print_uses(output, format_name, description)
    return 0


def _write_network(file: Path, folder: Path, format_name: str, int8: bool, inputs: Batches | None) -> None:
    """Write a network of a model folder in another format into a folder."""
    from malaria_cells.export import export_network

    quantize = int8 and (format_name, file.stem) not in FLOAT32_NETWORKS
    export_network(load_network(file), folder / file.stem, format_name, quantize, inputs)


def _print_uses(output: Path, format_name: str, description: ModelDescription) -> None:
    """Print the size of an exported folder, and the commands that use it."""
    from malaria_cells.export import EXAMPLE, runs_alone

    size = sum(f.stat().st_size for f in output.rglob("*") if f.is_file())
    engine = f" --engine {format_name}" if format_name == SAVED_MODEL else ""  # this engine is never chosen by default
    print(f"{output}: {size / 2**20:.1f} MiB\nnext:  python run.py --model {output}{engine} --image IMAGES")
    print(f"or, without Keras{'' if runs_alone(description) else ' but with this package'}:  python {output / EXAMPLE} IMAGE")


def _check_trained(model: Path, names: Sequence[str]) -> None:
    if (model / names[0]).is_file():
        return
    if find_exported(model, Path(names[0]).stem):
        raise InputError(f"--model {model}: is an export; name the folder that training wrote, which holds {names[0]}")
    raise InputError(f"--model {model}: holds no {names[0]}; copy or train the model again")


def _check_output(output: Path) -> None:
    """Check that the folder to write is new, empty or an earlier export without other files."""
    from malaria_cells.export import EXAMPLE

    parent = next((folder for folder in output.absolute().parents if folder.exists()), output)
    if not parent.is_dir():
        raise InputError(f"--output {output}: {parent} is a file; name a folder")
    files.check_replaceable(output, EXAMPLE)
    suffixes = "|".join(re.escape(ENGINES[name].suffix) for name in ENGINES)
    exported = re.compile(rf"({'|'.join(NETWORKS)})({suffixes}|\.onnx\.data|\.bin)|{_EXPORTED}")
    names = (p.relative_to(output).as_posix() for pattern in ("*", "standalone/*") for p in sorted(output.glob(pattern)))
    other = next((name for name in names if not exported.fullmatch(name)), None)
    if other:
        raise InputError(f"--output {output}: holds {other}, which no export wrote; move it, or name a new folder")


def _check_outputs(model: Path, exported: Sequence[Network], description: ModelDescription, golden: np.ndarray) -> None:
    """Check that the exported networks' outputs for a fixed input are those that the trained networks had when they were saved."""
    output = golden_output(exported, description)
    if output.shape != golden.shape or not np.abs(output - golden).max() <= GOLDEN_TOLERANCE * max(np.abs(golden).max(), 1) / len(exported):
        raise InputError(
            f"--model {model}: its {' and '.join(description.files)}, exported, do not answer as when they were saved, so nothing was "
            "written. Either the files are not those of its model.yaml, or the engine computes differently; copy or train the model "
            "again, or try another --format"
        )


def _images(model: Path, image: str | None) -> list[Path]:
    if image is not None:
        root, keys = list_images(image)
        paths = [root / key for key in keys]
    else:
        try:
            paths = [p.path for p in load_data_set(load_config(model / "config.yaml")).train.images]
        except InputError as error:
            raise InputError(
                f"--int8: needs images to calibrate the quantisation on, and the training images cannot be read ({error}); "
                "name images with --image IMAGES"
            ) from error
    return paths[:: max(len(paths) // IMAGES, 1)][:IMAGES]


def _examples(detector: Any, paths: list[Path]) -> dict[str, list[np.ndarray]]:
    """Inputs of each network for these images, by its name: float32 (1, H, W, 3) each."""
    from malaria_cells.data.patches import crop_boxes
    from malaria_cells.inference.one_stage_detector import OneStageDetector, letterbox
    from malaria_cells.proposals.learned.prediction import padded, to_working_scale

    inputs: dict[str, list[np.ndarray]] = {"classifier": [], "proposer": [], "detector": []}
    for path in progress(paths, len(paths), "reading images for --int8", "image"):
        image = read_image(path)
        if isinstance(detector, OneStageDetector):
            inputs["detector"].append(letterbox(image, detector.size_hw)[0])
            continue
        if detector.proposer.network is not None:
            inputs["proposer"].append(padded(to_working_scale(detector.prepared(image), detector.proposer.cell_size)))
        image = detector.prepared(image)
        candidates, _ = detector.proposer.candidates(image)
        if len(candidates):
            rows = _common_and_rare(detector.classify(image, candidates))
            patches = crop_boxes(image, candidates[rows], detector.classifier.context, detector.classifier.image_size_hw)
            inputs["classifier"] += list(patches)
    return {name: [pixels[None].astype(np.float32) for pixels in of_network] for name, of_network in inputs.items()}


def _common_and_rare(probabilities: np.ndarray) -> np.ndarray:
    """Rows of candidates drawn evenly, and of those least like the commonest class, whose ranges matter as much: int (k,)."""
    commonest = np.bincount(probabilities.argmax(axis=1)).argmax()
    rare = np.argsort(probabilities[:, commonest], kind="stable")[:PATCHES]
    even = np.arange(len(probabilities))[:: max(len(probabilities) // PATCHES, 1)][:PATCHES]
    return np.union1d(even, rare)
