"""Tables of a run as CSV; their names and columns must not change."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base import files
from malaria_cells.base.text import excerpt, number_of, rounded, shortened
from malaria_cells.data.detections import Detections
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation import ClassMatches
from malaria_cells.inference.counting import Count, count_detected
from malaria_cells.inference.error_rates import ErrorRates
from malaria_cells.inference.familiarity import Familiarity
from malaria_cells.results.columns import COUNT_COLUMNS, DETECTION_COLUMNS
from malaria_cells.results.run_results import RunResults
from malaria_cells.results.verdicts import Verdicts

TOTAL = "TOTAL"
LONGEST_REASON = 200  # characters of the first failure on the terminal
# Characters with which a spreadsheet formula begins. Names that begin with one are not changed, since tables are joined by name.
FORMULA = re.compile(r"[=+\-@\t\r]")


def write_detections(path: Path, results: Mapping[str, Detections], labels: LabelSet) -> None:
    """Write ``detections.csv``: a row for each detection, by image and then by score."""
    columns = ("image", "label", "score", "x_min", "y_min", "x_max", "y_max", *DETECTION_COLUMNS)
    files.write_csv(path, columns, _detection_rows(results, labels))


def _detection_rows(results: Mapping[str, Detections], labels: LabelSet) -> Iterable[tuple[Any, ...]]:
    for key in sorted(results):
        detections = results[key]
        further = [DETECTION_COLUMNS[name](detections, labels) for name in DETECTION_COLUMNS]
        for i in np.argsort(-detections.confidence, kind="stable"):
            box = (f"{v:.1f}" for v in detections.xyxy[i])
            more = (values[i] for values in further)
            yield key, labels.names[detections.class_id[i]], f"{detections.confidence[i]:.4f}", *box, *more


def write_counts(
    path: Path,
    results: Mapping[str, Detections],
    labels: LabelSet,
    familiarity: Mapping[str, Familiarity | None],
    verdicts: Verdicts,
    errors_of: Callable[[str], ErrorRates | None],
) -> None:
    """Write ``counts.csv``: a row for each image and one for all of them together.

    Args:
        path: the file.
        results: detections by image key.
        labels: the classes.
        familiarity: familiarity by image key.
        verdicts: the verdicts on all images together.
        errors_of: the error rates to expect on an image, by its key.
    """
    columns = ("image", *count_names(labels), "familiarity", "familiarity_reason", *COUNT_COLUMNS)

    def rows() -> Iterator[tuple[Any, ...]]:
        for key in sorted(results):
            detections = results[key]
            verdict = familiarity.get(key)
            row = _count_row(labels, count_detected(detections, labels), errors_of(key), key in verdicts.included)
            # Only the last row is called TOTAL; an image of that name is listed as ./TOTAL.
            further = (COUNT_COLUMNS[name](detections, labels) for name in COUNT_COLUMNS)
            yield f"./{key}" if key == TOTAL else key, *row, *((verdict.level, verdict.reason) if verdict else ("", "")), *further
        of_all = _count_row(labels, verdicts.together, verdicts.errors, True)
        yield TOTAL, *of_all, "", verdicts.sentence, *("" for _ in COUNT_COLUMNS)

    files.write_csv(path, columns, rows())


def count_names(labels: LabelSet) -> tuple[str, ...]:
    """Names of the columns of `count_values`."""
    if not labels.is_infected.any():
        return (*labels.names, "red_cells")
    return (*labels.names, "infected", "red_cells", "parasitemia", "parasitemia_low", "parasitemia_high")


def _count_row(labels: LabelSet, c: Count, errors: ErrorRates | None, is_given: bool) -> tuple[Any, ...]:
    """Return numbers of cells and parasitemia for a row of ``counts.csv``; the parasitemia is empty if it is not given."""
    values = count_values(labels, c, errors, is_given)
    n_whole = len(labels) + (2 if labels.is_infected.any() else 1)
    return (*values[:n_whole], *("" if fraction is None else f"{fraction:.6f}" for fraction in values[n_whole:]))


def count_values(labels: LabelSet, c: Count, errors: ErrorRates | None, is_given: bool) -> tuple[Any, ...]:
    """Return numbers of cells by label, of infected cells and of red cells, then the parasitemia and its interval, 0 to 1.

    Without infected labels there are only the cells by label and the red cells. A parasitemia that is not given is None.
    """
    if not labels.is_infected.any():
        return (*c.by_label.tolist(), c.red_cells)
    fraction, interval = (c.parasitemia, c.interval(errors)) if is_given else (None, None)
    return (*c.by_label.tolist(), c.infected, c.red_cells, fraction, *((None, None) if interval is None else interval))


def write_matches(path: Path, rows: list[ClassMatches]) -> None:
    """Write ``per_class.csv``, the numbers of annotated, predicted and matched cells of each class, and print them."""
    columns = ("label", "annotated", "predicted", "matched", "recall", "precision", "AP50", "predicted_by_annotated")
    figures = [(r.recall, r.precision, r.ap50, r.predicted_by_annotated) for r in rows]
    table = [(r.label, r.annotated, r.predicted, r.matched, *(rounded(v, "") for v in f)) for r, f in zip(rows, figures, strict=True)]
    files.write_csv(path, columns, table)
    width = max(len(r.label) for r in rows)
    print(f"{'':{width}}  annotated  predicted  matched  recall  precision   AP50  predicted/annotated")
    for label, annotated, predicted, matched, recall, precision, ap50, ratio in table:
        print(f"{label:{width}}  {annotated:>9}  {predicted:>9}  {matched:>7}  {recall:>6}  {precision:>9}  {ap50:>5}  {ratio:>19}")


def write_failed(folder: Path, failed: Mapping[str, str]) -> None:
    """Write ``failed.csv`` if images failed."""
    if failed:
        files.write_csv(folder / "failed.csv", ("image", "reason"), sorted(failed.items()))


def say_ending(folder: Path, finished: RunResults, labels: Iterable[str]) -> None:
    """Print what concerns every kind of run: names that look like formulas, failed images, and an interruption."""
    formulas = [name for name in (*labels, *sorted(finished.results), *sorted(finished.failed)) if FORMULA.match(name)]
    if formulas:
        n, first = number_of(len(formulas), "name"), excerpt(formulas[0])
        print(f"{n} in the tables begin with =, +, - or @, as a formula does; first: {first}; import them into a spreadsheet as text")
    if finished.reasons:
        key, why = next(iter(finished.reasons.items()))
        first = shortened(" ".join((why if key in why else f"{key}: {why}").split()), LONGEST_REASON)
        print(f"{number_of(len(finished.reasons), 'image')} failed: {folder / 'failed.csv'}; first: {first}")
    if finished.interrupted:
        print("interrupted: the tables hold the images that were finished; the same command with --resume goes on with the others")
