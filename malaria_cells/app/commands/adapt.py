"""``adapt``: a trained model and a few annotated images in, a model for such images out."""

import logging
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from malaria_cells.app.commands.adapt_data import AdaptationImages, AdaptRequest, config_of, images, say_images
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

MANY = 60  # images from which a training with `start_from` serves better
PART = "cross-validation"
WORSE = 0.01  # of an average precision, by which the new model may be worse on its images before that is warned of


def adapt(request: AdaptRequest) -> int:
    """Go on from a model with a few annotated images and write the new model's folder.

    Returns:
        Exit code.

    Raises:
        InputError: the request or the images are wrong; nothing is written then.
    """
    start = find_start(request.model, "--from")
    output, name = request.output.parent, request.output.name
    check_place(output, name)
    files.check_replaceable(request.output, ABOUT)
    _check_apart(request)
    config = config_of(request, start)
    found = images(request, config)
    say_images(found, start)
    seen = say_seen(start.folder, {PART: found.annotated}, "--from")
    if len(found.annotated) > MANY:
        log.warning(f"{len(found.annotated)} images are many: train.py with `start_from: {request.model}` takes longer and learns more")
    with claimed(output, name, resume=False):
        start_tensorflow()
        with files.replacing_folder(request.output, ABOUT) as beside, files.scratch_folder(request.output) as folder:
            _Work(request, start, config, found, seen).into(beside, folder)
    print(f"model: {request.output}\nnext:  python run.py --model {request.output} --image IMAGES")
    return 0


def _check_apart(request: AdaptRequest) -> None:
    """See that what is read is no part of the folder that is replaced, and that the start model gets no folder within it."""
    output, model = request.output.resolve(), request.model.resolve()
    if model == output or model in output.parents:
        where = "is" if model == output else "lies in"
        raise InputError(f"--output {request.output}: {where} the model that is begun with, which stays as it is; name another folder")
    for read in (request.model, request.data, request.images, request.old_data):
        if read is not None and output in (read.resolve(), *read.resolve().parents):
            raise InputError(f"--output {request.output}: would be written over with {read} in it, which is read; name another folder")


@dataclass(frozen=True)
class _Work:
    request: AdaptRequest
    start: StartModel
    config: Config
    found: AdaptationImages
    seen: dict[str, dict[str, int]]

    @property
    def labels(self) -> LabelSet:
        return self.found.annotated.labels

    def into(self, folder: Path, work_folder: Path) -> None:
        """Train, measure, choose, and write everything into the new model's folder."""
        from malaria_cells.training import few, transfer
        from malaria_cells.training.adaptation import Adaptation
        from malaria_cells.training.fit_classifier import TrainingData
        from malaria_cells.training.fit_familiarity import fit_familiarity
        from malaria_cells.training.thresholds import choose_thresholds, fit_margins

        annotated, before = self.found.annotated, self.start.description
        n_classes = len(self.labels) + 1
        names = (*self.labels.names, BACKGROUND)
        plan = plan_of(len(annotated), len({p.group for p in annotated.images}), len(self.found.old))
        budget = Budget(60 * self.request.minutes, stages_of(plan, self.config.refiner is not None))
        figures = {"before": self._before()}
        classifiers = transfer.start_classifiers(self.start, self.config, self.labels, n_classes)
        proposer = transfer.start_proposer(self.start)
        work = Adaptation(annotated, self.found.old, self.config, plan, budget, proposer, classifiers, work_folder)
        proposer_fraction, precisions = work.proposals_out_of_fold()
        stores = work.stores()
        seen, folds = work.classifiers_out_of_fold(stores, n_classes, before.settings.tta)
        fraction, losses = seen.best_fraction()
        raw, fitted = seen.calibrated(fraction)
        n_cells, n_infected = int(annotated.class_counts.sum()), int(annotated.class_counts[self.labels.is_infected].sum())
        calibration = few.blended_calibration(fitted, self._scaling_before(fitted, raw, seen.is_infected), n_infected)
        description = self._description(stores[0].fingerprint, replace(before, calibration=calibration))
        description = replace(description, box_margins=fit_margins("watershed", annotated, self.config.stain_normalization))
        detector = assemble(description, work.networks, work.centres)
        predictions = work.predictions_out_of_fold(detector, folds, fraction)
        chosen, _ = choose_thresholds(detector, annotated, predictions)
        settings = few.blended_settings(chosen.settings, before.settings, n_infected, n_cells)
        detector = detector.with_settings(**asdict(settings))
        detected = [detector.decide(*predictions[p.key]) for p in annotated.images]
        figures["after"] = _figures(annotated, detected)
        known = fit_familiarity(self.found.old, annotated, detected, description.cell_size)
        description = replace(description, settings=settings, errors=self._errors(detected, n_infected), familiarity=known)

        new_proposer = work.trained_proposer(annotated, "proposer")
        data = TrainingData(stores[0], np.arange(len(stores[0])), None, n_classes, refiner_store=stores[1])
        trained, runs = work.trained_classifiers(data, seen.is_infected, "classifiers")
        work.centres.take(new_proposer, proposer_fraction)
        work.take_classifiers([t.model.get_weights() for t in trained], fraction)
        save_model(folder, work.classifiers, description, work.proposer)

        lines = few.said_of_few(self.labels, n_infected, n_cells)
        probabilities = calibration(raw)
        classified = ClassifiedPart.scored(PART, names, seen.class_ids, probabilities, seen.is_infected)
        measured = detection_metrics(list(annotated.images), detected, self.labels, None)
        found = DetectedPart(PART, annotated, detected, description.errors, measured)
        parts = DataSet(annotated, annotated.subset(()), self.found.test)
        about: dict[str, Any] = {
            "adapted_from": self.start.record,
            "images": len(annotated),
            "old_images": len(self.found.old),
            "folds": plan.folds,
            "share_of_new_weights": {"proposer": proposer_fraction, "classifiers": fraction},
            **self.seen,
            "compared": {"cell_AP50_by_share_of_proposer": precisions, "loss_by_share_of_classifiers": losses},
            "steps": budget.taken,
            "kept": lines,
            **figures,
            PART: classified.metrics | {"detection": measured},
        }
        keep_record(folder, self.config, parts, about, runs)
        result = TrainingResult(
            self.config,
            parts,
            [LearningCurve(t.history, t.best_epoch) for t in trained],
            about,
            classified=classified,
            detected=found,
            command=command_line(self.request),
        )
        write_training_files(folder, self.request.output.name, result)
        self._say(figures, lines, budget)

    def _scaling_before(self, fitted: Calibration, raw: np.ndarray, is_infected: np.ndarray) -> InfectionSigmoid | None:
        """The start model's Platt scaling of infection in terms of a new calibration; None where there is nothing to tell apart."""
        from malaria_cells.training import few, transfer

        if not is_infected.any() or is_infected.all():
            return None
        before = self.start.description.calibration
        columns = transfer.classes_of(self.start, self.labels, len(is_infected)).columns_before
        return few.carried_over(before.infection, few.start_in_new_classes(before, columns, is_infected), fitted, raw, is_infected)

    def _before(self) -> dict[str, float | None] | None:
        """The start model's figures on the images; None where it has labels that the new one lacks."""
        detector, description = load_detector(self.start.folder)
        names = description.labels.names
        if any(name not in self.labels.names for name in names):
            return None
        ids = np.array([self.labels.names.index(name) for name in names] + [-1])
        images = self.found.annotated.images
        detected = [detector.detect(p.path) for p in progress(images, len(images), "detecting as before", "image")]
        for d in detected:
            d.class_id, d.data["counted_as"] = ids[d.class_id], ids[d.data["counted_as"]]
        return _figures(self.found.annotated, detected)

    def _description(self, patches: str, like: ModelDescription) -> ModelDescription:
        config, refiner = self.config, self.config.refiner
        return replace(
            like,
            labels=self.labels,
            has_background=True,
            image_size_hw=config.image_size,
            context=config.context,
            cell_size=self.found.annotated.median_cell_size,
            cell_sizes={},  # of other laboratories, as are the errors that were measured elsewhere
            errors_elsewhere=None,
            unfamiliar=None,
            fingerprints={
                "patches": patches,
                "config": file_fingerprint(config.to_yaml()),
                "train": self.found.annotated.fingerprint,
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
        """How often it was right out of fold; of infected cells, where they are too few to tell, what the start model's rates are."""
        from malaria_cells.training.few import MIN_INFECTED

        if not self.labels.is_infected.any():
            return None
        own, before = error_rates(list(self.found.annotated.images), detected, self.labels), self.start.description.errors
        if n_infected >= MIN_INFECTED or before is None:
            return own
        return replace(own, infected=before.infected, found=before.found)

    def _say(self, figures: dict[str, Any], lines: list[str], budget: Budget) -> None:
        before, after = figures["before"], figures["after"]
        print(f"{number_of(len(self.found.annotated), 'image')} seen by networks that were not trained on them:")
        for key, name in NAMES.items():
            if after[key] is not None:
                was = f"{rounded(before[key])} before, " if before else ""
                print(f"  {name}: {was}{rounded(after[key])} now")
        for line in lines:
            log.warning(line)
        worse = [
            NAMES[key]
            for key in NAMES
            if before and before[key] is not None and after[key] is not None and after[key] < before[key] - WORSE
        ]
        if worse:
            log.warning(
                f"{' and '.join(worse)} of the new model: lower than {self.request.model} has on these images; look at report.html, "
                "annotate more images, or go on using that model"
            )
        if budget.least_fraction < 1:
            log.warning(
                f"this machine is slow for --minutes {self.request.minutes:g}: {budget.least_fraction:.0%} of the usual steps were taken; "
                "more minutes may make a better model"
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
    """How to make the model again."""
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
