"""``adapt``: fine-tunes a trained model on a few annotated images and writes a new model."""

import logging
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from malaria_cells.app.commands.adapt_data import AdaptationImages, AdaptRequest, config_of, load_images, print_summary
from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.progress import progress
from malaria_cells.base.tensorflow_setup import start_tensorflow
from malaria_cells.base.text import number_of, rounded
from malaria_cells.config import Config
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.dataset import DataSet
from malaria_cells.data.labels import BACKGROUND, LabelSet
from malaria_cells.data.seen_before import say_seen
from malaria_cells.evaluation import as_one_class, cell_figures, detection_metrics, error_rates, infected_figures
from malaria_cells.fitting.claim import check_place, claimed
from malaria_cells.inference.calibration import Calibration, InfectionSigmoid
from malaria_cells.inference.counting import ErrorRates
from malaria_cells.inference.model_description import ABOUT, ModelDescription, file_fingerprint
from malaria_cells.inference.model_folder import assemble, load_detector, save_model
from malaria_cells.results.training_report import write_training_files
from malaria_cells.training.budget import Budget, plan_of, stages_of
from malaria_cells.training.records import keep_record
from malaria_cells.training.start_model import StartModel, find_start
from malaria_cells.training.training_result import ClassifiedPart, DetectedPart, LearningCurve, TrainingResult

log = logging.getLogger(__name__)

MANY_IMAGES = 60  # with more images a training with `start_from` gives a better model
PART = "cross-validation"
TOLERANCE = 0.01  # AP or F1; a warning is given if the new model is worse than the start model by more


def adapt(request: AdaptRequest) -> int:
    """Fine-tune a model on a few annotated images and write the new model's folder.

    Returns:
        Exit code.

    Raises:
        InputError: the request or the images are invalid; nothing is written.
    """
    start = find_start(request.model, "--from")
    output, name = request.output.parent, request.output.name
    check_place(output, name)
    files.check_replaceable(request.output, ABOUT)
    _check_no_overlap(request)
    config = config_of(request, start)
    images = load_images(request, config)
    print_summary(images, start)
    seen_before = say_seen(start.folder, {PART: images.annotated}, "--from")
    if len(images.annotated) > MANY_IMAGES:
        log.warning(
            f"{len(images.annotated)} images are more than adapt is made for; train.py with `start_from: {request.model}` takes longer "
            "and gives a better model"
        )
    with claimed(output, name, resume=False):
        start_tensorflow()
        with files.replacing_folder(request.output, ABOUT) as new_folder, files.scratch_folder(request.output) as folder:
            _AdaptationRun(request, start, config, images, seen_before).write(new_folder, folder)
    print(f"model: {request.output}\nnext:  python run.py --model {request.output} --image IMAGES")
    return 0


def _check_no_overlap(request: AdaptRequest) -> None:
    """Check that the output folder neither contains an input nor lies in the start model's folder."""
    output, model = request.output.resolve(), request.model.resolve()
    if model == output or model in output.parents:
        where = "is" if model == output else "lies in"
        raise InputError(f"--output {request.output}: {where} the start model's folder, which must not change; name another folder")
    for path in (request.model, request.data, request.images, request.old_data):
        if path is not None and output in (path.resolve(), *path.resolve().parents):
            raise InputError(f"--output {request.output}: contains the input {path}, which would be overwritten; name another folder")


@dataclass(frozen=True)
class _AdaptationRun:
    request: AdaptRequest
    start: StartModel
    config: Config
    images: AdaptationImages
    seen_before: dict[str, dict[str, int]]

    @property
    def labels(self) -> LabelSet:
        return self.images.annotated.labels

    def write(self, folder: Path, work_folder: Path) -> None:
        """Cross-validate, choose thresholds, train on all images, and write the model into `folder`."""
        from malaria_cells.training import few, transfer
        from malaria_cells.training.adaptation import Adaptation
        from malaria_cells.training.fit_classifier import TrainingData
        from malaria_cells.training.fit_familiarity import fit_familiarity
        from malaria_cells.training.thresholds import choose_thresholds, fit_margins

        annotated, start = self.images.annotated, self.start.description
        n_classes = len(self.labels) + 1
        names = (*self.labels.names, BACKGROUND)
        plan = plan_of(len(annotated), len({p.group for p in annotated.images}), len(self.images.old))
        budget = Budget(60 * self.request.minutes, stages_of(plan, self.config.refiner is not None))
        figures = {"before": self._start_figures()}
        classifiers = transfer.start_classifiers(self.start, self.config, self.labels, n_classes)
        proposer = transfer.start_proposer(self.start)
        work = Adaptation(annotated, self.images.old, self.config, plan, budget, proposer, classifiers, work_folder)
        proposer_fraction, precisions = work.proposals_out_of_fold()
        stores = work.stores()
        out_of_fold, folds = work.classifiers_out_of_fold(stores, n_classes, start.settings.tta)
        fraction, losses = out_of_fold.best_fraction()
        raw, fitted = out_of_fold.calibrated(fraction)
        n_cells, n_infected = int(annotated.class_counts.sum()), int(annotated.class_counts[self.labels.is_infected].sum())
        calibration = few.blended_calibration(fitted, self._start_scaling(fitted, raw, out_of_fold.is_infected), n_infected)
        description = self._description(stores[0].fingerprint, replace(start, calibration=calibration))
        description = replace(description, box_margins=fit_margins("watershed", annotated, self.config.stain_normalization))
        detector = assemble(description, work.networks, work.centres)
        predictions = work.predictions_out_of_fold(detector, folds, fraction)
        chosen, _ = choose_thresholds(detector, annotated, predictions)
        settings = few.blended_settings(chosen.settings, start.settings, n_infected, n_cells)
        detector = detector.with_settings(**asdict(settings))
        detected = [detector.decide(*predictions[p.key]) for p in annotated.images]
        figures["after"] = _figures(annotated, detected)
        familiarity = fit_familiarity(self.images.old, annotated, detected, description.cell_size)
        description = replace(description, settings=settings, errors=self._errors(detected, n_infected), familiarity=familiarity)

        new_proposer = work.trained_proposer(annotated, "proposer")
        data = TrainingData(stores[0], np.arange(len(stores[0])), None, n_classes, refiner_store=stores[1])
        trained, runs = work.trained_classifiers(data, out_of_fold.is_infected, "classifiers")
        work.centres.take(new_proposer, proposer_fraction)
        work.take_classifiers([t.model.get_weights() for t in trained], fraction)
        save_model(folder, work.classifiers, description, work.proposer)

        messages = few.said_of_few(self.labels, n_infected, n_cells)
        probabilities = calibration(raw)
        classified = ClassifiedPart.scored(PART, names, out_of_fold.class_ids, probabilities, out_of_fold.is_infected)
        metrics = detection_metrics(list(annotated.images), detected, self.labels, None)
        detected_part = DetectedPart(PART, annotated, detected, description.errors, metrics)
        parts = DataSet(annotated, annotated.subset(()), self.images.test)
        record: dict[str, Any] = {
            "adapted_from": self.start.record,
            "images": len(annotated),
            "old_images": len(self.images.old),
            "folds": plan.folds,
            "share_of_new_weights": {"proposer": proposer_fraction, "classifiers": fraction},
            **self.seen_before,
            "compared": {"cell_AP50_by_share_of_proposer": precisions, "loss_by_share_of_classifiers": losses},
            "steps": budget.taken,
            "kept": messages,
            **figures,
            PART: classified.metrics | {"detection": metrics},
        }
        keep_record(folder, self.config, parts, record, runs)
        result = TrainingResult(
            self.config,
            parts,
            [LearningCurve(t.history, t.best_epoch) for t in trained],
            record,
            classified=classified,
            detected=detected_part,
            command=command_line(self.request),
        )
        write_training_files(folder, self.request.output.name, result)
        self._report(figures, messages, budget)

    def _start_scaling(self, fitted: Calibration, raw: np.ndarray, is_infected: np.ndarray) -> InfectionSigmoid | None:
        """The start model's Platt scaling of infection for the new calibration; None unless there are infected and other classes."""
        from malaria_cells.training import few, transfer

        if not is_infected.any() or is_infected.all():
            return None
        start = self.start.description.calibration
        columns = transfer.classes_of(self.start, self.labels, len(is_infected)).columns_before
        return few.carried_over(start.infection, few.start_in_new_classes(start, columns, is_infected), fitted, raw, is_infected)

    def _start_figures(self) -> dict[str, float | None] | None:
        """The start model's figures on the images; None if it has labels that the new model lacks."""
        detector, description = load_detector(self.start.folder)
        names = description.labels.names
        if any(name not in self.labels.names for name in names):
            return None
        ids = np.array([self.labels.names.index(name) for name in names] + [-1])
        images = self.images.annotated.images
        detected = [detector.detect(p.path) for p in progress(images, len(images), "detecting with the start model", "image")]
        for d in detected:
            d.class_id, d.data["counted_as"] = ids[d.class_id], ids[d.data["counted_as"]]
        return _figures(self.images.annotated, detected)

    def _description(self, patches: str, template: ModelDescription) -> ModelDescription:
        config, refiner = self.config, self.config.refiner
        return replace(
            template,
            labels=self.labels,
            has_background=True,
            image_size_hw=config.image_size,
            context=config.context,
            cell_size=self.images.annotated.median_cell_size,
            cell_sizes={},  # the start model's were measured on other laboratories, as were its errors
            errors_elsewhere=None,
            unfamiliar=None,
            fingerprints={
                "patches": patches,
                "config": file_fingerprint(config.to_yaml()),
                "train": self.images.annotated.fingerprint,
            },
            seed=config.random_state,
            scan=None,
            stain=config.stain_normalization,
            errors=None,
            refiner=refiner.model if refiner else None,
            refiner_size_hw=refiner.image_size if refiner else None,
            adapted_from=self.start.record,
        )

    def _errors(self, detected: list[sv.Detections], n_infected: int) -> ErrorRates | None:
        """Error rates out of fold; those of infected cells are the start model's if fewer than `few.MIN_INFECTED` are annotated."""
        from malaria_cells.training.few import MIN_INFECTED

        if not self.labels.is_infected.any():
            return None
        errors, start_errors = error_rates(list(self.images.annotated.images), detected, self.labels), self.start.description.errors
        if n_infected >= MIN_INFECTED or start_errors is None:
            return errors
        return replace(errors, infected=start_errors.infected, found=start_errors.found)

    def _report(self, figures: dict[str, Any], messages: list[str], budget: Budget) -> None:
        before, after = figures["before"], figures["after"]
        print(f"cross-validated on {number_of(len(self.images.annotated), 'image')}:")
        for key, name in NAMES.items():
            if after[key] is not None:
                was = f"{rounded(before[key])} before, " if before else ""
                print(f"  {name}: {was}{rounded(after[key])} now")
        for message in messages:
            log.warning(message)
        worse = [
            NAMES[key]
            for key in NAMES
            if before and before[key] is not None and after[key] is not None and after[key] < before[key] - TOLERANCE
        ]
        if worse:
            log.warning(
                f"the new model has a lower {' and '.join(worse)} on these images than {self.request.model}; see report.html, annotate "
                "more images, or keep the old model"
            )
        if budget.least_fraction < 1:
            log.warning(
                f"--minutes {self.request.minutes:g}: this machine had time for {budget.least_fraction:.0%} of the planned training steps; "
                "more minutes may give a better model"
            )
        print(f"{budget.elapsed:.0f} s")


NAMES = {"cell_AP50": "cell AP50", "infected_AP50": "infected AP50", "infected_f1": "infected F1"}


def _figures(annotated: AnnotationSet, detected: list[sv.Detections]) -> dict[str, float | None]:
    images, labels = list(annotated.images), annotated.labels
    figures: dict[str, float | None] = {
        "cell_AP50": cell_figures(images, detected, labels).ap50[0],
        "infected_AP50": None,
        "infected_f1": None,
    }
    if annotated.class_counts[labels.is_infected].sum():
        figures["infected_AP50"] = as_one_class(images, detected, labels.is_infected).ap50[0]
        figures["infected_f1"] = infected_figures(images, detected, labels)["f1"]
    return figures


def command_line(request: AdaptRequest) -> str:
    """The command that makes the same model."""
    words = ["malaria-cells", "adapt", str(request.data), "--from", str(request.model), "--output", str(request.output)]
    for flag, value in (("--images", request.images), ("--group", request.group), ("--old-data", request.old_data)):
        words += [flag, str(value)] if value is not None else []
    words += ["--format", request.format] if request.format != "auto" else []
    for flag, names in (("--labels", request.labels), ("--infected-labels", request.infected_labels)):
        words += [flag, ",".join(names)] if names is not None else []
    words += ["--ignore-labels", ",".join(request.ignore_labels)] if request.ignore_labels else []
    words += ["--label-map", ",".join(f"{a}={b}" for a, b in request.label_map.items())] if request.label_map else []
    words += ["--minutes", f"{request.minutes:g}"] if request.minutes != AdaptRequest.minutes else []
    return shlex.join(words)
