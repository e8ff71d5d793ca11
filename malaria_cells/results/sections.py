"""Parts of a report on detected cells, each from what the detection and its scoring already hold."""

from pathlib import Path

import numpy as np
import supervision as sv

from malaria_cells.base.text import number_of, rounded
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.images import read_image
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation import AveragePrecision, error_analysis
from malaria_cells.inference.counting import Count, ErrorRates, count
from malaria_cells.inference.familiarity import LEVELS, Familiarity
from malaria_cells.results import charts
from malaria_cells.results.compare import compared
from malaria_cells.results.document import Headline, Section, inlined_image, plot
from malaria_cells.results.plots import confusion_matrix
from malaria_cells.results.review import draw_sheet, most_doubtful

COMPARED_WIDTH = 1800  # pixels of two images side by side
DOUBTFUL = 24
MOST_ROWS = 60  # images in the chart of parasitemia
NOT_FOUND, NOT_ANNOTATED = "not found", "not annotated"


def headline_of(metrics: dict) -> list[Headline]:
    """The figures of ``metrics.json`` that say most, each with its meaning."""
    cell = metrics["cell"]
    any_score = f"of the annotated cells have a counted box on them (IoU 0.5); {_percent(cell['recall50'])} have one of any score"
    found = [
        Headline("Cells found", _percent(cell["recall"]), any_score),
        Headline("Cell AP50", rounded(cell["AP50"]), "average precision of finding cells, whatever their class; 1 is perfect"),
        Headline("mAP50", rounded(metrics["mAP50"]), "average precision, the mean over the classes present; rare classes count as much"),
    ]
    if "infected" in metrics:
        infected = metrics["infected"]
        missed = f"finds {_percent(infected['recall'])} of the infected cells; {_percent(infected['precision'])} of its findings are right"
        found.append(Headline("Infected F1", rounded(infected["f1"]), missed))
        alarms = infected["false_alarms_per_1000_red_cells"]
        found.append(Headline("False alarms", "none" if alarms is None else f"{alarms:.1f}", "per 1,000 healthy red cells"))
        error = metrics["parasitemia"]["mean_absolute_error"]
        text = "unknown" if error is None else f"{100 * error:.2f} points"
        found.append(Headline("Parasitemia, error", text, "mean absolute difference from the annotated percentage, by image"))
    return found


def counted_headline(total: Count, errors: ErrorRates | None, labels: LabelSet, images: int) -> list[Headline]:
    """What was counted in all images together, or in those of them that are not left out."""
    where = "all images" if total.images == images else f"{total.images:,} of {number_of(images, 'image')}"
    found = [Headline("Cells counted", f"{int(total.by_label.sum()):,}", f"in {where}, at the operating thresholds")]
    if labels.is_infected.any() and total.parasitemia is not None:
        meaning = f"{total.infected:,} of {total.red_cells:,} red cells; {total.interval_in_words(errors)}"
        found.append(Headline("Parasitemia", total.parasitemia_text(), meaning))
    return found


def class_distribution(counts: dict[str, np.ndarray], labels: LabelSet) -> Section:
    """Number and percentage of each class, int (n_labels,) by what was counted."""
    drawn = plot(lambda path: charts.class_fractions(counts, labels.names, path), "bars of the number of cells of each class")
    return Section("Classes", "Number of cells of each class, and their fraction of all.", (drawn,))


def precision_recall(by_class: AveragePrecision, labels: LabelSet) -> Section:
    """A curve for each class that is annotated."""
    recall = np.linspace(0, 1, by_class.curve50.shape[1])
    curves = {name: (recall, by_class.curve50[i]) for i, name in enumerate(labels.names) if by_class.n[i]}
    if not curves:
        return Section("Precision and recall", "No cell is annotated.")
    text = "As the threshold on the score falls, more of a class is found and less of what is found is right (IoU 0.5)."
    drawn = plot(lambda path: charts.precision_recall(curves, labels, path), "precision against recall, a curve for each class")
    return Section("Precision and recall", text, (drawn,))


def confusion(images: list[AnnotatedImage], found: list[sv.Detections], labels: LabelSet) -> Section:
    """Annotated against counted."""
    counts = error_analysis.confusion(images, found, labels)
    rows, columns = (*labels.names, NOT_ANNOTATED), (*labels.names, NOT_FOUND)
    title = f"{counts[:-1].sum():,} annotated cells"
    drawn = plot(lambda path: confusion_matrix(counts, columns, title, path, rows), "annotated classes against detected ones")
    text = (
        f"Rows are what annotators say, columns what was counted. '{NOT_FOUND}' was annotated and not counted; '{NOT_ANNOTATED}' was "
        "counted and is no annotated cell: a mistake, or a cell that annotators left out."
    )
    return Section("What is taken for what", text, (drawn,))


def reliability(images: list[AnnotatedImage], found: list[sv.Detections]) -> Section:
    """Whether scores are what they promise."""
    points = error_analysis.score_reliability(images, found)
    text = "Of detections scored 0.8, eight in ten should be right. Below the line scores promise too much, above it too little."
    drawn = plot(lambda path: charts.reliability_diagram(points, path, "detections"), "fraction that was right against the score")
    return Section("Are the scores honest?", text, (drawn,))


def best_median_worst(images: list[AnnotatedImage], found: list[sv.Detections], labels: LabelSet) -> Section:
    """The annotation beside the detection, for three images chosen by F1."""
    f1 = error_analysis.f1_by_image(images, found, labels)
    order = [int(i) for i in np.argsort(-f1, kind="stable") if not np.isnan(f1[i])]
    if not order:
        return Section("Annotation beside detection", "No image here has a cell.")
    places = {0: "best", len(order) // 2: "median", len(order) - 1: "worst"}
    shown = []
    for place, word in places.items():
        p = images[order[place]]
        scene = compared(read_image(p.path), p, found[order[place]], labels, with_red_cells=True)
        caption = f"The {word}: {p.key}, F1 {f1[order[place]]:.3f}. Annotated on the left, detected on the right."
        shown.append(inlined_image(scene, COMPARED_WIDTH, f"{word} image with annotated and detected boxes", caption))
    text = f"Three of {len(images)} images by F1 of all their cells: the best, the median and the worst."
    return Section("Annotation beside detection", text, tuple(shown))


def doubtful(results: dict[str, sv.Detections], paths: dict[str, Path], labels: LabelSet) -> Section:
    """The most doubtful cells, as a sheet."""
    cells = most_doubtful(results, labels, DOUBTFUL)
    if not cells:
        return Section("Most doubtful cells", "No cell was counted.")
    drawn = plot(lambda path: draw_sheet(path, cells, results, paths, labels), "sheet of the most doubtful cells", suffix=".jpg")
    text = "The cells whose label the model is least sure of, with the two likeliest labels. run.py --review N lets you correct them."
    return Section("Most doubtful cells", text, (drawn,))


def not_familiar(familiarity: dict[str, Familiarity | None]) -> Section | None:
    """The images that are not like those of the training, the least familiar first; None where there are none."""
    rows = [(f.distance, key, f) for key, f in familiarity.items() if f is not None and not f.is_as_learned]
    if not rows:
        return None
    rows.sort(key=lambda row: (-LEVELS.index(row[2].level), -row[0], row[1]))
    text = (
        "The model has learned from other images than these, or from such ones without an infected cell, and may be wrong about them "
        "by more than it knows. Their intervals are those of laboratories that the training left out, where that was measured; images "
        "that are unlike anything learned are given no parasitemia unless it was asked for."
    )
    table = tuple((key, f.level, f.reason, f"{distance:.1f}") for distance, key, f in rows)
    return Section("Images unlike those of the training", text, columns=("image", "familiarity", "reason", "distance"), rows=table)


def parasitemia(
    counts: dict[str, Count], labels: LabelSet, errors: dict[str, ErrorRates | None], truth: dict[str, AnnotatedImage]
) -> Section | None:
    """Parasitemia by image as a chart, with the annotated one where there is a truth; None where nothing can be infected.

    Args:
        counts: by image key.
        labels: the classes.
        errors: error rates to expect, by image key.
        truth: annotated images by key.
    """
    if not labels.is_infected.any():
        return None
    known = {key: c for key, c in counts.items() if c.parasitemia is not None}
    highest = sorted(known, key=lambda key: -(known[key].parasitemia or 0))[:MOST_ROWS]
    rows = []
    for key in sorted(highest):
        low, high = known[key].interval(errors[key]) or (known[key].parasitemia or 0.0,) * 2
        annotated = count(truth[key].cell_class_ids, labels).parasitemia if key in truth else None
        rows.append((key, known[key].parasitemia or 0.0, low, high, annotated))
    if not rows:
        return Section("Parasitemia by image", "No image has a red cell.")
    chosen = "" if len(rows) == len(counts) else f" Shown are the {len(rows)} highest of {len(counts)} images; counts.csv has all."
    text = (
        "Infected red cells by all red cells. The interval holds the cells that happened to be in the field"
        + (", and the detector's own errors, as measured on images that it had not learned." if any(errors.values()) else ".")
        + (" Where no interval is drawn none is known." if any(e is not None and not e.measured for e in errors.values()) else "")
        + chosen
    )
    drawn = plot(lambda path: charts.parasitemia_chart(rows, path), "parasitemia of each image with its interval")
    return Section("Parasitemia by image", text, (drawn,))


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"
