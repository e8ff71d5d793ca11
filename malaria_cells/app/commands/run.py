"""``run``: detects or classifies the cells of images, and writes tables and annotated images."""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.app.commands.run_model import LoadedModel, load
from malaria_cells.app.commands.run_request import RunRequest
from malaria_cells.app.commands.run_truth import read_truth, select_part
from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.parallel import PREFETCHED, imap_ordered
from malaria_cells.base.progress import progress
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import list_images, read_image
from malaria_cells.data.labels import warn_of_uncounted
from malaria_cells.data.seen_before import SPLIT, seen_in, warning_of_seen
from malaria_cells.data.split_file import read_parts
from malaria_cells.inference.familiarity import Familiarity
from malaria_cells.inference.model_folder import shipped
from malaria_cells.results.classification_output import write_classification
from malaria_cells.results.output_folder import check_output, claimed
from malaria_cells.results.review import FOLDER as REVIEW
from malaria_cells.results.run_outputs import DetectionOutput
from malaria_cells.results.run_report import write_run_report
from malaria_cells.results.run_results import RunResults

log = logging.getLogger(__name__)


def run(request: RunRequest) -> int:
    """Detect or classify, and write the tables.

    Returns:
        Exit code: 0, 3 (some images failed), 130 (interrupted; the results of finished images are written).

    Raises:
        InputError: the request is invalid; nothing is written.
    """
    root, keys = list_images(request.image)
    keys = select_part(root, keys, request.split, request.part)
    model = shipped() if request.model is None else request.model
    if not model.exists():
        raise InputError(f"--model {model}: no such model; train.py writes models to the folder `output_models` (models/)")
    check_output(request.output, (root / key for key in keys))
    if request.review and (request.output / REVIEW).exists():
        raise InputError(
            f"--review: {request.output / REVIEW} already exists and may hold corrections; move it, or choose another --output"
        )
    if request.compare and request.annotations is None:
        raise InputError("--compare: draws annotations beside detections; name an annotation file with --annotations")
    with claimed(request.output):
        return _detect_or_classify(request, model, root, keys)


def _detect_or_classify(request: RunRequest, model: Path, root: Path, keys: list[str]) -> int:
    loaded = load(request, model)
    warn_of_uncounted(loaded.labels, f"--model {model}")
    truth = read_truth(request, root, keys, loaded.labels)
    if request.mode != "classify" and (request.mode != "auto" or loaded.detects):
        return _detect(request, model, loaded, root, keys, truth)
    if request.review or request.compare:
        raise InputError("--review and --compare apply to detections only, and this run classifies whole images; leave them out")
    if request.annotated_labels:
        raise InputError("--annotated-labels: applies to detections only, and this run classifies whole images; leave it out")
    if truth is not None and any(len(p.cells_xyxy) != 1 for p in truth.images):
        raise InputError(
            f"--annotations {request.annotations}: --mode classify needs one label for each image, found boxes; use --mode detect"
        )
    return _classify(request, loaded, root, keys, truth)


def _detect(request: RunRequest, model: Path, loaded: LoadedModel, root: Path, keys: list[str], truth: AnnotationSet | None) -> int:
    detector = loaded.detector
    seen_in_training = [] if truth is None else _seen_in_training(model, truth, request.split)
    output = DetectionOutput.start(request.output, detector, root, keys, request.force)

    def detect_one(image: np.ndarray) -> tuple[Detections, Familiarity | None]:
        detections = detector.detect(image)
        return detections, detector.familiarity(image, detections)

    finished = _process(detect_one, root, keys, "detecting", lambda key, image, result: output.image(key, image, result[0]))
    finished.familiarity = {key: familiarity for key, (_, familiarity) in finished.results.items()}
    finished.results = {key: detections for key, (detections, _) in finished.results.items()}
    warn_of_unusual_sizes(loaded.detector, finished)
    score = output.tables(finished, truth)
    if request.compare and truth is not None:
        output.compare(finished, truth)
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
    write_run_report(output, finished, truth, score, facts, request.command_line())
    if request.review:
        output.review(finished, request.review, model)
    elif (request.output / REVIEW).exists():
        print(f"{request.output / REVIEW} is from an earlier run; it may hold corrections and was left unchanged")
    output.say(finished)
    return finished.exit_code


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


def _classify(request: RunRequest, loaded: LoadedModel, root: Path, keys: list[str], truth: AnnotationSet | None) -> int:
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

    finished = _process(classify_one, root, keys, "classifying", lambda *_: None)
    write_classification(request.output, classifier, finished, truth)
    return finished.exit_code


def _process(
    step: Callable[[np.ndarray], Any], root: Path, keys: list[str], title: str, write: Callable[[str, np.ndarray, Any], None]
) -> RunResults:
    """Process the images in parallel, and write their results meanwhile.

    Args:
        step: function of an image, uint8 RGB (H, W, 3); several threads call it.
        root: folder of the images.
        keys: the images, relative to `root`.
        title: of the progress bar.
        write: called with key, image and result of `step`, by one thread.
    """

    def read_and_step(key: str) -> tuple[np.ndarray, Any]:
        image = read_image(root / key)
        return image, step(image)

    finished = RunResults()
    with ThreadPoolExecutor(1) as writer:
        writing: deque[tuple[str, Future[Any]]] = deque()
        try:
            # The first call traces the network, which must not count as time of an image.
            step(np.full((256, 256, 3), 200, dtype=np.uint8))
            started = time.perf_counter()
            for key, pending in progress(imap_ordered(read_and_step, keys), len(keys), title, "image"):
                try:
                    image, result = pending.result()
                except InputError as error:
                    finished.failed[key] = str(error)
                    continue
                except Exception as error:  # an unexpected error in one image must not lose the results of the others
                    log.exception(f"{key}: failed unexpectedly (please report); continuing with the other images")
                    finished.failed[key] = f"{type(error).__name__}: {reason(error)}"
                    continue
                finished.sizes_wh[key] = (image.shape[1], image.shape[0])
                finished.results[key] = result
                finished.seconds = time.perf_counter() - started
                writing.append((key, writer.submit(write, key, image, result)))
                while len(writing) > PREFETCHED:
                    _await(*writing.popleft(), finished)
        except KeyboardInterrupt:
            finished.interrupted = True
        for key, pending in writing:
            _await(key, pending, finished)
    return finished


def _await(key: str, pending: Future[Any], finished: RunResults) -> None:
    """Wait until an image is drawn and written. An error is recorded, so the tables are still written."""
    try:
        pending.result()
    except OSError as error:
        log.warning(f"{key}: its annotated image could not be written ({reason(error)}); it is in the tables")
        finished.not_drawn[key] = reason(error)
    except Exception as error:
        log.exception(f"{key}: drawing failed unexpectedly (please report); the image is in the tables")
        finished.not_drawn[key] = f"{type(error).__name__}: {reason(error)}"
