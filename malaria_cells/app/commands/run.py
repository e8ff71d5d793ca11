"""``run``: images and a model in, tables and annotated images out."""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from malaria_cells.app.commands.run_model import Loaded, load
from malaria_cells.app.commands.run_request import RunRequest
from malaria_cells.app.commands.run_truth import of_part, read_truth
from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.parallel import PREFETCHED, imap_ordered
from malaria_cells.base.progress import progress
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.images import list_images, read_image
from malaria_cells.data.labels import warn_of_uncounted
from malaria_cells.data.seen_before import SPLIT, seen_in, warning_of_seen
from malaria_cells.data.split_file import read_parts
from malaria_cells.inference.familiarity import Familiarity
from malaria_cells.inference.model_folder import shipped
from malaria_cells.results.output_folder import check_output, claimed
from malaria_cells.results.review import FOLDER as REVIEW
from malaria_cells.results.run_outputs import DetectionOutput, Finished, write_classification
from malaria_cells.results.run_report import write_run_report

log = logging.getLogger(__name__)


def run(request: RunRequest) -> int:
    """Detect or classify, and write the tables.

    Returns:
        Exit code: 0, 3 (some images failed), 130 (interrupted; what was finished is written).

    Raises:
        InputError: the request is wrong; nothing is written then.
    """
    root, keys = list_images(request.image)
    keys = of_part(root, keys, request.split, request.part)
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
    with claimed(request.output):
        return _work_as_asked(request, model, root, keys)


def _work_as_asked(request: RunRequest, model: Path, root: Path, keys: list[str]) -> int:
    loaded = load(request, model)
    warn_of_uncounted(loaded.labels, f"--model {model}")
    truth = read_truth(request, root, keys, loaded.labels)
    if request.mode != "classify" and (request.mode != "auto" or loaded.detects):
        return _detect(request, model, loaded, root, keys, truth)
    if request.review or request.compare:
        raise InputError("--review and --compare are for detections; this run classifies whole images")
    if request.annotated_labels:
        raise InputError("--annotated-labels: is about cells that nobody boxed; --mode classify scores labels of whole images")
    if truth is not None and any(len(p.cells_xyxy) != 1 for p in truth.images):
        raise InputError(
            f"--annotations {request.annotations}: --mode classify scores one label an image, these have boxes; use --mode detect"
        )
    return _classify(request, loaded, root, keys, truth)


def _detect(request: RunRequest, model: Path, loaded: Loaded, root: Path, keys: list[str], truth: AnnotationSet | None) -> int:
    detector = loaded.detector
    learned = [] if truth is None else _learned_from(model, truth, request.split)
    write = DetectionOutput.start(request.output, detector, root, keys, request.force)

    def one(image: np.ndarray) -> tuple[sv.Detections, Familiarity | None]:
        found = detector.detect(image)
        return found, detector.familiarity(image, found)

    finished = _work(one, root, keys, "detecting", lambda key, image, result: write.image(key, image, result[0]))
    finished.familiarity = {key: familiarity for key, (_, familiarity) in finished.results.items()}
    finished.results = {key: found for key, (found, _) in finished.results.items()}
    _warn_of_other_sizes(loaded.detector, finished)
    scored = write.tables(finished, truth)
    if request.compare and truth is not None:
        write.compare(finished, truth)
    facts = [("Images", request.image), ("Model", str(model)), ("Engine", request.engine or "as the model folder holds it")]
    if loaded.terms is not None:
        facts.append(("Terms of the model", loaded.terms))
    if truth is not None:
        facts.append(("Annotation", f"{request.annotations}, {len(truth):,} of the images"))
        facts += learned
        if request.ignore_labels:
            facts.append(("Ignored labels", ", ".join(request.ignore_labels)))
        if request.annotated_labels:
            facts.append(("Annotated labels", ", ".join(request.annotated_labels)))
        if request.label_map:
            facts.append(("Names of the annotation", ", ".join(f"{name} is {label}" for name, label in request.label_map.items())))
    write_run_report(write, finished, truth, scored, facts, request.command_line())
    if request.review:
        write.review(finished, request.review, model)
    elif (request.output / REVIEW).exists():
        print(f"{request.output / REVIEW} is of an earlier run; it may hold corrections and was left as it is")
    write.say(finished)
    return finished.exit_code


def _learned_from(model: Path, truth: AnnotationSet, split: Path | None) -> list[tuple[str, str]]:
    """Warn of scored images that the model seems to have been trained on; the same for the report's facts."""
    try:
        seen = seen_in(model, [p.key for p in truth.images])
    except InputError as error:  # a list of names that is damaged costs the warning, not the run
        log.warning(f"{error}; whether the model was trained on the scored images is not known")
        return []
    if not seen:
        return []
    said = warning_of_seen("the model", "annotated", len(seen), len(truth))
    if split is None and "test" in read_parts(model / SPLIT):
        advice = f"; --split {model / SPLIT} scores its test part alone, if the images are of that data set"
    else:
        advice = ""
    log.warning(f"--annotations: {said}{advice} (first: {seen[0]})")
    return [("Seen in training", said)]


def _warn_of_other_sizes(detector: Any, finished: Finished) -> None:
    from malaria_cells.inference.detector import TwoStageDetector
    from malaria_cells.proposals.learned.scale import unusual_cell_sizes

    if not isinstance(detector, TwoStageDetector) or detector.proposer.cell_size is None:
        return
    usual = detector.proposer.reference_sizes
    shown = " to ".join(dict.fromkeys(f"{size:.0f}" for size in (min(usual), max(usual))))
    other = unusual_cell_sizes((found.xyxy[found.data["counted_as"] >= 0] for found in finished.results.values()), usual)
    if len(other):
        log.warning(
            f"cells are about {np.median(other):.0f} pixels wide in {len(other)} of {number_of(len(finished.results), 'image')}, "
            f"{shown} are the model's: look whether the boxes fit; --cell-size PIXELS sets the size"
        )


def _classify(request: RunRequest, loaded: Loaded, root: Path, keys: list[str], truth: AnnotationSet | None) -> int:
    from malaria_cells.data.patches import resize
    from malaria_cells.data.single_cells import as_in_image, is_cut_out
    from malaria_cells.inference.tta import scanned

    classifier, views = loaded.detector.classifier, loaded.detector.settings.tta

    def one(image: np.ndarray) -> np.ndarray:
        if loaded.detects and is_cut_out(image):
            image = as_in_image(image, classifier.context)
        image = loaded.detector.prepared(image)
        if loaded.scan:
            return scanned(classifier, image, classifier.image_size_hw, **loaded.scan, seed=loaded.seed)
        size_hw = classifier.refiner_size_hw
        crop_for_refiner = None if size_hw is None else lambda _: resize(image, size_hw)[None]
        return classifier(resize(image, classifier.image_size_hw)[None], views, crop_for_refiner)[0]

    finished = _work(one, root, keys, "classifying", lambda *_: None)
    write_classification(request.output, classifier, finished, truth)
    return finished.exit_code


def _work(
    step: Callable[[np.ndarray], Any], root: Path, keys: list[str], what: str, after: Callable[[str, np.ndarray, Any], None]
) -> Finished:
    """Work through the images, some at once; what is finished is written meanwhile."""

    def read_and_step(key: str) -> tuple[np.ndarray, Any]:
        image = read_image(root / key)
        return image, step(image)

    finished = Finished()
    with ThreadPoolExecutor(1) as writer:
        writing: deque[tuple[str, Future]] = deque()
        try:
            # A first call traces the network; it is start-up, not part of an image's time.
            step(np.full((256, 256, 3), 200, dtype=np.uint8))
            started = time.perf_counter()
            for key, working in progress(imap_ordered(read_and_step, keys), len(keys), what, "image"):
                try:
                    image, result = working.result()
                except InputError as error:
                    finished.failed[key] = str(error)
                    continue
                except Exception as error:  # what one image does to a library must not cost the results of the others
                    log.exception(f"{key}: failed unexpectedly (please report); continuing with the other images")
                    finished.failed[key] = f"{type(error).__name__}: {reason(error)}"
                    continue
                finished.sizes_wh[key] = (image.shape[1], image.shape[0])
                finished.results[key] = result
                finished.seconds = time.perf_counter() - started
                writing.append((key, writer.submit(after, key, image, result)))
                while len(writing) > PREFETCHED:
                    _await(*writing.popleft(), finished)
        except KeyboardInterrupt:
            finished.interrupted = True
        for key, written in writing:
            _await(key, written, finished)
    return finished


def _await(key: str, written: Future, finished: Finished) -> None:
    """Wait until an image is drawn: one that cannot be drawn or written must not cost the tables."""
    try:
        written.result()
    except OSError as error:
        log.warning(f"{key}: its image with boxes could not be written ({reason(error)}); it is in the tables")
        finished.not_drawn[key] = reason(error)
    except Exception as error:
        log.exception(f"{key}: could not be drawn, unexpectedly (please report); it is in the tables")
        finished.not_drawn[key] = f"{type(error).__name__}: {reason(error)}"
