"""``export``: a model folder in, the same detector for another engine out."""

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
from malaria_cells.inference.classifier import Network
from malaria_cells.inference.engines import SAVED_MODEL, exported_network, find_exported
from malaria_cells.inference.model_description import (
    ABOUT,
    ModelDescription,
    golden_output,
    load_whole_description,
    save_description,
)
from malaria_cells.inference.model_folder import GOLDEN_TOLERANCE, PROPOSER, load_detector, load_network
from malaria_cells.models.stored.checksums import check_checksums

IMAGES = 40  # that eight-bit ranges are fitted to
PATCHES = 8  # of each of them, spread evenly, and as many of the rarest kind
# Left in float32 by --int8: on IML-Malaria's validation part OpenVINO's eight-bit proposer lost two points of cell AP50,
# whichever of nncf's presets made it, and saved a tenth of the time; those of the other formats lost nothing. With fitted ranges
# the refiner cost two points of infected F1 on validation and test together; it sees few cells, and LiteRT's lost nothing.
LEFT_EXACT = {("openvino", "proposer"), ("openvino", "refiner"), ("onnx", "refiner")}

# Names of what exports hold, of those that earlier versions wrote, too; Python leaves the last where an example was imported.
_NETWORKS = r"(classifier|refiner|proposer|detector)(\.onnx|\.onnx\.data|\.xml|\.bin|\.tflite)?"
_WRITTEN = re.compile(rf"{_NETWORKS}|example\.py|cells\.py|model\.yaml|config\.yaml|split\.json|__pycache__")


def export(model: Path, format_name: str, int8: bool, image: str | None, output: Path | None) -> int:
    """Write a detector for another engine.

    Args:
        model: folder that training wrote.
        format_name: one of `export.FORMATS`.
        int8: whether to quantise.
        image: images that the ranges of eight-bit numbers are fitted to, for `export.FITTED`; None: those it was trained on.
        output: folder to write; None: a subfolder of `model` named by the format.

    Returns:
        Exit code.

    Raises:
        InputError: no such model, or one whose networks answer otherwise than when saved; a format that cannot be quantised; images
            or a library missing; `output` is somebody's own.
    """
    from malaria_cells.export import EXAMPLE, FITTED, QUANTIZED, export_network, runs_alone, write_example

    description, kept = load_whole_description(model)
    if int8 and format_name not in QUANTIZED:
        raise InputError(f"--int8: {format_name} is not quantised here; choose --format {', '.join(QUANTIZED)}, or leave --int8 out")
    _check_trained(model, description.files)
    output = output or model / (f"{format_name}-int8" if int8 else format_name)
    _check_output(output)
    learned = description.proposals == "learned" and description.detector == "two_stage"
    names = [*description.files, *([PROPOSER] if learned else [])]
    if learned:  # the answers of the others are compared
        check_checksums(model, kept.files, [Path(PROPOSER).stem], ABOUT)
    detector = load_detector(model)[0] if int8 else None  # its answers are compared with those of the training; without int8 below
    examples = _examples(detector, _images(model, image)) if format_name in FITTED and detector is not None else {}
    with files.replacing_folder(output, EXAMPLE) as beside:
        for name in names:
            stem = Path(name).stem
            met = examples.get("classifier" if name == description.refiner_file else stem)
            export_network(load_network(model / name), beside / stem, format_name, int8 and (format_name, stem) not in LEFT_EXACT, met)
        classifiers = [Path(file).stem for file in description.files]
        exported = [exported_network(beside, stem, format_name) for stem in classifiers]
        if not int8:
            _check_answers(model, exported, description, kept.golden)
        save_description(beside, exported, description)
        write_example(beside, description)
        for extra in ("config.yaml", "split.json"):
            if (model / extra).is_file():
                shutil.copyfile(model / extra, beside / extra)
    size = sum(f.stat().st_size for f in output.rglob("*") if f.is_file())
    by_name = f" --engine {format_name}" if format_name == SAVED_MODEL else ""  # which is loaded only so
    print(f"{output}: {size / 2**20:.1f} MiB\nnext:  python run.py --model {output}{by_name} --image IMAGES")
    print(f"or, without Keras{'' if runs_alone(description) else ', but with this package'}:  python {output / EXAMPLE} IMAGE")
    return 0


def _check_trained(model: Path, names: Sequence[str]) -> None:
    if (model / names[0]).is_file():
        return
    if find_exported(model, Path(names[0]).stem):
        raise InputError(f"--model {model}: was exported already; name the folder that training wrote, which holds {names[0]}")
    raise InputError(f"--model {model}: holds no {names[0]}; copy or train the model again")


def _check_output(output: Path) -> None:
    """See that a folder to write is new, empty or an export, with nothing of somebody's own in it, before work is done for it."""
    from malaria_cells.export import EXAMPLE

    above = next((folder for folder in output.absolute().parents if folder.exists()), output)
    if not above.is_dir():
        raise InputError(f"--output {output}: {above} is a file; name a folder")
    files.check_replaceable(output, EXAMPLE)
    own = [p.name for p in sorted(output.iterdir()) if not _WRITTEN.fullmatch(p.name)] if output.is_dir() else []
    if own:
        raise InputError(f"--output {output}: holds {own[0]}, which no export wrote; move it, or name a new folder")


def _check_answers(model: Path, exported: Sequence[Network], description: ModelDescription, golden: np.ndarray) -> None:
    """See that exported networks answer as those of the training did when they were saved."""
    found = golden_output(exported, description)
    if found.shape != golden.shape or not np.abs(found - golden).max() <= GOLDEN_TOLERANCE * max(np.abs(golden).max(), 1) / len(exported):
        raise InputError(
            f"--model {model}: its {' and '.join(description.files)} do not answer as when they were saved, so nothing was exported: they "
            "are not those of its model.yaml, or the engine computes otherwise; copy or train the model again, or try another --format"
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
                f"--int8: fits the ranges of numbers to images; those the model was trained on are not here ({error}). "
                "Name some with --image IMAGES"
            ) from error
    return paths[:: max(len(paths) // IMAGES, 1)][:IMAGES]


def _examples(detector: Any, paths: list[Path]) -> dict[str, list[np.ndarray]]:
    """What each network meets in these images, by its name: float32 (1, H, W, 3) each."""
    from malaria_cells.data.patches import crop_boxes
    from malaria_cells.inference.one_stage_detector import OneStageDetector, letterbox
    from malaria_cells.proposals.learned.prediction import padded, to_working_scale

    found: dict[str, list[np.ndarray]] = {"classifier": [], "proposer": [], "detector": []}
    for path in progress(paths, len(paths), "reading images for --int8", "image"):
        image = read_image(path)
        if isinstance(detector, OneStageDetector):
            found["detector"].append(letterbox(image, detector.size_hw)[0])
            continue
        if detector.proposer.network is not None:
            found["proposer"].append(padded(to_working_scale(detector.prepared(image), detector.proposer.cell_size)))
        image = detector.prepared(image)
        candidates, _ = detector.proposer.candidates(image)
        if len(candidates):
            chosen = _usual_and_rare(detector.classify(image, candidates))
            cut = crop_boxes(image, candidates[chosen], detector.classifier.context, detector.classifier.image_size_hw)
            found["classifier"] += list(cut)
    return {name: [pixels[None].astype(np.float32) for pixels in own] for name, own in found.items()}


def _usual_and_rare(probabilities: np.ndarray) -> np.ndarray:
    """Rows of candidates: some spread evenly, and those least like the commonest class, whose ranges matter as much: int (k,)."""
    commonest = np.bincount(probabilities.argmax(axis=1)).argmax()
    rare = np.argsort(probabilities[:, commonest], kind="stable")[:PATCHES]
    even = np.arange(len(probabilities))[:: max(len(probabilities) // PATCHES, 1)][:PATCHES]
    return np.union1d(even, rare)
