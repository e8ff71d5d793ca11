"""Writes ``report.html`` of a detection run."""

from collections.abc import Mapping

import numpy as np

from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import read_image
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation import DetectionMetrics
from malaria_cells.inference.counting import count_detected
from malaria_cells.results import sections
from malaria_cells.results.document import NAME, Document, Section, inlined_image
from malaria_cells.results.output_folder import ANNOTATED
from malaria_cells.results.run_outputs import DetectionOutput
from malaria_cells.results.run_results import RunResults
from malaria_cells.results.verdicts import Verdicts

MAX_IMAGES = 3  # images that are shown if there is no annotation to choose the best and worst by
IMAGE_WIDTH = 1400  # pixels


def write_run_report(
    output: DetectionOutput,
    finished: RunResults,
    truth: AnnotationSet | None,
    metrics: DetectionMetrics | None,
    facts: list[tuple[str, str]],
    command: str,
) -> None:
    """Write ``report.html`` beside the tables.

    Args:
        output: the output folder and the detector.
        finished: the detections.
        truth: the annotation, or None.
        metrics: the metrics by the annotation, or None.
        facts: names and values for the head of the page.
        command: command that repeats the run.
    """
    labels, results = output.labels, finished.results
    verdicts = output.verdicts(finished)
    annotated = [p for p in truth.images if p.key in results] if truth and metrics else []
    document = Document("Cells detected", number_of(len(results), "image"), command, warning=verdicts.sentence)
    document.facts = [*facts, *_facts(output, finished)]
    document.headline = sections.counted_headline(verdicts.together, verdicts.errors, labels, len(results))
    if metrics and metrics.images:
        document.headline += sections.headline_of(metrics)
    by_image = _counted(output, finished, verdicts, annotated)
    scored = _scored(results, annotated, metrics, labels) if metrics and annotated else [_most_infected(output, results, labels)]
    doubtful = sections.doubtful(results, {key: output.images / key for key in results}, labels)
    document.sections = [*by_image, *scored, doubtful]
    if finished.reasons:
        rows = tuple(sorted(finished.reasons.items()))
        document.sections.append(Section("Images that failed", "", columns=("image", "reason"), rows=rows))
    document.write(output.folder / NAME)


def _facts(output: DetectionOutput, finished: RunResults) -> list[tuple[str, str]]:
    settings = output.detector.settings
    facts = [("Thresholds", f"infected from {settings.infected_threshold:.2f}, a cell at all from {settings.cell_threshold:.2f}")]
    if finished.seconds:  # it is 0 in the web page, where the networks have run before
        facts.append(("Time", f"{finished.seconds / len(finished.results):.2f} s per image, including reading and drawing"))
    return facts


def _counted(output: DetectionOutput, finished: RunResults, verdicts: Verdicts, annotated: list[AnnotatedImage]) -> list[Section]:
    """Return sections on familiarity, the classes of all cells, and the parasitemia of each image."""
    labels, results = output.labels, finished.results
    distribution = {"detected": verdicts.together.by_label}
    if annotated and len(annotated) == len(results):
        true_counts = np.sum([np.bincount(p.cell_class_ids, minlength=len(labels)) for p in annotated], axis=0)
        distribution = {"annotated": true_counts, **distribution}
    counts = {key: count_detected(results[key], labels) for key in results if key in verdicts.included}
    errors = {key: output.errors_of(key, finished) for key in counts}
    parts = [
        sections.not_familiar(finished.familiarity),
        sections.class_distribution(distribution, labels),
        sections.parasitemia(counts, labels, errors, {p.key: p for p in annotated}),
    ]
    return [section for section in parts if section is not None]


def _scored(
    results: Mapping[str, Detections], annotated: list[AnnotatedImage], metrics: DetectionMetrics, labels: LabelSet
) -> list[Section]:
    """Return sections on how detections compare with the annotation."""
    detections = [results[p.key] for p in annotated]
    return [
        sections.confusion(annotated, detections, labels),
        sections.precision_recall(metrics.by_class, labels),
        sections.reliability(annotated, detections),
        sections.best_median_worst(annotated, detections, labels),
    ]


def _most_infected(output: DetectionOutput, results: Mapping[str, Detections], labels: LabelSet) -> Section:
    """Show the drawn images with the most infected cells; with the most cells, if there are no infected labels."""
    counts = {key: count_detected(detections, labels) for key, detections in results.items()}
    has_infected = bool(labels.is_infected.any())
    order = sorted(counts, key=lambda key: (-(counts[key].infected if has_infected else int(counts[key].by_label.sum())), key))
    images = []
    for key in [key for key in order if output.drawn(key).is_file()][:MAX_IMAGES]:
        infected = f", {counts[key].infected} of them infected" if has_infected else ""
        caption = f"{key}: {number_of(int(counts[key].by_label.sum()), 'cell')}{infected}"
        images.append(inlined_image(read_image(output.drawn(key)), IMAGE_WIDTH, f"image {key} with detected boxes", caption))
    noun = "infected cells" if has_infected else "cells"
    return Section(f"Images with most {noun}", f"All drawn images are in {ANNOTATED}/.", tuple(images))
