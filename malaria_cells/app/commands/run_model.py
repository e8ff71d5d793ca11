"""The model of ``run``: a model folder or a bare Keras file, with the settings of the request."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malaria_cells.app.commands.run_request import RunRequest
from malaria_cells.base.errors import InputError
from malaria_cells.base.parallel import cores
from malaria_cells.data.labels import LabelSet

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to use.

    Attributes:
        detector: the detector; ``--mode classify`` uses only its classifier.
        labels: classes of the model.
        detects: whether the model was trained for detection.
        scan: keyword arguments of `tta.scanned` for whole images in several crops; None: one crop.
        seed: random seed of the crops.
        terms: terms of use of the weights; None: the model states none.
        engine: name of the inference engine that runs the networks.
    """

    detector: Any
    labels: LabelSet
    detects: bool
    scan: dict[str, int] | None = None
    seed: int = 0
    terms: str | None = None
    engine: str = "keras"


def load(request: RunRequest, model: Path, n_images: int = 1) -> LoadedModel:
    """Load a model folder or a bare Keras file, with the settings of the request, for so many images.

    An image for each core is worked on at the same time if there are enough, and the networks take one thread for each: on two cores this
    takes a twentieth less than two threads for each, and it grows with the cores, where the layers of a small network do not.

    Raises:
        InputError: the model cannot be loaded, or an option does not apply to it.
    """
    from malaria_cells.inference.model_description import ABOUT
    from malaria_cells.inference.model_folder import load_by_engine
    from malaria_cells.inference.two_stage_detector import TwoStageDetector

    if request.input_range is not None and request.input_divisor is not None:
        raise InputError("--input-range and --input-divisor: both define how pixels are scaled; give one of them")
    if model.is_dir():
        bare_options = {"--labels": request.labels, "--input-range": request.input_range, "--input-divisor": request.input_divisor}
        given = [flag for flag, value in bare_options.items() if value is not None]
        if given:
            raise InputError(f"{given[0]}: applies to a bare .keras or .h5 file only; {model} is a model folder, whose {ABOUT} defines it")
        detector, description, engine = load_by_engine(model, request.engine, 1 if n_images >= cores() else None)
        detects, scan, seed, terms = description.has_background, description.scan, description.seed, description.terms
        if description.detector != "two_stage":
            only_two_stage = {"--proposals": request.proposals, "--tta": request.tta, "--cell-size": request.cell_size}
            refused = [flag for flag, value in only_two_stage.items() if value is not None]
            refused += ["--mode classify"] if request.mode == "classify" else []
            if refused:
                raise InputError(
                    f"{refused[0]}: {model} is a one-stage {description.detector} detector; this option applies to two-stage models only"
                )
    else:
        if request.engine not in {"auto", "keras"}:
            raise InputError(f"--engine {request.engine}: {model} is a bare Keras file, which only the engine keras can run")
        from malaria_cells.app.commands.bare_model import bare_detector

        detector, detects, scan, seed, terms, engine = bare_detector(request, model), False, None, 0, None, "keras"
    changes = {key: getattr(request, key) for key in ("score_threshold", "nms", "nms_iou", "tta") if getattr(request, key) is not None}
    detector = detector.with_settings(**changes)
    if request.proposals is not None and isinstance(detector, TwoStageDetector):
        detector = detector.with_proposals(request.proposals)
    if request.cell_size is not None and isinstance(detector, TwoStageDetector):
        detector = detector.with_cell_size(request.cell_size)
    if request.mode == "detect" and isinstance(detector, TwoStageDetector) and not detector.classifier.has_background:
        log.warning(f"--mode detect: {model} has no background class, so every proposal is reported as a cell")
    return LoadedModel(detector, detector.labels, detects, scan if request.tta is None else None, seed, terms, engine)
