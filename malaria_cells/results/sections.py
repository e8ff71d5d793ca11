"""Sections of a report on detected cells, made from the detections and their score."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from malaria_cells.base.text import number_of, rounded
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import read_image
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation import AveragePrecision, DetectionMetrics, error_analysis
from malaria_cells.inference.counting import Count, count
from malaria_cells.inference.error_rates import ErrorRates
from malaria_cells.inference.familiarity import LEVELS, Familiarity
from malaria_cells.results import charts
from malaria_cells.results.compare import compared
from malaria_cells.results.document import Headline, Section, inlined_image, plot
from malaria_cells.results.plots import confusion_matrix
from malaria_cells.results.review import draw_sheet, most_doubtful

COMPARED_WIDTH = 1800  # pixels; width of two images side by side
MAX_DOUBTFUL = 24  # cells in the sheet of doubtful cells
MAX_ROWS = 60  # images in the chart of parasitemia
NOT_FOUND, NOT_ANNOTATED = "not found", "not annotated"


def headline_of(metrics: DetectionMetrics) -> list[Headline]:
    """Return the key figures of a score, each with its meaning."""
    meaning = f"of the annotated cells match a counted box (IoU 0.5); {_percent(metrics.cell_recall50)} match a box of any score"
    headlines = [
        Headline("Cells found", _percent(metrics.cell.recall), meaning),
        Headline("Cell AP50", rounded(metrics.cell_ap50), "average precision of cells whatever their class; 1 is perfect"),
        Headline(
            "mAP50", rounded(metrics.map50), "average precision, averaged over the classes present; rare classes count as much as others"
        ),
    ]
    infected = metrics.infected
    if infected is not None and metrics.parasitemia is not None:
        detected = f"recall {_percent(infected.recall)}, precision {_percent(infected.precision)} of infected cells"
        headlines.append(Headline("Infected F1", rounded(infected.f1), detected))
        alarms = infected.false_alarms_per_1000_red_cells
        headlines.append(Headline("False alarms", "none" if alarms is None else f"{alarms:.1f}", "per 1,000 healthy red cells"))
        error = metrics.parasitemia.mean_absolute_error
        text = "unknown" if error is None else f"{100 * error:.2f} points"
        headlines.append(Headline("Parasitemia, error", text, "mean absolute difference from the annotated percentage per image"))
    return headlines


def counted_headline(total: Count, errors: ErrorRates | None, labels: LabelSet, images: int) -> list[Headline]:
    """Return key figures of what was counted in all images together, without images that are unlike anything learned."""
    scope = "all images" if total.images == images else f"{total.images:,} of {number_of(images, 'image')}"
    headlines = [Headline("Cells counted", f"{int(total.by_label.sum()):,}", f"in {scope}, at the operating thresholds")]
    if labels.is_infected.any() and total.parasitemia is not None:
        meaning = f"{total.infected:,} of {total.red_cells:,} red cells; {total.interval_in_words(errors)}"
        headlines.append(Headline("Parasitemia", total.parasitemia_text(), meaning))
    return headlines


def class_distribution(counts: dict[str, np.ndarray], labels: LabelSet) -> Section:
    """Chart the number and percentage of each class; `counts` is int (n_labels,) by its source."""
    chart = plot(lambda path: charts.class_fractions(counts, labels.names, path), "bars of the number of cells of each class")
    return Section("Classes", "Number of cells of each class and their percentage of all cells.", (chart,))


def precision_recall(by_class: AveragePrecision, labels: LabelSet) -> Section:
    """Chart a precision-recall curve for each annotated class."""
    recall = np.linspace(0, 1, by_class.curve50.shape[1])
    curves = {name: (recall, by_class.curve50[i]) for i, name in enumerate(labels.names) if by_class.n[i]}
    if not curves:
        return Section("Precision and recall", "No cell is annotated.")
    text = "With a lower score threshold more cells of a class are detected and fewer detections are right (IoU 0.5)."
    chart = plot(lambda path: charts.precision_recall(curves, labels, path), "precision against recall, a curve for each class")
    return Section("Precision and recall", text, (chart,))


def confusion(images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet) -> Section:
    """Chart the confusion matrix of annotated and counted classes."""
    counts = error_analysis.confusion(images, detections, labels)
    rows, columns = (*labels.names, NOT_ANNOTATED), (*labels.names, NOT_FOUND)
    title = f"{counts[:-1].sum():,} annotated cells"
    chart = plot(lambda path: confusion_matrix(counts, columns, title, path, rows), "annotated classes against detected ones")
    text = (
        f"Rows are annotated classes, columns counted ones. '{NOT_FOUND}': a cell was annotated but not counted. '{NOT_ANNOTATED}': a box "
        "was counted that matches no annotated cell; it is a false alarm, or a cell that the annotation lacks."
    )
    return Section("Confusion matrix", text, (chart,))


def reliability(images: list[AnnotatedImage], detections: list[Detections]) -> Section:
    """Chart the fraction of right detections by score."""
    points = error_analysis.score_reliability(images, detections)
    text = "Of detections with score 0.8, eight in ten should be right. Below the line scores are too high, above it too low."
    chart = plot(lambda path: charts.reliability_diagram(points, path, "detections"), "fraction that was right against the score")
    return Section("Calibration of the scores", text, (chart,))


def best_median_worst(images: list[AnnotatedImage], detections: list[Detections], labels: LabelSet) -> Section:
    """Show annotation and detections side by side for the images with the best, the median and the worst F1."""
    f1 = error_analysis.f1_by_image(images, detections, labels)
    order = [int(i) for i in np.argsort(-f1, kind="stable") if not np.isnan(f1[i])]
    if not order:
        return Section("Annotation beside detection", "No image here has a cell.")
    ranks = {0: "best", len(order) // 2: "median", len(order) - 1: "worst"}
    inlined = []
    for rank, word in ranks.items():
        p = images[order[rank]]
        scene = compared(read_image(p.path), p, detections[order[rank]], labels, with_red_cells=True)
        caption = f"The {word}: {p.key}, F1 {f1[order[rank]]:.3f}. Annotated on the left, detected on the right."
        inlined.append(inlined_image(scene, COMPARED_WIDTH, f"{word} image with annotated and detected boxes", caption))
    text = f"Three of {len(images)} images by F1 of all their cells: the best, the median and the worst."
    return Section("Annotation beside detection", text, tuple(inlined))


def doubtful(results: Mapping[str, Detections], paths: dict[str, Path], labels: LabelSet) -> Section:
    """Show a sheet of the most doubtful cells."""
    cells = most_doubtful(results, labels, MAX_DOUBTFUL)
    if not cells:
        return Section("Most doubtful cells", "No cell was counted.")
    sheet = plot(lambda path: draw_sheet(path, cells, results, paths, labels), "sheet of the most doubtful cells", suffix=".jpg")
    text = "The cells with the most uncertain labels, each with its two likeliest labels. run.py --review N writes them for correction."
    return Section("Most doubtful cells", text, (sheet,))


def not_familiar(familiarity: dict[str, Familiarity | None]) -> Section | None:
    """List the images that are unlike those of the training, the least familiar first; None if there are none."""
    rows = [(f.distance, key, f) for key, f in familiarity.items() if f is not None and not f.is_as_learned]
    if not rows:
        return None
    rows.sort(key=lambda row: (-LEVELS.index(row[2].level), -row[0], row[1]))
    text = (
        "The model was trained on images unlike these, or on such images without an infected cell, so its errors here may be larger "
        "than measured. If error rates in laboratories that were not trained on were measured, the intervals use them. Images unlike "
        "anything learned get no parasitemia unless --force is given."
    )
    table = tuple((key, f.level, f.reason, f"{distance:.1f}") for distance, key, f in rows)
    return Section("Images unlike those of the training", text, columns=("image", "familiarity", "reason", "distance"), rows=table)


def parasitemia(
    counts: dict[str, Count], labels: LabelSet, errors: dict[str, ErrorRates | None], truth: dict[str, AnnotatedImage]
) -> Section | None:
    """Chart the parasitemia of each image, and the annotated one where there is one; None without infected labels.

    Args:
        counts: counted cells by image key.
        labels: the classes.
        errors: error rates to expect, by image key.
        truth: annotated images by key.
    """
    if not labels.is_infected.any():
        return None
    known = {key: c for key, c in counts.items() if c.parasitemia is not None}
    highest = sorted(known, key=lambda key: -(known[key].parasitemia or 0))[:MAX_ROWS]
    rows = []
    for key in sorted(highest):
        low, high = known[key].interval(errors[key]) or (known[key].parasitemia or 0.0,) * 2
        annotated = count(truth[key].cell_class_ids, labels).parasitemia if key in truth else None
        rows.append((key, known[key].parasitemia or 0.0, low, high, annotated))
    if not rows:
        return Section("Parasitemia by image", "No image has a red cell.")
    chosen = "" if len(rows) == len(counts) else f" The {len(rows)} highest of {len(counts)} images are shown; counts.csv has all of them."
    text = (
        "Infected red cells as a percentage of all red cells. The interval accounts for the sampling of cells in the field of view"
        + (", and for the detector's errors as measured on images that it was not trained on." if any(errors.values()) else ".")
        + (
            " No interval is drawn where the error rates are unknown."
            if any(e is not None and not e.measured for e in errors.values())
            else ""
        )
        + chosen
    )
    chart = plot(lambda path: charts.parasitemia_chart(rows, path), "parasitemia of each image with its interval")
    return Section("Parasitemia by image", text, (chart,))


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"
