"""Trains a two-stage detector (proposals, then patch classifiers) into a model folder."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.config import Config
from malaria_cells.data.dataset import DataSet
from malaria_cells.data.detections import Detections
from malaria_cells.data.seen_before import say_seen
from malaria_cells.evaluation.by_data_set import detected_by_data_set, has_named_sets
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.calibration import Calibration, fit_calibration
from malaria_cells.inference.classifier import Cascade, inference_function
from malaria_cells.inference.model_description import ModelDescription, file_fingerprint
from malaria_cells.inference.tta import Refinement
from malaria_cells.training.records import keep_record
from malaria_cells.training.start_model import StartModel, start_of
from malaria_cells.training.training_result import ClassifiedPart, DetectedPart, LearningCurve, TrainingResult
from malaria_cells.training.two_stage_data import PatchesByPart, check_single_cells, trained_proposer

EXAMPLES = 10  # patches per class in the sheet of training data


def train_two_stage_into(folder: Path, config: Config, data: DataSet, run: RunState) -> TrainingResult:
    """Train, choose thresholds, and write the model folder except for its report."""
    from malaria_cells.inference.model_folder import save_model
    from malaria_cells.training.cascade import cascade_of, train_classifiers, train_further

    check_single_cells(config.background_per_image > 0, data)
    start = start_of(config)
    _check_classifiers(config, data, start)
    seen_before = _seen_before(start, data)
    proposer = trained_proposer(config, data, run, start)
    patches = PatchesByPart.cut(config, data, proposer)
    starts = _starts(start, config, data, len(patches.names))
    trained = train_classifiers(patches.training, patches.is_infected, config, run, starts)
    cascade = cascade_of([inference_function(t.model) for t in trained], config)
    raw = {"validation": _predicted(cascade, patches, "validation", config)}
    calibration = fit_calibration(
        raw["validation"], patches.class_ids("validation"), trained[0].training_prior, patches.is_infected, patches.training.allowed
    )
    described = _description(config, data, patches, calibration)
    refinement = _refinement(cascade, raw["validation"], patches, calibration)
    cascade, inference = replace(cascade, refinement=refinement), replace(described.inference, refinement=refinement)
    description, detected = replace(described, inference=inference, adapted_from=start.record if start else None), None
    if patches.has_background:
        description, proposer, detections = _with_thresholds(description, cascade, proposer, data, config)
        detected = DetectedPart("validation", data.validation, detections, description.errors)
    further_rows = patches.store.rows_of(data.validation)
    fine_tuned = train_further(trained, patches.training, patches.is_infected, further_rows, config, run) if config.refit else []
    if "test" in patches.rows:
        last = cascade_of([inference_function(t.model) for t in fine_tuned], config, refinement) if fine_tuned else cascade
        raw["test"] = _predicted(last, patches, "test", config)
    classified = _classified(raw, patches, calibration)
    save_model(folder, [t.model for t in fine_tuned or trained], description, proposer)
    metrics = _epochs(trained, fine_tuned) | seen_before | _metrics(folder, data, classified, detected)
    keep_record(folder, config, data, metrics, [run.part(number) for number in range(len(trained) + len(fine_tuned))])
    examples = patches.store.examples(patches.rows["train"], patches.names, EXAMPLES) if config.plot_training_data else None
    result = TrainingResult(config, data, _curves(trained), metrics, classified=classified[-1], detected=detected)
    return replace(result, fine_tuned=_curves(fine_tuned), examples=examples)


def _predicted(cascade: Cascade, patches: PatchesByPart, part: str, config: Config) -> np.ndarray:
    """Return the uncalibrated probabilities of a part: float32 (n, n_classes)."""
    from malaria_cells.training.fit_classifier import predict_rows

    views = config.tta if isinstance(config.tta, int) else 1
    return predict_rows(cascade, patches.store, patches.rows[part], views, patches.is_infected, patches.refiner_store)


def _refinement(cascade: Cascade, refined: np.ndarray, patches: PatchesByPart, calibration: Calibration) -> Refinement:
    """Choose which cells are refined, on the validation patches of one class each; without a refiner the usual ones are."""
    from malaria_cells.training.fit_classifier import predict_rows
    from malaria_cells.training.fit_refinement import Answers, choose_refinement

    class_ids = patches.class_ids("validation")
    known = class_ids < len(patches.names)
    if cascade.refiner is None or not patches.is_infected.any():
        return Refinement()
    rows = patches.rows["validation"][known]
    first = predict_rows(Cascade(cascade.network), patches.store, rows, 1, patches.is_infected)
    once = predict_rows(cascade, patches.store, rows, 1, patches.is_infected, patches.refiner_store)
    refinement = choose_refinement(Answers(first, once, refined[known]), class_ids[known], patches.is_infected, calibration)
    print(
        f"cells are refined from a probability of infection of {refinement.min_infected}, in several views from {refinement.further_views}",
        file=sys.stderr,
    )
    return refinement


def _classified(raw: dict[str, np.ndarray], patches: PatchesByPart, calibration: Calibration) -> list[ClassifiedPart]:
    """Return the scored patches of each part, the test part last. Labels that stand for several classes cannot be scored."""
    parts = []
    for part, probabilities in raw.items():
        class_ids = patches.class_ids(part)
        known = class_ids < len(patches.names)
        parts.append(ClassifiedPart.scored(part, patches.names, class_ids[known], calibration(probabilities[known]), patches.is_infected))
    return parts


def _metrics(folder: Path, data: DataSet, classified: list[ClassifiedPart], detected: DetectedPart | None) -> dict[str, Any]:
    """Return the figures of ``metrics.json`` by part and by data set."""
    from malaria_cells.inference.model_folder import load_detector
    from malaria_cells.training.fit_familiarity import validated_coverage

    metrics: dict[str, Any] = {c.part: c.metrics for c in classified}
    if detected is not None:
        metrics["validation"] |= validated_coverage(data.validation, detected.detections, detected.errors)
        if data.test is not None and has_named_sets(data.test):
            metrics["by_data_set"] = detected_by_data_set(load_detector(folder)[0], data.test)
    return metrics


def _starts(start: StartModel | None, config: Config, data: DataSet, n_classes: int) -> list[Any]:
    """Return the networks that the classifiers start from; empty without a start model."""
    from malaria_cells.training.transfer import start_classifiers

    return [] if start is None else start_classifiers(start, config, data.train.labels, n_classes)


def _seen_before(start: StartModel | None, data: DataSet) -> dict[str, Any]:
    """Report the validation and test images that the start model was trained on, as ``metrics.json`` holds it."""
    scored = {part: annotations for part, annotations in data.parts.items() if part != "train"}
    return {} if start is None else say_seen(start.folder, scored)


def _check_classifiers(config: Config, data: DataSet, start: StartModel | None) -> None:
    """Check devices and build the classifiers, so that errors appear before the proposer is trained, which takes minutes or hours."""
    from malaria_cells.fitting.devices import check_devices
    from malaria_cells.models import build_classifier

    check_devices(config)
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


def _with_thresholds(
    description: ModelDescription, cascade: Cascade, proposer: Any, data: DataSet, config: Config
) -> tuple[ModelDescription, Any, list[Detections]]:
    """Return the description with thresholds, the proposer with any screening head, and the detections in the validation images."""
    from malaria_cells.inference.assembly import assemble, proposal_inference_function
    from malaria_cells.training.fit_familiarity import learned_from
    from malaria_cells.training.fit_screening import fit_screening
    from malaria_cells.training.thresholds import choose_thresholds, fit_margins

    method = "watershed" if description.proposals == "learned" else description.proposals  # what learned proposals can be replaced by
    description = replace(description, box_margins=fit_margins(method, data.train, description.stain))
    centres = proposal_inference_function(proposer) if proposer is not None else None
    detector, predictions = assemble(description, cascade, centres), None
    screened = fit_screening(detector, proposer, data, config) if proposer is not None and config.screening_epochs else None
    if screened is not None:
        proposer, predictions = screened.network, screened.predictions
        description = replace(description, screening=screened.screening)
        detector = assemble(description, cascade, proposal_inference_function(proposer))
    detector, detections = choose_thresholds(detector, data.validation, predictions, overlap=config.nms_iou is None)
    learned = learned_from(detector, data.train, data.validation, detections, config.elsewhere)
    return replace(description, **learned), proposer, detections


def _description(config: Config, data: DataSet, patches: PatchesByPart, calibration: Calibration) -> ModelDescription:
    from malaria_cells.inference.decision import DetectionSettings

    views, scan = (config.tta, None) if isinstance(config.tta, int) else (1, config.tta.model_dump())
    settings = DetectionSettings(config.nms, config.nms_iou or DetectionSettings.nms_iou, config.score_threshold, tta=views)
    fingerprints = {"patches": patches.store.fingerprint, "config": file_fingerprint(config.to_yaml())}
    fingerprints |= {part: annotations.fingerprint for part, annotations in data.all_parts.items()}
    return ModelDescription(
        labels=data.train.labels,
        model=config.model,
        has_background=patches.has_background,
        image_size_hw=config.image_size,
        context=config.context,
        cell_size=None if data.train.whole else data.train.median_cell_size,
        proposals=config.proposals if patches.has_background else "watershed",
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
