"""Writes ``report.html`` of a detection run."""

import numpy as np

from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.images import read_image
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation import Score
from malaria_cells.inference.counting import Count, count_detected
from malaria_cells.results import sections
from malaria_cells.results.document import NAME, Document, Section, inlined_image
from malaria_cells.results.output_folder import ANNOTATED
from malaria_cells.results.run_outputs import DetectionOutput, Finished

MAX_IMAGES = 3  # images that are shown if there is no annotation to choose the best and worst by
IMAGE_WIDTH = 1400  # pixels


def write_run_report(
    output: DetectionOutput,
    finished: Finished,
    truth: AnnotationSet | None,
    scored: Score | None,
    facts: list[tuple[str, str]],
    command: str,
) -> None:
    """Write ``report.html`` beside the tables.

    Args:
        output: the output folder and the detector.
        finished: the detections.
        truth: the annotation, or None.
        scored: the score by the annotation, or None.
        facts: names and values for the head of the page.
        command: command that repeats the run.
    """
    labels, results = output.labels, finished.results
    counts = {key: count_detected(detections, labels) for key, detections in results.items()}
    verdicts = output.verdicts(finished)
    total, errors = verdicts.together, verdicts.errors
    document = Document("Cells detected", number_of(len(results), "image"), command, warning=verdicts.sentence)
    settings = output.detector.settings
    document.facts = [
        *facts,
        ("Thresholds", f"infected from {settings.infected_threshold:.2f}, a cell at all from {settings.cell_threshold:.2f}"),
    ]
    if finished.seconds:  # it is 0 in the web page, where the networks have run before
        document.facts.append(("Time", f"{finished.seconds / len(results):.2f} s per image, including reading and drawing"))
    document.headline = sections.counted_headline(total, errors, labels, len(results))
    if scored and scored.metrics["images"]:
        document.headline += sections.headline_of(scored.metrics)
    images = [p for p in truth.images if p.key in results] if truth and scored else []
    detections = [results[p.key] for p in images]
    distribution = {"detected": total.by_label}
    if images and len(images) == len(results):
        annotated = np.sum([np.bincount(p.cell_class_ids, minlength=len(labels)) for p in images], axis=0)
        distribution = {"annotated": annotated, **distribution}
    document.sections.append(sections.class_distribution(distribution, labels))
    paths = {key: output.images / key for key in results}
    given = {key: c for key, c in counts.items() if key in verdicts.given}
    by_image = sections.parasitemia(given, labels, {key: output.errors_of(key, finished) for key in given}, {p.key: p for p in images})
    if by_image is not None:
        document.sections.append(by_image)
    not_familiar = sections.not_familiar(finished.familiarity)
    if not_familiar is not None:
        document.sections.insert(0, not_familiar)
    if scored and images:
        document.sections += [
            sections.confusion(images, detections, labels),
            sections.precision_recall(scored.by_class, labels),
            sections.reliability(images, detections),
            sections.best_median_worst(images, detections, labels),
        ]
    else:
        document.sections.append(_most_infected(output, counts, labels))
    document.sections.append(sections.doubtful(results, paths, labels))
    if finished.reasons:
        rows = tuple(sorted(finished.reasons.items()))
        document.sections.append(Section("Images that failed", "", columns=("image", "reason"), rows=rows))
    document.write(output.folder / NAME)


def _most_infected(output: DetectionOutput, counts: dict[str, Count], labels: LabelSet) -> Section:
    """Show the drawn images with the most infected cells; with the most cells, if there are no infected labels."""
    has_infected = bool(labels.is_infected.any())
    order = sorted(counts, key=lambda key: (-(counts[key].infected if has_infected else int(counts[key].by_label.sum())), key))
    images = []
    for key in [key for key in order if output.drawn(key).is_file()][:MAX_IMAGES]:
        infected = f", {counts[key].infected} of them infected" if has_infected else ""
        caption = f"{key}: {number_of(int(counts[key].by_label.sum()), 'cell')}{infected}"
        images.append(inlined_image(read_image(output.drawn(key)), IMAGE_WIDTH, f"image {key} with detected boxes", caption))
    noun = "infected cells" if has_infected else "cells"
    return Section(f"Images with most {noun}", f"All drawn images are in {ANNOTATED}/.", tuple(images))
