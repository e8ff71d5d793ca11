"""Trains a two-stage detector (proposals, then patch classifiers) into a model folder."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.progress import progress
from malaria_cells.config import Config
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.candidates import Candidates, label_candidates
from malaria_cells.data.dataset import DataSet
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import read_image
from malaria_cells.data.labels import BACKGROUND
from malaria_cells.data.partial_labels import background_id, class_sets
from malaria_cells.data.patch_store import Cropping, PatchStore, build_patch_store
from malaria_cells.data.seen_before import say_seen
from malaria_cells.data.stain import normalized
from malaria_cells.evaluation.by_data_set import detected_by_data_set, has_named_sets
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.calibration import Calibration, fit_calibration
from malaria_cells.inference.classifier import Cascade, infected_classes, inference_function
from malaria_cells.inference.model_description import ModelDescription, file_fingerprint
from malaria_cells.training.records import keep_record
from malaria_cells.training.start_model import StartModel, start_of
from malaria_cells.training.training_result import ClassifiedPart, DetectedPart, LearningCurve, TrainingResult

PROPOSER_BATCH = 8  # crops per step
EXAMPLES = 10  # patches per class in the sheet of training data


def train_two_stage_into(folder: Path, config: Config, data: DataSet, run: RunState) -> TrainingResult:
    """Train, choose thresholds, and write the model folder except for its report."""
    from malaria_cells.inference.model_folder import load_detector, save_model
    from malaria_cells.training.cascade import cascade_of, train_classifiers, train_further
    from malaria_cells.training.classifier_data import TrainingData
    from malaria_cells.training.fit_classifier import predict_rows
    from malaria_cells.training.fit_familiarity import validated_coverage

    _check_single_cells(config.background_per_image > 0, data)
    start = start_of(config)
    _check_classifiers(config, data, start)
    seen_before = _seen_before(start, data)
    proposer = _proposer(config, data, run, start) if config.proposals == "learned" and _wants_detection(config, data) else None
    candidates = _candidates(proposer, data, config) if proposer is not None else {}
    store, refiner_store = _stores(config, data, candidates)
    has_background = config.background_per_image > 0 and bool((store.class_ids[store.rows_of(data.all_images)] >= store.n_labels).any())
    _check_single_cells(has_background, data)
    names = (*data.train.labels.names, BACKGROUND) if has_background else data.train.labels.names
    rows = _rows(store, data, config)
    training_data = TrainingData(store, rows["train"], rows["validation"], len(names), refiner_store=refiner_store)
    is_infected = infected_classes(data.train.labels, len(names))
    starts = _starts(start, config, data, len(names))
    trained = train_classifiers(training_data, is_infected, config, run, starts)
    views = config.tta if isinstance(config.tta, int) else 1
    cascade = cascade_of([inference_function(t.model) for t in trained], config)
    raw = {"validation": predict_rows(cascade, store, rows["validation"], views, is_infected, refiner_store)}
    allowed = training_data.allowed
    calibration = fit_calibration(raw["validation"], store.class_ids[rows["validation"]], trained[0].training_prior, is_infected, allowed)
    described = _description(config, data, store, has_background, calibration)
    description, detected = replace(described, adapted_from=start.record if start else None), None
    if has_background:
        description, detections = _with_thresholds(description, cascade, proposer, data, config)
        detected = DetectedPart("validation", data.validation, detections, description.errors)
    fine_tuned = train_further(trained, training_data, is_infected, store.rows_of(data.validation), config, run) if config.refit else []
    if fine_tuned:
        cascade = cascade_of([inference_function(t.model) for t in fine_tuned], config)
    if "test" in rows:
        raw["test"] = predict_rows(cascade, store, rows["test"], views, is_infected, refiner_store)
    metrics = _epochs(trained, fine_tuned) | seen_before
    for part, probabilities in raw.items():
        known = store.class_ids[rows[part]] < len(names)  # labels that stand for several classes cannot be scored
        classified = ClassifiedPart.scored(part, names, store.class_ids[rows[part]][known], calibration(probabilities[known]), is_infected)
        metrics[part] = classified.metrics
    if detected is not None:
        metrics["validation"] |= validated_coverage(data.validation, detected.detections, detected.errors)
    save_model(folder, [t.model for t in fine_tuned or trained], description, proposer)
    if has_background and data.test is not None and has_named_sets(data.test):
        metrics["by_data_set"] = detected_by_data_set(load_detector(folder)[0], data.test)
    keep_record(folder, config, data, metrics, [run.part(number) for number in range(len(trained) + len(fine_tuned))])
    return TrainingResult(
        config,
        data,
        _curves(trained),
        metrics,
        classified=classified,
        detected=detected,
        fine_tuned=_curves(fine_tuned),
        examples=store.examples(rows["train"], names, EXAMPLES) if config.plot_training_data else None,
    )


def _starts(start: StartModel | None, config: Config, data: DataSet, n_classes: int) -> list[Any]:
    """Return the networks that the classifiers start from; empty without a start model."""
    from malaria_cells.training.transfer import start_classifiers

    return [] if start is None else start_classifiers(start, config, data.train.labels, n_classes)


def _seen_before(start: StartModel | None, data: DataSet) -> dict[str, Any]:
    """Report the validation and test images that the start model was trained on, as ``metrics.json`` holds it."""
    scored = {part: annotations for part, annotations in data.parts.items() if part != "train"}
    return {} if start is None else say_seen(start.folder, scored)


def _check_single_cells(has_background: bool, data: DataSet) -> None:
    """Check that there is a background class if a label stands for several classes, since the ids of such labels follow its id."""
    single = () if data.single_cells is None else data.single_cells.images
    if not has_background and any(p.one_of for p in single):
        raise InputError(
            "background_per_image: a list in label_map of data_sets needs a background class, but there are no background patches; "
            "expected 1 or more and images with room between the boxes, or one label in place of the list"
        )


def _check_classifiers(config: Config, data: DataSet, start: StartModel | None) -> None:
    """Build the classifiers once, so that errors appear before the proposer is trained, which takes minutes or hours."""
    from malaria_cells.models import build_classifier

    for recipe in config.classifiers:
        build_classifier(
            recipe.model, recipe.image_size, len(data.train.labels) + 1, recipe.dropout, recipe.weights or "none", recipe.freeze
        )
    if start is not None:
        from malaria_cells.training.class_transfer import classes_of, describe_classes

        n_classes = len(data.train.labels) + (config.background_per_image > 0)
        networks = _starts(start, config, data, n_classes)
        if networks[0] is not None:
            print(describe_classes(classes_of(start, data.train.labels, n_classes), start.folder), file=sys.stderr)


def _proposer(config: Config, data: DataSet, run: RunState, start: StartModel | None) -> Any:
    """Train the proposer, or load it from the run folder if an interrupted run has already trained it."""
    from malaria_cells.inference.model_folder import PROPOSER
    from malaria_cells.models.stored.keras_files import load_network
    from malaria_cells.proposals.learned.training import Schedule, train_proposer
    from malaria_cells.proposals.learned.training_images import Preprocessing

    path = run.folder / PROPOSER
    if not path.is_file():
        from malaria_cells.training.transfer import start_proposer

        print("training the proposer", file=sys.stderr)
        schedule = Schedule(config.proposer_epochs, config.proposer_steps, PROPOSER_BATCH)
        preprocessing = Preprocessing(config.stain_normalization, config.proposer_augmentation)
        model = train_proposer(data.train, schedule, preprocessing, config.random_state, None if start is None else start_proposer(start))
        with files.replacing(path) as temporary:
            model.save(temporary)
    return load_network(path)


def _wants_detection(config: Config, data: DataSet) -> bool:
    return config.background_per_image > 0 and not data.train.whole


def _candidates(proposer: Any, data: DataSet, config: Config) -> dict[str, Candidates]:
    """Find candidates in every image and label them by the annotation.

    The cell size of each image is taken from the annotation, so the scale is not estimated as it is at inference.
    """
    from malaria_cells.inference.assembly import proposal_inference_function
    from malaria_cells.proposals import Proposer
    from malaria_cells.proposals.learned.annotated_sizes import annotated_cell_sizes

    network, images = proposal_inference_function(proposer), data.all_images
    background_class_id, sets = len(images.labels), class_sets(data.all_cut)
    sizes = annotated_cell_sizes(images, data.train.median_cell_size)

    def find_in(image: AnnotatedImage, cell_size: float) -> Candidates:
        proposer_at_size = Proposer("learned", cell_size, network=network, follows=False)
        boxes_and_scores = proposer_at_size.candidates(normalized(read_image(image.path), config.stain_normalization))
        return label_candidates(image, *boxes_and_scores, background_id(image, background_class_id, sets))

    sized = zip(images.images, sizes, strict=True)
    return {p.key: find_in(p, size) for p, size in progress(sized, len(images), "finding candidates", "image")}


def _stores(config: Config, data: DataSet, candidates: dict[str, Candidates]) -> tuple[PatchStore, PatchStore | None]:
    """Return the patches of the classifier and, if their size differs, those of the refiner: the same cells in the same rows."""

    def cut(size_hw: tuple[int, int]) -> PatchStore:
        cropping = Cropping(size_hw, config.context, config.background_per_image, config.random_state, config.stain_normalization)
        return build_patch_store(data.all_cut, cropping, Path(config.patch_cache), candidates)

    last = config.classifiers[-1].image_size
    return cut(config.image_size), cut(last) if last != config.image_size else None


def _rows(store: PatchStore, data: DataSet, config: Config) -> dict[str, np.ndarray]:
    rows = {part: part_rows for part, annotations in data.parts.items() if len(part_rows := store.rows_of(annotations))}
    if data.single_cells is not None:
        rows["train"] = np.concatenate([rows["train"], store.rows_of(data.single_cells)])
    # Epochs are compared and probabilities calibrated on proposals, if there are any, since these are what the detector classifies.
    proposed = {part: rows[part][store.proposed[rows[part]]] for part in rows if part != "train"}
    rows |= {part: part_rows for part, part_rows in proposed.items() if len(part_rows)}
    if config.train_size is not None and not data.train.whole:
        rows["train"] = _limited(rows["train"], store, config)
    return rows


def _limited(rows: np.ndarray, store: PatchStore, config: Config) -> np.ndarray:
    """Draw at most `train_size` rows of each class, including background."""
    rng = np.random.default_rng(config.random_state)
    background_ids = [store.n_labels + 1 + k for k, members in enumerate(store.sets) if store.n_labels in members]
    class_ids = np.where(np.isin(store.class_ids[rows], background_ids), store.n_labels, store.class_ids[rows])
    by_class = [rng.permutation(rows[class_ids == c])[: config.train_size] for c in np.unique(class_ids)]
    return np.sort(np.concatenate(by_class))


def _with_thresholds(
    description: ModelDescription, cascade: Cascade, proposer: Any, data: DataSet, config: Config
) -> tuple[ModelDescription, list[Detections]]:
    from malaria_cells.inference.assembly import assemble, proposal_inference_function
    from malaria_cells.training.fit_familiarity import learned_from
    from malaria_cells.training.thresholds import choose_thresholds, fit_margins

    method = "watershed" if description.proposals == "learned" else description.proposals  # what learned proposals can be replaced by
    description = replace(description, box_margins=fit_margins(method, data.train, description.stain))
    centres = proposal_inference_function(proposer) if proposer is not None else None
    detector, detections = choose_thresholds(assemble(description, cascade, centres), data.validation, overlap=config.nms_iou is None)
    return replace(description, **learned_from(detector, data.train, data.validation, detections, config.elsewhere)), detections


def _description(config: Config, data: DataSet, store: PatchStore, has_background: bool, calibration: Calibration) -> ModelDescription:
    from malaria_cells.inference.decision import DetectionSettings

    views, scan = (config.tta, None) if isinstance(config.tta, int) else (1, config.tta.model_dump())
    settings = DetectionSettings(config.nms, config.nms_iou or DetectionSettings.nms_iou, config.score_threshold, tta=views)
    fingerprints = {"patches": store.fingerprint, "config": file_fingerprint(config.to_yaml())}
    fingerprints |= {part: annotations.fingerprint for part, annotations in data.all_parts.items()}
    return ModelDescription(
        labels=data.train.labels,
        model=config.model,
        has_background=has_background,
        image_size_hw=config.image_size,
        context=config.context,
        cell_size=None if data.train.whole else data.train.median_cell_size,
        proposals=config.proposals if has_background else "watershed",
        box_margins={},
        settings=settings,
        calibration=calibration,
        fingerprints=fingerprints,
        seed=config.random_state,
        scan=scan,
        proposer_tta=config.proposer_tta,
        refiner=config.refiner.model if config.refiner else None,
        refiner_size_hw=config.refiner.image_size if config.refiner else None,
        stain=config.stain_normalization,
        terms=config.terms,
        cell_sizes=data.train.median_cell_sizes if data.train.is_of_several_sets and not data.train.whole else {},
    )


def _curves(trainings: list[Any]) -> list[LearningCurve]:
    return [LearningCurve(t.history, t.best_epoch) for t in trainings]


def _epochs(trained: list[Any], fine_tuned: list[Any]) -> dict[str, Any]:
    classifier, *refiner = ({"best_epoch": t.best_epoch + 1, "epochs": len(t.history)} for t in trained)
    figures: dict[str, Any] = classifier | ({"refiner": refiner[0]} if refiner else {})
    return figures | ({"refit": {"epochs": [len(t.history) for t in fine_tuned]}} if fine_tuned else {})
