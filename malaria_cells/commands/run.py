"""``run``: pictures and a model in, tables and annotated pictures out."""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.annotations import AnnotationSet, PictureList, load_annotations
from malaria_cells.at_once import AHEAD, in_order
from malaria_cells.commands.outputs import DetectionOutput, Finished, check_output, write_classification
from malaria_cells.commands.run_report import command_of, write_run_report
from malaria_cells.errors import InputError, reason
from malaria_cells.labels import LabelSet
from malaria_cells.model_folder import shipped
from malaria_cells.pictures import list_pictures, read_picture
from malaria_cells.progress import progress
from malaria_cells.report.review import FOLDER as REVIEW
from malaria_cells.wording import number_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRequest:
    """What a person asked `run` for; None means: as the model says, and of the model: the shipped one."""

    image: str
    output: Path
    model: Path | None = None
    mode: str = "auto"
    annotations: Path | None = None
    split: Path | None = None
    part: str = "test"
    score_threshold: float | None = None
    nms: str | None = None
    nms_iou: float | None = None
    tta: int | None = None
    proposals: str | None = None
    cell_size: float | None = None
    labels: list[str] | None = None
    input_divisor: float | None = None
    review: int | None = None
    compare: bool = False
    engine: str | None = None


def run(request: RunRequest) -> int:
    """Detect or classify, and write the tables.

    Returns:
        Exit code: 0, 3 (some pictures failed), 130 (interrupted; what was finished is written).

    Raises:
        InputError: the request is wrong; nothing is written then.
    """
    root, keys = list_pictures(request.image)
    keys = _of_part(root, keys, request)
    model = shipped() if request.model is None else request.model
    if not model.exists():
        raise InputError(f"--model {model}: no such model; train.py writes one below `output_models` (models/)")
    check_output(request.output, (root / key for key in keys))
    if request.review and (request.output / REVIEW).exists():
        raise InputError(
            f"--review: {request.output / REVIEW} is there already and may hold corrections; move it, or choose another --output"
        )
    if request.compare and request.annotations is None:
        raise InputError("--compare: draws what is annotated beside what is detected; name the annotation with --annotations")
    loaded = _load(request, model)
    truth = _truth(request, root, keys, loaded.labels)
    if request.mode == "classify" or (request.mode == "auto" and not loaded.detects):
        if request.review or request.compare:
            raise InputError("--review and --compare are for detections; this run classifies whole pictures")
        return _classify(request, loaded, root, keys, truth)
    return _detect(request, model, loaded, root, keys, truth)


@dataclass(frozen=True)
class Loaded:
    """A model, ready: a detector (its classifier serves alone too) and whether it was made for detection."""

    detector: Any
    labels: LabelSet
    detects: bool
    scan: dict[str, int] | None = None
    seed: int = 0


def _load(request: RunRequest, model: Path) -> Loaded:
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


def _of_part(root: Path, keys: list[str], request: RunRequest) -> list[str]:
    if request.split is None:
        return keys
    import json

    try:
        names = json.loads(request.split.read_bytes())[request.part]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f'--split {request.split}: expected {{"{request.part}": [pictures]}} ({error!r})') from error
    ends = tuple(f"/{name}" for name in names)
    kept = [key for key in keys if (root / key).absolute().as_posix().endswith(ends)]
    if not kept:
        raise InputError(f"--split {request.split}: none of the {len(keys)} pictures is in its '{request.part}' part")
    return kept


def _truth(request: RunRequest, root: Path, keys: list[str], labels: LabelSet) -> AnnotationSet | None:
    if request.annotations is None:
        return None
    finder = PictureList(root, keys, request.annotations)
    truth = load_annotations(request.annotations, labels, finder=finder, pictures="found")
    if not len(truth):
        raise InputError(f"--annotations {request.annotations}: annotates none of the {len(keys)} pictures of {request.image}")
    if len(truth) < len(keys):
        log.warning(f"{request.annotations}: {len(keys) - len(truth)} of {len(keys)} pictures are not annotated there and not scored")
    return truth


def _detect(request: RunRequest, model: Path, loaded: Loaded, root: Path, keys: list[str], truth: AnnotationSet | None) -> int:
    write = DetectionOutput.start(request.output, loaded.detector, root)
    finished = _work(loaded.detector.detect, root, keys, "detecting", write.picture)
    _warn_of_other_sizes(loaded.detector, finished)
    scored = write.tables(finished, truth)
    if request.compare and truth is not None:
        write.compare(finished, truth)
    if request.review:
        write.review(finished, request.review)
    facts = [("Photographs", request.image), ("Model", str(model)), ("Engine", request.engine or "as the model folder holds it")]
    if truth is not None:
        facts.append(("Annotation", f"{request.annotations}, {len(truth):,} of the photographs"))
    write_run_report(write, finished, truth, scored, facts, command_of(request, "run.py"))
    write.say(finished)
    return finished.exit_code


def _warn_of_other_sizes(detector: Any, finished: Finished) -> None:
    from malaria_cells.detection import TwoStageDetector
    from malaria_cells.proposals.magnification import other_sizes

    usual = detector.proposer.cell_size if isinstance(detector, TwoStageDetector) else None
    if usual is None:
        return
    other = other_sizes((found.xyxy[found.data["counted_as"] >= 0] for found in finished.results.values()), usual)
    if len(other):
        log.warning(
            f"cells are about {np.median(other):.0f} pixels wide in {len(other)} of {number_of(len(finished.results), 'picture')}, "
            f"{usual:.0f} are usual for the model: look whether the boxes fit; --cell-size PIXELS sets the size"
        )


def _classify(request: RunRequest, loaded: Loaded, root: Path, keys: list[str], truth: AnnotationSet | None) -> int:
    from malaria_cells.patches import resize
    from malaria_cells.tta import scanned

    classifier, views = loaded.detector.classifier, loaded.detector.settings.tta
    if truth is not None and any(len(p.cells_xyxy) != 1 for p in truth.pictures):
        raise InputError(
            f"--annotations {request.annotations}: --mode classify scores one label a picture, these have boxes; use --mode detect"
        )

    def one(picture: np.ndarray) -> np.ndarray:
        if loaded.scan:
            return scanned(classifier, picture, classifier.image_size_hw, **loaded.scan, seed=loaded.seed)
        size_hw = classifier.second_look_size_hw
        closer = None if size_hw is None else lambda _: resize(picture, size_hw)[None]
        return classifier(resize(picture, classifier.image_size_hw)[None], views, closer)[0]

    finished = _work(one, root, keys, "classifying", lambda *_: None)
    write_classification(request.output, classifier, finished, truth)
    return finished.exit_code


def _work(
    step: Callable[[np.ndarray], Any], root: Path, keys: list[str], what: str, after: Callable[[str, np.ndarray, Any], None]
) -> Finished:
    """Work through the pictures, some at once; what is finished is written meanwhile."""

    def read_and_step(key: str) -> tuple[np.ndarray, Any]:
        picture = read_picture(root / key)
        return picture, step(picture)

    finished = Finished()
    with ThreadPoolExecutor(1) as writer:
        writing: deque[Future] = deque()
        try:
            # A first call traces the network; it is start-up, not part of a picture's time.
            step(np.full((256, 256, 3), 200, dtype=np.uint8))
            started = time.perf_counter()
            for key, working in progress(in_order(read_and_step, keys), len(keys), what, "image"):
                try:
                    picture, result = working.result()
                except InputError as error:
                    finished.failed[key] = str(error)
                    continue
                except Exception as error:  # what one picture does to a library must not cost the results of the others
                    log.exception(f"{key}: failed by a mistake of ours or of a library, please report it; the other pictures go on")
                    finished.failed[key] = f"{type(error).__name__}: {reason(error)}"
                    continue
                finished.sizes_wh[key] = (picture.shape[1], picture.shape[0])
                finished.results[key] = result
                finished.seconds = time.perf_counter() - started
                writing.append(writer.submit(after, key, picture, result))
                while len(writing) > AHEAD:
                    writing.popleft().result()
        except KeyboardInterrupt:
            finished.interrupted = True
        for written in writing:
            written.result()
    return finished
