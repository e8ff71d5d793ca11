"""Trains a one-stage detector into a model folder."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from malaria_cells.base.errors import InputError
from malaria_cells.base.progress import progress
from malaria_cells.base.text import number_of
from malaria_cells.config import Config
from malaria_cells.data.dataset import DataSet
from malaria_cells.evaluation.by_data_set import figures_by_data_set, has_named_sets
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.calibration import Calibration
from malaria_cells.inference.model_description import ModelDescription, file_fingerprint
from malaria_cells.training.records import keep_record
from malaria_cells.training.training_result import DetectedPart, LearningCurve, TrainingResult

log = logging.getLogger(__name__)


def train_one_stage_into(folder: Path, config: Config, data: DataSet, run: RunState) -> TrainingResult:
    """Train, choose thresholds, and write the model folder except for its report.

    Raises:
        InputError: the labels are of whole images, or the loss became NaN.
    """
    from malaria_cells.evaluation import detection_metrics
    from malaria_cells.inference.assembly import assemble_one_stage
    from malaria_cells.inference.classifier import inference_function
    from malaria_cells.inference.model_folder import save_model
    from malaria_cells.training.fit_familiarity import learned_from, validated_coverage
    from malaria_cells.training.fit_one_stage import train_one_stage
    from malaria_cells.training.thresholds import choose_thresholds

    if data.train.whole:
        raise InputError(f"detector: {config.detector} needs boxes, but the labels are of whole images; set detector: two_stage")
    if data.single_cells is not None:
        single = number_of(len(data.single_cells), "image")
        log.warning(f"detector: {config.detector} is not trained on images of single cells; {single} left out")
    model, size_hw = train_one_stage(data, config, run)
    description = _description(config, data, size_hw)
    detector, on_validation = choose_thresholds(assemble_one_stage(description, inference_function(model)), data.validation)
    save_model(
        folder,
        [model],
        replace(description, **learned_from(detector, data.train, data.validation, on_validation, config.elsewhere)),
    )
    metrics: dict[str, Any] = {"best_epoch": (run.best_epoch or 0) + 1, "epochs": len(run.history)}
    detected = {"validation": on_validation}
    if data.test is not None:
        test = data.test.images
        detected["test"] = [detector.detect(p.path) for p in progress(test, len(test), "test", "image")]
    scored = {part: detection_metrics(list(data.parts[part].images), d, data.train.labels, None) for part, d in detected.items()}
    metrics |= {part: part_metrics.to_json() for part, part_metrics in scored.items()}
    if data.test is not None and has_named_sets(data.test):
        detections_by_key = {p.key: d for p, d in zip(data.test.images, detected["test"], strict=True)}
        metrics["by_data_set"] = figures_by_data_set(data.test, detections_by_key)
    metrics["validation"] |= validated_coverage(data.validation, on_validation, detector.errors)
    keep_record(folder, config, data, metrics, [run])
    reported_part = "test" if "test" in detected else "validation"
    reported = DetectedPart(reported_part, data.parts[reported_part], detected[reported_part], detector.errors, scored[reported_part])
    curve = LearningCurve(run.history, run.best_epoch or 0)
    return TrainingResult(config, data, [curve], metrics, _panels(run.history[0]), detected=reported)


def _panels(row: dict[str, float]) -> dict[str, str]:
    """Return the titles of the two parts of the loss by their key in the history; keras-cv's detectors name them differently."""
    labels = next(key for key in row if key.startswith("class") and key.endswith("_loss"))
    return {"box_loss": "Box loss", labels: "Class loss"}


def _description(config: Config, data: DataSet, size_hw: tuple[int, int]) -> ModelDescription:
    from malaria_cells.inference.decision import DetectionSettings

    fingerprints = {"config": file_fingerprint(config.to_yaml())}
    return ModelDescription(
        labels=data.train.labels,
        model=config.detector,
        has_background=True,
        image_size_hw=size_hw,
        context=1.0,
        cell_size=data.train.median_cell_size,
        proposals="watershed",
        box_margins={},
        settings=DetectionSettings(config.nms, config.nms_iou or DetectionSettings.nms_iou, config.score_threshold),
        calibration=Calibration.none(len(data.train.labels) + 1),
        fingerprints=fingerprints | {part: annotations.fingerprint for part, annotations in data.all_parts.items()},
        seed=config.random_state,
        detector=config.detector,
        terms=config.terms,
    )
