"""``export``: a model folder in, the same detector for another engine out."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells import files
from malaria_cells.config import load_config
from malaria_cells.dataset import load_data_set
from malaria_cells.engines import exported_network
from malaria_cells.errors import InputError
from malaria_cells.pictures import list_pictures, read_picture
from malaria_cells.progress import progress

PICTURES = 40  # that eight-bit ranges are fitted to
PATCHES = 8  # of each of them, spread evenly, and as many of the rarest kind
# Left in float32 by --int8: on IML-Malaria's validation part OpenVINO's eight-bit proposer lost two points of cell AP50,
# whichever of nncf's presets made it, and saved a tenth of the time; those of the other formats lost nothing. With fitted ranges
# the second look cost two points of infected F1 on validation and test together; it sees few cells, and LiteRT's lost nothing.
LEFT_EXACT = {("openvino", "proposer"), ("openvino", "second_look"), ("onnx", "second_look")}


def export(model: Path, form: str, int8: bool, image: str | None, output: Path | None) -> int:
    """Write a detector for another engine.

    Args:
        model: folder that training wrote.
        form: one of `export.FORMATS`.
        int8: whether to quantise.
        image: pictures that the ranges of eight-bit numbers are fitted to, for `export.FITTED`; None: those it was trained on.
        output: folder to write; None: a subfolder of `model` named by the form.

    Returns:
        Exit code.

    Raises:
        InputError: no such model, a form that cannot be quantised, pictures or a library missing.
    """
    from malaria_cells.export import EXAMPLE, FITTED, QUANTIZED, export_network, runs_alone, write_example
    from malaria_cells.model_description import SECOND_LOOK, load_description, save_description
    from malaria_cells.model_folder import PROPOSER, load_detector, load_network

    description, _ = load_description(model)
    if int8 and form not in QUANTIZED:
        raise InputError(f"--int8: {form} is not quantised here; choose --format {', '.join(QUANTIZED)}, or leave --int8 out")
    if not (model / description.files[0]).is_file():
        raise InputError(f"--model {model}: was exported already; name the folder that training wrote, which holds {description.files[0]}")
    output = output or model / (f"{form}-int8" if int8 else form)
    files.check_replaceable(output, EXAMPLE)
    learned = description.proposals == "learned" and description.detector == "two_stage"
    names = [*description.files, *([PROPOSER] if learned else [])]
    examples = _examples(load_detector(model)[0], _pictures(model, image)) if int8 and form in FITTED else {}
    with files.replacing_folder(output, EXAMPLE) as beside:
        for name in names:
            stem = Path(name).stem
            met = examples.get("classifier" if name == SECOND_LOOK else stem)
            export_network(load_network(model / name), beside / stem, form, int8 and (form, stem) not in LEFT_EXACT, met)
        classifiers = [Path(file).stem for file in description.files]
        save_description(beside, [exported_network(beside, stem, form) for stem in classifiers], description)
        write_example(beside, description)
        for extra in ("config.yaml", "split.json"):
            if (model / extra).is_file():
                shutil.copyfile(model / extra, beside / extra)
    size = sum(f.stat().st_size for f in output.rglob("*") if f.is_file())
    print(f"{output}: {size / 2**20:.1f} MiB\nnext:  python run.py --model {output} --image PICTURES")
    print(f"or, without Keras{'' if runs_alone(description) else ', but with this package'}:  python {output / EXAMPLE} PICTURE")
    return 0


def _pictures(model: Path, image: str | None) -> list[Path]:
    if image is not None:
        root, keys = list_pictures(image)
        paths = [root / key for key in keys]
    else:
        try:
            paths = [p.path for p in load_data_set(load_config(model / "config.yaml")).train.pictures]
        except InputError as error:
            raise InputError(
                f"--int8: fits the ranges of numbers to pictures; those the model was trained on are not here ({error}). "
                "Name some with --image PICTURES"
            ) from error
    return paths[:: max(len(paths) // PICTURES, 1)][:PICTURES]


def _examples(detector: Any, paths: list[Path]) -> dict[str, list[np.ndarray]]:
    """What each network meets in these pictures, by its name: float32 (1, H, W, 3) each."""
    from malaria_cells.one_stage import OneStageDetector, letterbox
    from malaria_cells.patches import crop_boxes
    from malaria_cells.proposals.learned import framed, to_working_scale

    found: dict[str, list[np.ndarray]] = {"classifier": [], "proposer": [], "detector": []}
    for path in progress(paths, len(paths), "reading pictures for --int8", "image"):
        picture = read_picture(path)
        if isinstance(detector, OneStageDetector):
            found["detector"].append(letterbox(picture, detector.size_hw)[0])
            continue
        if detector.proposer.network is not None:
            found["proposer"].append(framed(to_working_scale(picture, detector.proposer.cell_size)))
        candidates, probabilities, _ = detector.look(picture)
        if len(candidates):
            chosen = _usual_and_rare(probabilities)
            cut = crop_boxes(picture, candidates[chosen], detector.classifier.context, detector.classifier.image_size_hw)
            found["classifier"] += list(cut)
    return {name: [pixels[None].astype(np.float32) for pixels in own] for name, own in found.items()}


def _usual_and_rare(probabilities: np.ndarray) -> np.ndarray:
    """Rows of candidates: some spread evenly, and those least like the commonest class, whose ranges matter as much: int (k,)."""
    commonest = np.bincount(probabilities.argmax(axis=1)).argmax()
    rare = np.argsort(probabilities[:, commonest], kind="stable")[:PATCHES]
    even = np.arange(len(probabilities))[:: max(len(probabilities) // PATCHES, 1)][:PATCHES]
    return np.union1d(even, rare)
