"""The model that a ``run`` uses: a folder of ours or a bare Keras file, set up as the request says."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malaria_cells.commands.run_request import RunRequest
from malaria_cells.errors import InputError
from malaria_cells.labels import LabelSet

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A model, ready: a detector (its classifier serves alone too) and whether it was made for detection."""

    detector: Any
    labels: LabelSet
    detects: bool
    scan: dict[str, int] | None = None
    seed: int = 0


def load(request: RunRequest, model: Path) -> Loaded:
    """Load a model folder or a bare Keras file, set up as the request says.

    Raises:
        InputError: it cannot be loaded, or the request asks for what such a model has not.
    """
    from malaria_cells.detection import TwoStageDetector
    from malaria_cells.model_folder import load_detector

    if model.is_dir():
        detector, description = load_detector(model, request.engine)
        detects, scan, seed = description.rejects, description.scan, description.seed
        if description.detector != "two_stage":
            only_two_stage = {"--proposals": request.proposals, "--tta": request.tta, "--cell-size": request.cell_size}
            refused = [flag for flag, value in only_two_stage.items() if value is not None]
            refused += ["--mode classify"] if request.mode == "classify" else []
            if refused:
                raise InputError(f"{refused[0]}: {model} is a {description.detector} detector, which has one network for all")
    else:
        if request.engine not in {None, "keras"}:
            raise InputError(f"--engine {request.engine}: {model} is a bare Keras file; export works on a model folder")
        detector, detects, scan, seed = _bare_detector(request, model), False, None, 0
    changes = {key: getattr(request, key) for key in ("score_threshold", "nms", "nms_iou", "tta") if getattr(request, key) is not None}
    detector = detector.with_settings(**changes)
    if request.proposals is not None and isinstance(detector, TwoStageDetector):
        detector = detector.with_proposals(request.proposals)
    if request.cell_size is not None and isinstance(detector, TwoStageDetector):
        detector = detector.with_cell_size(request.cell_size)
    if request.mode == "detect" and isinstance(detector, TwoStageDetector) and not detector.classifier.rejects:
        log.warning(f"--mode detect: {model} knows no class for what is no cell, and takes all that is proposed for cells")
    return Loaded(detector, detector.labels, detects, scan if request.tta is None else None, seed)


def _bare_detector(request: RunRequest, model: Path):  # type: ignore[no-untyped-def]
    """A network's file alone: its labels come from a model.yaml beside it, from --labels, or are numbered."""
    from malaria_cells.calibration import Calibration
    from malaria_cells.classifier import PatchClassifier, compiled
    from malaria_cells.config import Config
    from malaria_cells.dataset import label_set
    from malaria_cells.detection import DetectionSettings, TwoStageDetector
    from malaria_cells.labels import BACKGROUND
    from malaria_cells.model_description import ABOUT, load_description
    from malaria_cells.model_folder import load_network
    from malaria_cells.proposals import Proposer

    network = load_network(model)
    if len(network.inputs) != 1 or len(network.input_shape) != 4 or None in network.input_shape[1:3]:
        raise InputError(f"{model}: expected a model of one picture of fixed size, found input shape {network.input_shape}")
    n_classes = 2 if network.output_shape[-1] == 1 else network.output_shape[-1]
    names, context = request.labels, 1.25
    if names is None and (model.parent / ABOUT).is_file():
        description, _ = load_description(model.parent)
        names = [*description.labels.names, *([BACKGROUND] if description.rejects else [])]
        context = description.context
    if names is None:
        names = [f"class {i}" for i in range(n_classes)]
        log.warning(f"{model}: a bare model names no labels; they are numbered. Name them with --labels A,B,..., or give the model folder")
    if len(names) != n_classes:
        raise InputError(f"--labels: found {len(names)} names, {model} has {n_classes} classes")
    if request.input_divisor is None and not any(type(layer).__name__ in {"Rescaling", "Normalization"} for layer in network.layers):
        log.warning(f"{model}: no layer of it scales pixels, it is given 0 to 255; if its training divided by 255, add --input-divisor 255")
    rejects = names[-1] == BACKGROUND
    labels = label_set(Config(labels=names[:-1] if rejects else names))
    classifier = PatchClassifier(
        labels,
        rejects,
        tuple(network.input_shape[1:3]),
        context,
        Calibration.none(n_classes),
        compiled(network, request.input_divisor or 1.0),
    )
    return TwoStageDetector(Proposer(), classifier, settings=DetectionSettings())
