"""Fine-tunes a trained model on a few annotated images, and decides by cross-validation what fraction of the new weights is taken."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base.progress import progress
from malaria_cells.config import Config
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.dataset import DataSet
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import BACKGROUND, LabelSet
from malaria_cells.data.patch_store import PatchStore
from malaria_cells.evaluation import DetectionMetrics, detection_metrics, error_rates
from malaria_cells.inference.assembly import assemble
from malaria_cells.inference.calibration import Calibration, InfectionSigmoid
from malaria_cells.inference.error_rates import ErrorRates
from malaria_cells.inference.model_description import ModelDescription, file_fingerprint
from malaria_cells.inference.model_folder import load_detector, save_model
from malaria_cells.training import few_images, transfer
from malaria_cells.training.adaptation import Adaptation
from malaria_cells.training.adaptation_result import PART, AdaptationImages, Adapted
from malaria_cells.training.budget import Budget, Plan, plan_of, stages_of
from malaria_cells.training.class_transfer import classes_of
from malaria_cells.training.classifier_data import TrainingData
from malaria_cells.training.fit_familiarity import fit_familiarity
from malaria_cells.training.records import keep_record
from malaria_cells.training.start_model import StartModel
from malaria_cells.training.thresholds import choose_thresholds, fit_margins
from malaria_cells.training.training_result import ClassifiedPart, DetectedPart, LearningCurve, TrainingResult


@dataclass(frozen=True)
class _CrossValidated:
    """What cross-validation has found.

    Attributes:
        description: of the new model.
        proposer_fraction: fraction of the proposer's new weights that is taken.
        fraction: that of the classifiers.
        compared: figures by fraction, for ``metrics.json``.
        stores: patches of the classifier, and of the refiner if its patches have another size.
        is_infected: bool (n_classes,).
        detected: detections of each image by networks that were not trained on it.
        classified: patches, classified in the same way.
    """

    description: ModelDescription
    proposer_fraction: float
    fraction: float
    compared: dict[str, Any]
    stores: tuple[PatchStore, PatchStore | None]
    is_infected: np.ndarray
    detected: list[Detections]
    classified: ClassifiedPart


@dataclass(frozen=True)
class ModelAdaptation:
    """Makes a new model of a start model and a few images.

    Attributes:
        start: the start model.
        config: recipe of the new model.
        images: the few images, and others.
        minutes: time that all of it may take.
        seen_before: what is known of images that the start model was trained on, for ``metrics.json``.
    """

    start: StartModel
    config: Config
    images: AdaptationImages
    minutes: float
    seen_before: dict[str, dict[str, int]]

    @property
    def annotated(self) -> AnnotationSet:
        """The few images."""
        return self.images.annotated

    @property
    def labels(self) -> LabelSet:
        """Labels of the new model."""
        return self.annotated.labels

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of annotated infected cells and of all cells."""
        counts = self.annotated.class_counts
        return int(counts[self.labels.is_infected].sum()), int(counts.sum())

    def write(self, folder: Path, work_folder: Path, command: str) -> Adapted:
        """Cross-validate, choose thresholds, train on all images, and write the model.

        Args:
            folder: to write into.
            work_folder: for checkpoints.
            command: what to type for the same model, for the report.
        """
        plan = plan_of(len(self.annotated), len({p.group for p in self.annotated.images}), len(self.images.old))
        budget = Budget(60 * self.minutes, stages_of(plan, self.config.refiner is not None))
        before = self._start_figures()
        classifiers = transfer.start_classifiers(self.start, self.config, self.labels, len(self.labels) + 1)
        proposer = transfer.start_proposer(self.start)
        inference = self.start.description.inference
        work = Adaptation(self.annotated, self.images.old, self.config, plan, budget, proposer, classifiers, work_folder, inference)
        validated = self._cross_validated(work)
        curves, runs = self._train_on_all(work, validated)
        save_model(folder, work.classifiers, validated.description, work.proposer)
        metrics = self._scored(validated.detected)
        after, messages = self._figures(metrics), few_images.describe_few(self.labels, *self.counts)
        figures = {"kept": messages, "before": before, "after": after}
        part = validated.classified.metrics | {"detection": metrics.to_json()}
        record = self._record(validated, plan, budget, figures | {PART: part})
        parts = DataSet(self.annotated, self.annotated.subset(()), self.images.test)
        keep_record(folder, self.config, parts, record, runs)
        detected = DetectedPart(PART, self.annotated, validated.detected, validated.description.errors, metrics)
        result = TrainingResult(self.config, parts, curves, record, classified=validated.classified, detected=detected, command=command)
        return Adapted(result, before, after, messages, budget)

    def _cross_validated(self, work: Adaptation) -> _CrossValidated:
        """Train without each part of the images, and choose fractions, calibration and thresholds by the parts left out."""
        start, (n_infected, n_cells) = self.start.description, self.counts
        names = (*self.labels.names, BACKGROUND)
        proposer_fraction, precisions = work.proposals_out_of_fold()
        stores = work.stores()
        out_of_fold, folds = work.classifiers_out_of_fold(stores, len(names), start.settings.tta)
        fraction, losses = out_of_fold.best_fraction()
        raw, fitted = out_of_fold.calibrated(fraction)
        calibration = few_images.blended_calibration(fitted, self._start_scaling(fitted, raw, out_of_fold.is_infected), n_infected)
        description = self._description(stores[0].fingerprint, replace(start, calibration=calibration))
        description = replace(description, box_margins=fit_margins("watershed", self.annotated, self.config.stain_normalization))
        detector = assemble(description, work.cascade, work.centres)
        predictions = work.predictions_out_of_fold(detector, folds, fraction)
        chosen, _ = choose_thresholds(detector, self.annotated, predictions)
        settings = few_images.blended_settings(chosen.settings, start.settings, n_infected, n_cells)
        detector = detector.with_settings(**asdict(settings))
        detected = [detector.decide(*predictions[p.key]) for p in self.annotated.images]
        limits = start.familiarity.limits if start.familiarity else None
        familiarity = fit_familiarity(self.images.old, self.annotated, detected, description.cell_size, limits)
        description = replace(description, settings=settings, errors=self._errors(detected, n_infected), familiarity=familiarity)
        compared = {"cell_AP50_by_share_of_proposer": precisions, "loss_by_share_of_classifiers": losses}
        classified = ClassifiedPart.scored(PART, names, out_of_fold.class_ids, calibration(raw), out_of_fold.is_infected)
        is_infected = out_of_fold.is_infected
        return _CrossValidated(description, proposer_fraction, fraction, compared, stores, is_infected, detected, classified)

    def _train_on_all(self, work: Adaptation, validated: _CrossValidated) -> tuple[list[LearningCurve], list[Any]]:
        """Train on all images and take the fractions of the new weights; returns learning curves and run states."""
        store, refiner_store = validated.stores
        new_proposer = work.trained_proposer(self.annotated, "proposer")
        data = TrainingData(store, np.arange(len(store)), None, len(self.labels) + 1, refiner_store=refiner_store)
        trained, runs = work.trained_classifiers(data, validated.is_infected, "classifiers")
        work.centres.take(new_proposer, validated.proposer_fraction)
        work.take_classifiers([t.model.get_weights() for t in trained], validated.fraction)
        return [LearningCurve(t.history, t.best_epoch) for t in trained], runs

    def _record(self, validated: _CrossValidated, plan: Plan, budget: Budget, figures: dict[str, Any]) -> dict[str, Any]:
        """Return the content of ``metrics.json``."""
        return {
            "adapted_from": self.start.record,
            "images": len(self.annotated),
            "old_images": len(self.images.old),
            "folds": plan.folds,
            "share_of_new_weights": {"proposer": validated.proposer_fraction, "classifiers": validated.fraction},
            **self.seen_before,
            "compared": validated.compared,
            "steps": budget.taken,
            **figures,
        }

    def _start_scaling(self, fitted: Calibration, raw: np.ndarray, is_infected: np.ndarray) -> InfectionSigmoid | None:
        """The start model's Platt scaling of infection for the new calibration; None unless there are infected and other classes."""
        if not is_infected.any() or is_infected.all():
            return None
        start = self.start.description.calibration
        columns = classes_of(self.start, self.labels, len(is_infected)).columns_before
        return few_images.carried_over(
            start.infection, few_images.start_in_new_classes(start, columns, is_infected), fitted, raw, is_infected
        )

    def _start_figures(self) -> dict[str, float | None] | None:
        """The start model's figures on the images; None if it has labels that the new model lacks."""
        detector, description = load_detector(self.start.folder)
        names = description.labels.names
        if any(name not in self.labels.names for name in names):
            return None
        ids = np.array([self.labels.names.index(name) for name in names] + [-1])
        images = self.annotated.images
        detected = [detector.detect(p.path) for p in progress(images, len(images), "detecting with the start model", "image")]
        return self._figures(self._scored([replace(d, class_id=ids[d.class_id], counted_as=ids[d.counted_as]) for d in detected]))

    def _scored(self, detected: list[Detections]) -> DetectionMetrics:
        return detection_metrics(list(self.annotated.images), detected, self.labels, None)

    def _figures(self, metrics: DetectionMetrics) -> dict[str, float | None]:
        """The figures by which the models before and after are compared; those of infected cells are None if none is annotated."""
        infected = metrics.infected if self.annotated.class_counts[self.labels.is_infected].any() else None
        infected_figures = (metrics.infected_ap50, infected.f1) if infected else (None, None)
        return dict(zip(("cell_AP50", "infected_AP50", "infected_f1"), (metrics.cell_ap50, *infected_figures), strict=True))

    def _description(self, patches: str, template: ModelDescription) -> ModelDescription:
        config, refiner = self.config, self.config.refiner
        return replace(
            template,
            labels=self.labels,
            has_background=True,
            image_size_hw=config.image_size,
            context=config.context,
            cell_size=self.annotated.median_cell_size,
            cell_sizes={},  # the start model's were measured on other laboratories, as were its errors
            errors_elsewhere=None,
            unfamiliar=None,
            screening=None,  # its head belongs to the start model's network as it was before fine-tuning
            fingerprints={
                "patches": patches,
                "config": file_fingerprint(config.to_yaml()),
                "train": self.annotated.fingerprint,
            },
            seed=config.random_state,
            scan=None,
            stain=config.stain_normalization,
            errors=None,
            refiner=refiner.model if refiner else None,
            refiner_size_hw=refiner.image_size if refiner else None,
            adapted_from=self.start.record,
        )

    def _errors(self, detected: list[Detections], n_infected: int) -> ErrorRates | None:
        """Error rates out of fold; those of infected cells are the start model's if fewer than `few_images.MIN_INFECTED` are annotated."""
        if not self.labels.is_infected.any():
            return None
        errors, start_errors = error_rates(list(self.annotated.images), detected, self.labels), self.start.description.errors
        if n_infected >= few_images.MIN_INFECTED or start_errors is None:
            return errors
        return replace(errors, infected=start_errors.infected, detected=start_errors.detected)
