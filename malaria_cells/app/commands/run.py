"""``run``: detects or classifies the cells of images, and writes tables and annotated images."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.app.commands.run_images import process
from malaria_cells.app.commands.run_model import LoadedModel, load
from malaria_cells.app.commands.run_request import RunRequest
from malaria_cells.app.commands.run_resume import ResumableRun, Unfinished, images_of_run, open_run, settings_of, unfinished_run
from malaria_cells.app.commands.run_truth import read_truth, select_part
from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.images import LargeImage, list_images
from malaria_cells.data.labels import warn_of_uncounted
from malaria_cells.data.seen_before import SPLIT, seen_in, warning_of_seen
from malaria_cells.data.split_file import read_parts
from malaria_cells.evaluation import DetectionMetrics
from malaria_cells.inference.engine_choice import traces
from malaria_cells.inference.model_folder import shipped
from malaria_cells.results.classification_output import write_classification
from malaria_cells.results.output_folder import check_output, claimed, drawn_names
from malaria_cells.results.review import FOLDER as REVIEW
from malaria_cells.results.run_outputs import DetectionOutput
from malaria_cells.results.run_report import write_run_report
from malaria_cells.results.run_results import Detected, RunResults
from malaria_cells.results.tables import write_failed

log = logging.getLogger(__name__)


def run(request: RunRequest) -> int:
    """Detect or classify, and write the tables.

    Returns:
        Exit code: 0, 3 (some images failed), 130 (interrupted; the results of finished images are written, and the run can be resumed).

    Raises:
        InputError: the request is invalid; nothing is written.
    """
    root, keys = list_images(request.image, slides=True)
    keys = select_part(root, keys, request.split, request.part)
    model = shipped() if request.model is None else request.model
    if not model.exists():
        raise InputError(f"--model {model}: no such model; train.py writes models to the folder `output_models` (models/)")
    unfinished = unfinished_run(request)
    keys = images_of_run(request, unfinished, root, keys)
    check_output(request.output, (root / key for key in keys))
    if request.review and (request.output / REVIEW).exists():
        raise InputError(
            f"--review: {request.output / REVIEW} already exists and may hold corrections; move it, or choose another --output"
        )
    if request.compare and request.annotations is None:
        raise InputError("--compare: draws annotations beside detections; name an annotation file with --annotations")
    with claimed(request.output):
        return _detect_or_classify(request, model, unfinished, root, keys)


def _detect_or_classify(request: RunRequest, model: Path, unfinished: Unfinished | None, root: Path, keys: list[str]) -> int:
    loaded = load(request, model, len(keys))
    warn_of_uncounted(loaded.labels, f"--model {model}")
    is_there = keys if unfinished is None else [key for key in keys if (root / key).exists()]
    truth = read_truth(request, root, is_there, loaded.labels)
    detects = request.mode != "classify" and (request.mode != "auto" or loaded.detects)
    if not detects:
        _check_classified(request, truth)
    run = open_run(request, unfinished, settings_of(request, model, loaded, "detect" if detects else "classify"), root, keys)
    finished = _detect(request, model, loaded, run, truth) if detects else _classify(request, loaded, run, truth)
    if not finished.interrupted:
        run.journal.remove()
    return finished.exit_code


def _check_classified(request: RunRequest, truth: AnnotationSet | None) -> None:
    """Refuse options that do not apply to whole images."""
    if request.review or request.compare:
        raise InputError("--review and --compare apply to detections only, and this run classifies whole images; leave them out")
    if request.annotated_labels:
        raise InputError("--annotated-labels: applies to detections only, and this run classifies whole images; leave it out")
    if truth is not None and any(len(p.cells_xyxy) != 1 for p in truth.images):
        raise InputError(
            f"--annotations {request.annotations}: --mode classify needs one label for each image, found boxes; use --mode detect"
        )


def _detect(request: RunRequest, model: Path, loaded: LoadedModel, run: ResumableRun, truth: AnnotationSet | None) -> RunResults:
    detector = loaded.detector
    seen_in_training = [] if truth is None else _seen_in_training(model, truth, request.split)
    output = DetectionOutput(request.output, detector, run.root, drawn_names(run.keys), request.force)
    run.take_finished(output.drawn)
    output.begin(run.finished.results)

    def detect_one(image: np.ndarray | LargeImage) -> Detected:
        detections = detector.detect(image)
        return Detected(detections, detector.familiarity(image, detections))

    def tables(finished: RunResults) -> DetectionMetrics | None:
        warn_of_unusual_sizes(loaded.detector, finished)
        return output.tables(finished, truth)

    def draw(key: str, image: np.ndarray | LargeImage, result: Detected) -> Path:
        return output.image(key, image, result.detections)

    finished, score = process(detect_one, run, "detecting", tables, traces(loaded.engine), draw)
    write_failed(output.folder, finished.reasons)
    if request.compare and truth is not None:
        output.compare(finished, truth)
    facts = _facts(request, model, loaded, truth, seen_in_training)
    write_run_report(output, finished, truth, score, facts, request.command_line())
    if request.review:
        output.review(finished, request.review, model)
    elif (request.output / REVIEW).exists():
        print(f"{request.output / REVIEW} is from an earlier run; it may hold corrections and was left unchanged")
    output.say(finished)
    return finished


def _facts(
    request: RunRequest, model: Path, loaded: LoadedModel, truth: AnnotationSet | None, seen_in_training: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return names and values for the head of the report."""
    engine = f"{loaded.engine}, the fastest that is there" if request.engine == "auto" else loaded.engine
    facts = [("Images", request.image), ("Model", str(model)), ("Engine", engine)]
    if loaded.terms is not None:
        facts.append(("Terms of the model", loaded.terms))
    if truth is not None:
        facts.append(("Annotation", f"{request.annotations}, {len(truth):,} of the images"))
        facts += seen_in_training
        if request.ignore_labels:
            facts.append(("Ignored labels", ", ".join(request.ignore_labels)))
        if request.annotated_labels:
            facts.append(("Annotated labels", ", ".join(request.annotated_labels)))
        if request.label_map:
            facts.append(("Label map", ", ".join(f"{name} is {label}" for name, label in request.label_map.items())))
    return facts


def _seen_in_training(model: Path, truth: AnnotationSet, split: Path | None) -> list[tuple[str, str]]:
    """Warn of scored images that the model seems to have been trained on, and return the warning as a fact for the report."""
    try:
        seen_names = seen_in(model, [p.key for p in truth.images])
    except InputError as error:  # a damaged list of names must not stop the run
        log.warning(f"{error}; it is unknown whether the model was trained on the scored images")
        return []
    if not seen_names:
        return []
    warning = warning_of_seen("the model", "annotated", len(seen_names), len(truth))
    if split is None and "test" in read_parts(model / SPLIT):
        advice = f"; --split {model / SPLIT} scores only its test part, if the images are of that data set"
    else:
        advice = ""
    log.warning(f"--annotations: {warning}{advice} (first: {seen_names[0]})")
    return [("Seen in training", warning)]


def warn_of_unusual_sizes(detector: Any, finished: RunResults) -> None:
    """Warn of images whose cells have another size than those of the training."""
    from malaria_cells.inference.two_stage_detector import TwoStageDetector
    from malaria_cells.proposals.learned.annotated_sizes import unusual_cell_sizes

    if not isinstance(detector, TwoStageDetector) or detector.proposer.cell_size is None:
        return
    reference_sizes = detector.proposer.reference_sizes
    expected = " to ".join(dict.fromkeys(f"{size:.0f}" for size in (min(reference_sizes), max(reference_sizes))))
    counted_boxes = (detections.xyxy[detections.counted_as >= 0] for detections in finished.results.values())
    unusual = unusual_cell_sizes(counted_boxes, reference_sizes, detector.proposer.settings.reference_range)
    if len(unusual):
        log.warning(
            f"cells are about {np.median(unusual):.0f} pixels wide in {len(unusual)} of {number_of(len(finished.results), 'image')}, but "
            f"{expected} in the model's training images: check that the boxes fit; --cell-size PIXELS sets the size"
        )


def _classify(request: RunRequest, loaded: LoadedModel, run: ResumableRun, truth: AnnotationSet | None) -> RunResults:
    from malaria_cells.data.patches import resize
    from malaria_cells.data.single_cells import as_in_image, is_cut_out
    from malaria_cells.inference.tta import scanned

    classifier, views = loaded.detector.classifier, loaded.detector.settings.tta

    def classify_one(image: np.ndarray) -> np.ndarray:
        if loaded.detects and is_cut_out(image):
            image = as_in_image(image, classifier.context)
        image = loaded.detector.prepared(image)
        if loaded.scan:
            return scanned(classifier, image, classifier.image_size_hw, **loaded.scan, seed=loaded.seed)
        size_hw = classifier.refiner_size_hw
        crop_for_refiner = None if size_hw is None else lambda _: resize(image, size_hw)[None]
        return classifier(resize(image, classifier.image_size_hw)[None], views, crop_for_refiner)[0]

    def tables(finished: RunResults) -> None:
        write_classification(request.output, classifier, finished, truth)

    run.take_finished()
    return process(classify_one, run, "classifying", tables, traces(loaded.engine))[0]
