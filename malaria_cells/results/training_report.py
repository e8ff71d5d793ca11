"""Writes ``report.html`` and the plots of a training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base.text import rounded
from malaria_cells.config import Config
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.dataset import DataSet
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.seen_before import SEEN, warning_of_seen
from malaria_cells.data.single_cell_sets import describe_single_cells
from malaria_cells.evaluation.by_data_set import DETECTION, at
from malaria_cells.inference.calibration import reliability
from malaria_cells.inference.counting import count_detected
from malaria_cells.results import charts, sections
from malaria_cells.results.document import NAME, Document, Headline, Section, plot
from malaria_cells.results.plots import CLASSIFIER_PANELS, confusion_matrix, training_curves
from malaria_cells.results.sheet import patch_sheet
from malaria_cells.training.training_result import ClassifiedPart, DetectedPart, LearningCurve, TrainingResult

INFECTION_BINS = 5  # bins of the reliability diagram of infection, whose probability is seldom between 0 and 1


def write_training_files(folder: Path, name: str, trained: TrainingResult) -> None:
    """Write ``report.html`` and the most used plots as separate files into a model folder.

    Args:
        folder: the model folder.
        name: name of the model.
        trained: the training's result.
    """
    training_curves(trained.curves, folder / "training_curves.png", trained.panels or CLASSIFIER_PANELS)
    if trained.examples is not None:
        patch_sheet(trained.examples, "training patches before augmentation", folder / "training_data.png")
    if trained.classified is not None:
        counts, title = np.array(trained.classified.metrics["confusion"]), _patches(trained.classified)
        confusion_matrix(counts, trained.classified.names, title, folder / "confusion_matrix.png")
    _write_report(folder, name, trained)


def _patches(c: ClassifiedPart) -> str:
    return f"{c.part} patches: {c.metrics['patches']:,}"


def _write_report(folder: Path, name: str, trained: TrainingResult) -> None:
    config, data = trained.config, trained.data
    labels = data.train.labels
    document = Document(f"Model {name}", _networks(config), trained.command or _command(name, config))
    document.facts = [
        ("Data", _sources(config)),
        *((part.capitalize(), f"{len(a):,} images, {int(a.class_counts.sum()):,} {_noun(a)}") for part, a in data.parts.items()),
        *_single_cells(config, data),
        ("Split", "by the data set itself" if config.group is None else f"by group: {config.group}"),
        ("Seed", str(config.random_state)),
        *([("Terms", config.terms)] if config.terms is not None else []),
        *_epochs(trained.curves),
        *_fine_tuning(trained.fine_tuned),
    ]
    document.warning = ". ".join(
        warning_of_seen(f"{config.start_from}, which this model was fine-tuned from,", part, n, trained.size_of(part))
        for part, n in trained.metrics.get(SEEN, {}).items()
    )
    classified, detected = trained.classified, trained.detected
    if classified is not None:
        document.headline += _classifier_headline(classified)
    if detected is not None and detected.metrics is not None:
        document.headline += sections.headline_of(detected.metrics)
    if "by_data_set" in trained.metrics:
        document.sections.append(figures_by_data_set(trained.metrics["by_data_set"]))
    document.sections.append(sections.class_distribution({part: a.class_counts for part, a in data.parts.items()}, labels))
    curves = plot(lambda path: training_curves(trained.curves, path, trained.panels or CLASSIFIER_PANELS), "figures by epoch")
    document.sections.append(Section("Training", "", (curves,)))
    if classified is not None:
        document.sections += _classifier_sections(classified, labels)
    if detected is not None:
        document.sections += _detector_sections(detected, labels)
    document.write(folder / NAME)


def _single_cells(config: Config, data: DataSet) -> list[tuple[str, str]]:
    """Return the facts on images of single cells; a one-stage detector is not trained on them."""
    messages = describe_single_cells(data.single_cells) if config.detector == "two_stage" else []
    return [("Single cells", line) for line in messages]


def _classifier_headline(c: ClassifiedPart) -> list[Headline]:
    m = c.metrics
    return [
        Headline("Macro F1", f"{m['macro_f1']:.3f}", f"of {m['patches']:,} {c.part} patches: the unweighted mean over classes"),
        Headline("Accuracy", f"{m['accuracy']:.1%}", "of these patches are classified correctly"),
        Headline(
            "Calibration error", f"{m['calibration_error']:.3f}", "mean difference between predicted probability and observed fraction"
        ),
    ]


def _classifier_sections(c: ClassifiedPart, labels: LabelSet) -> list[Section]:
    from sklearn.metrics import precision_recall_curve  # slow to import: a second of a detection's start

    counts = np.array(c.metrics["confusion"])
    matrix = plot(lambda path: confusion_matrix(counts, c.names, _patches(c), path), "annotated classes against predicted ones")
    by_class = {}
    for i, name in enumerate(c.names):
        if (c.class_ids == i).any():
            precision, recall, _ = precision_recall_curve(c.class_ids == i, c.probabilities[:, i])
            by_class[name] = (recall, precision)
    curves = plot(lambda path: charts.precision_recall(by_class, labels, path), "precision against recall, a curve for each class")
    return [
        Section("Confusion matrix", f"Patches of the {c.part} part; the predicted class is the most probable one.", (matrix,)),
        Section("Precision and recall of patches", "One class against all others, for each class.", (curves,)),
        _calibration(c),
    ]


def _calibration(c: ClassifiedPart) -> Section:
    points = reliability(c.probabilities.max(axis=1), c.probabilities.argmax(axis=1) == c.class_ids)
    text = "Of patches predicted with probability 0.8, eight in ten should be right."
    diagrams = [plot(lambda path: charts.reliability_diagram(points, path, f"{c.part} patches"), "fraction that was right by probability")]
    if "infected" in c.metrics:
        figures = c.metrics["infected"]
        text += f" The probabilities add up to {figures['expected']:.1f} infected patches; {figures['annotated']} are annotated."
        infection = reliability(c.probabilities[:, c.is_infected].sum(axis=1), c.is_infected[c.class_ids], INFECTION_BINS)
        name = f"{c.part} patches: infected with any stage"
        diagrams.append(
            plot(lambda path: charts.reliability_diagram(infection, path, name), "fraction that is infected by probability of infection")
        )
    return Section("Calibration of the probabilities", text, tuple(diagrams))


def _detector_sections(d: DetectedPart, labels: LabelSet) -> list[Section]:
    images = list(d.annotations.images)
    results = {p.key: detections for p, detections in zip(images, d.detections, strict=True)}
    origin = f"Images of the {d.part} part, on which the thresholds were chosen. " if d.part == "validation" else ""
    counts = {key: count_detected(detections, labels) for key, detections in results.items()}
    by_image = sections.parasitemia(counts, labels, dict.fromkeys(counts, d.errors), {p.key: p for p in images})
    detections = [sections.best_median_worst(images, d.detections, labels), *([by_image] if by_image else [])]
    detections.append(sections.doubtful(results, {p.key: p.path for p in images}, labels))
    return [replace(section, text=origin + section.text) for section in detections]


def _sources(config: Config) -> str:
    if config.data_sets is not None:
        return ", ".join(entry.path for entry in config.data_sets)
    return config.train_images if isinstance(config.train_images, str) else ", ".join(config.train_images)


def _networks(config: Config) -> str:
    if config.detector != "two_stage":
        return config.detector
    return config.model + (f", refiner {config.refiner.model}" if config.refiner else "")


def _epochs(curves: list[LearningCurve]) -> list[tuple[str, str]]:
    names = ("Epochs", "Epochs of the refiner")
    return [(name, f"{len(c.history)}, the weights are those of epoch {c.best_epoch + 1}") for name, c in zip(names, curves, strict=False)]


def _fine_tuning(curves: list[LearningCurve]) -> list[tuple[str, str]]:
    if not curves:
        return []
    epochs = " and ".join(str(len(c.history)) for c in curves)
    return [("Fine-tuned", f"{epochs} epochs on train + validation; the validation metrics here are from before")]


def _command(name: str, config: Config) -> str:
    return f"python train.py --config={Path(config.output_models) / name / 'config.yaml'} --set name={name}"


def _noun(annotations: AnnotationSet) -> str:
    return "labels" if annotations.whole else "cells"


def figures_by_data_set(figures: Mapping[str, Mapping[str, Any]]) -> Section:
    """Return a table of test metrics with a row for each data set."""
    rows = tuple(
        (name, f"{set_figures['images']:,}", *(rounded(at(set_figures, path), "") for path in DETECTION.values()))
        for name, set_figures in figures.items()
    )
    text = "Images of the test part, on which nothing was chosen. Classes that a data set does not annotate are not scored there."
    return Section("Figures by data set", text, columns=("data set", "images", *DETECTION), rows=rows)
