"""``report.html`` of a detection: put together from what the run holds."""

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

SHOWN = 3  # images, where there is no annotation to choose the best and worst by
SHOWN_WIDTH = 1400


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
        output: where, and the detector.
        finished: the detections.
        truth: the annotation, or None.
        scored: what they are worth by it, or None.
        facts: what was run on what, by name.
        command: how to make it again.
    """
    labels, results = output.labels, finished.results
    counts = {key: count_detected(found, labels) for key, found in results.items()}
    verdicts = output.verdicts(finished)
    together, errors = verdicts.together, verdicts.errors
    document = Document("Cells detected", number_of(len(results), "image"), command, warning=verdicts.sentence)
    settings = output.detector.settings
    document.facts = [
        *facts,
        ("Thresholds", f"infected from {settings.infected_threshold:.2f}, a cell at all from {settings.cell_threshold:.2f}"),
    ]
    if finished.seconds:  # the page, whose networks ran earlier, has none
        document.facts.append(("Time", f"{finished.seconds / len(results):.2f} s an image, reading and drawing included"))
    document.headline = sections.counted_headline(together, errors, labels, len(results))
    if scored and scored.metrics["images"]:
        document.headline += sections.headline_of(scored.metrics)
    images = [p for p in truth.images if p.key in results] if truth and scored else []
    found = [results[p.key] for p in images]
    distribution = {"detected": together.by_label}
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
            sections.confusion(images, found, labels),
            sections.precision_recall(scored.by_class, labels),
            sections.reliability(images, found),
            sections.best_median_worst(images, found, labels),
        ]
    else:
        document.sections.append(_most_infected(output, counts, labels))
    document.sections.append(sections.doubtful(results, paths, labels))
    if finished.reasons:
        rows = tuple(sorted(finished.reasons.items()))
        document.sections.append(Section("Images that failed", "", columns=("image", "reason"), rows=rows))
    document.write(output.folder / NAME)


def _most_infected(output: DetectionOutput, counts: dict[str, Count], labels: LabelSet) -> Section:
    """The images with most infected cells, or with most cells, as they were drawn."""
    has_infected = bool(labels.is_infected.any())
    order = sorted(counts, key=lambda key: (-(counts[key].infected if has_infected else int(counts[key].by_label.sum())), key))
    shown = []
    for key in [key for key in order if output.drawn(key).is_file()][:SHOWN]:
        infected = f", {counts[key].infected} of them infected" if has_infected else ""
        caption = f"{key}: {number_of(int(counts[key].by_label.sum()), 'cell')}{infected}"
        shown.append(inlined_image(read_image(output.drawn(key)), SHOWN_WIDTH, f"image {key} with detected boxes", caption))
    what = "infected cells" if has_infected else "cells"
    return Section(f"Images with most {what}", f"All of them are in {ANNOTATED}/.", tuple(shown))
