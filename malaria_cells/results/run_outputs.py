"""Writes the files of ``run``; their names, columns and keys must not change."""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import supervision as sv

from malaria_cells.base import files
from malaria_cells.base.text import excerpt, number_of, rounded
from malaria_cells.data import coco_rows
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.images import read_image
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation import ClassMatches, Score, class_matches, classification_metrics, interval_coverage, score
from malaria_cells.inference.classifier import PatchClassifier
from malaria_cells.inference.counting import Count, count_detected
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.error_rates import ErrorRates
from malaria_cells.inference.familiarity import Familiarity
from malaria_cells.inference.model_folder import PROPOSER
from malaria_cells.results.columns import COUNT_COLUMNS, DETECTION_COLUMNS
from malaria_cells.results.compare import compared
from malaria_cells.results.output_folder import ANNOTATED, COMPARED, WITHOUT_RED_CELLS, begin_drawn, clear, drawn_names
from malaria_cells.results.overlay import draw_detections
from malaria_cells.results.review import FOLDER, write_review
from malaria_cells.results.scored_by import said_of_labels, scored_without
from malaria_cells.results.verdicts import Verdicts

TOTAL = "TOTAL"
# Characters with which a spreadsheet formula begins. Names that begin with one are not changed, since tables are joined by name.
FORMULA = re.compile(r"[=+\-@\t\r]")


@dataclass
class Finished:
    """The results of a run so far.

    Attributes:
        results: detections or class probabilities by image key, in order.
        failed: reason by key of each image that failed.
        not_drawn: reason by key of each image with results whose drawn image could not be written.
        sizes_wh: width and height in pixels by image key.
        familiarity: familiarity by key of the images in `results`; None if the model has no familiarity model.
        seconds: total time for the images in `results`, reading included.
        interrupted: whether the user stopped the run.
    """

    results: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    not_drawn: dict[str, str] = field(default_factory=dict)
    sizes_wh: dict[str, tuple[int, int]] = field(default_factory=dict)
    familiarity: dict[str, Familiarity | None] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """130 if interrupted, 3 if images failed, otherwise 0."""
        return 130 if self.interrupted else 3 if self.reasons else 0

    @property
    def reasons(self) -> dict[str, str]:
        """Reasons why images failed or could not be drawn, by image key."""
        return self.failed | {key: f"is in the tables, but could not be drawn: {why}" for key, why in self.not_drawn.items()}


@dataclass
class DetectionOutput:
    """Writes the results of a detection run into a folder.

    Attributes:
        folder: the output folder; tables of an earlier run in it are replaced.
        detector: the detector, for its labels and thresholds.
        images: folder that the image keys are relative to.
        names: names of the drawn images by key, see `drawn_names`.
        force: whether a parasitemia is also given for images that are unlike anything learned.
    """

    folder: Path
    detector: Detector
    images: Path
    names: dict[str, str]
    force: bool = False

    @staticmethod
    def start(folder: Path, detector: Detector, images: Path, keys: Iterable[str], force: bool = False) -> "DetectionOutput":
        """Remove the files of an earlier run from the folder, and create the folder of drawn images."""
        clear(folder)
        begin_drawn(folder / ANNOTATED)
        return DetectionOutput(folder, detector, images, drawn_names(keys), force)

    def drawn(self, key: str) -> Path:
        """Return the path of a drawn image."""
        return self.folder / ANNOTATED / f"{self.names[key]}.png"

    @property
    def labels(self) -> LabelSet:
        """The classes."""
        return self.detector.labels

    def image(self, key: str, image: np.ndarray, detections: sv.Detections) -> None:
        """Write ``annotated/<image>.png``."""
        scene = draw_detections(image, detections, self.labels)
        _write_png(self.drawn(key), scene)

    def tables(self, finished: Finished, truth: AnnotationSet | None) -> Score | None:
        """Write all tables and, with annotations, ``metrics.json``; return the score, or None without annotations."""
        results = finished.results
        self.folder.mkdir(parents=True, exist_ok=True)
        columns = ("image", "label", "score", "x_min", "y_min", "x_max", "y_max", *DETECTION_COLUMNS)
        _write_csv(self.folder / "detections.csv", columns, self._rows(results))
        _write_csv(self.folder / "counts.csv", *self._counts(finished))
        files.write_json(self.folder / "detections.json", self._coco(finished))
        _write_failed(self.folder, finished.reasons)
        return self._score(finished, truth.subset(results)) if truth is not None else None

    def compare(self, finished: Finished, truth: AnnotationSet) -> None:
        """Write ``compared/<image>.png``, also ``_without_red_cells``, for every annotated image."""
        versions = {"": True, WITHOUT_RED_CELLS: False} if self.labels.is_red_cell.any() else {"": True}
        annotated = [p for p in truth.images if p.key in finished.results]
        if annotated:
            begin_drawn(self.folder / COMPARED)
        for p in annotated:
            pixels = read_image(p.path)
            for suffix, with_red_cells in versions.items():
                scene = compared(pixels, p, finished.results[p.key], self.labels, with_red_cells)
                _write_png(self.folder / COMPARED / f"{self.names[p.key]}{suffix}.png", scene)
        if annotated:
            print(f"annotation beside detections: {self.folder / COMPARED}")

    def review(self, finished: Finished, count: int, model: Path) -> None:
        """Write the most doubtful cells as a sheet and as a data set to correct, and print how to go on."""
        n = write_review(self.folder / FOLDER, finished.results, self.images, self.labels, count)
        if n:
            folder = self.folder / FOLDER
            print(f"{n} doubtful cells: {folder}")
            print(f"correct its annotations.json, then train with --set corrections={folder}")
            if (model / PROPOSER).is_file():
                print(f"or fine-tune the model: malaria-cells adapt {folder} --from {model} --output models/adapted")
        else:
            print("review: no cell was counted, there is nothing to review")

    def _score(self, finished: Finished, truth: AnnotationSet) -> Score:
        """Write and print the metrics of the annotated images."""
        results, images = finished.results, list(truth.images)
        detections = [results[p.key] for p in images]
        seconds = round(finished.seconds / len(results), 4) if results else None
        scored = score(images, detections, self.labels, seconds)
        metrics = scored.metrics
        if self.labels.is_infected.any():
            metrics["interval_coverage"] = self._coverage(images, finished)
        unscored = scored_without(truth, self.labels)
        files.write_json(self.folder / "metrics.json", metrics | unscored)
        self._say_metrics(metrics)
        if "ignored_labels" in unscored:
            regions = number_of(sum(int(p.ignore.sum()) for p in images), "region")
            print(f"ignored labels, scored as neither right nor wrong: {', '.join(unscored['ignored_labels'])} ({regions} in all)")
        message = said_of_labels(images, detections, self.labels)
        if message:
            print(message)
        ap50 = [metrics["per_class"][name]["AP50"] for name in self.labels.names]
        self._matches(class_matches(images, detections, self.labels, ap50))
        return scored

    def _rows(self, results: dict[str, sv.Detections]) -> Iterable[tuple]:
        for key, detections in sorted(results.items()):
            further = [DETECTION_COLUMNS[name](detections, self.labels) for name in DETECTION_COLUMNS]
            for i in np.argsort(-detections.confidence, kind="stable"):
                box = (f"{v:.1f}" for v in detections.xyxy[i])
                more = (values[i] for values in further)
                yield key, self.labels.names[detections.class_id[i]], f"{detections.confidence[i]:.4f}", *box, *more

    def _coverage(self, images: list[AnnotatedImage], finished: Finished) -> dict[str, Any]:
        """Return how often intervals contain the annotated parasitemia, and the number of images without an interval."""
        errors = [self.errors_of(p.key, finished) for p in images]
        verdicts = self.verdicts(finished)
        with_interval = [(p, e) for p, e in zip(images, errors, strict=True) if p.key in verdicts.given and (e is None or e.measured)]
        detections = [finished.results[p.key] for p, _ in with_interval]
        coverage = interval_coverage([p for p, _ in with_interval], detections, self.labels, [e for _, e in with_interval])
        return coverage | {"without_interval": len(images) - len(with_interval)}

    def errors_of(self, key: str, finished: Finished) -> ErrorRates | None:
        """Return the error rates to expect on one image."""
        return self.detector.errors_for(finished.familiarity.get(key))

    def verdicts(self, finished: Finished) -> Verdicts:
        """Return the verdicts on the familiarity of all images together."""
        return Verdicts.of(self.detector, finished.results, finished.familiarity, self.force)

    def _counts(self, finished: Finished) -> tuple[tuple[str, ...], list[tuple]]:
        has_infected = bool(self.labels.is_infected.any())
        columns = ("image", *self.labels.names, *(("infected",) if has_infected else ()), "red_cells")
        columns += ("parasitemia", "parasitemia_low", "parasitemia_high") if has_infected else ()
        columns += ("familiarity", "familiarity_reason", *COUNT_COLUMNS)
        verdicts = self.verdicts(finished)
        rows = []
        for key, detections in sorted(finished.results.items()):
            familiarity = finished.familiarity.get(key)
            familiarity_cells = (familiarity.level, familiarity.reason) if familiarity else ("", "")
            row = _count_row(self.labels, count_detected(detections, self.labels), self.errors_of(key, finished), key in verdicts.given)
            # Only the last row is called TOTAL; an image of that name is listed as ./TOTAL.
            further = (COUNT_COLUMNS[name](detections, self.labels) for name in COUNT_COLUMNS)
            rows.append((f"./{key}" if key == TOTAL else key, *row, *familiarity_cells, *further))
        of_all = _count_row(self.labels, verdicts.together, verdicts.errors, True)
        rows.append((TOTAL, *of_all, "", verdicts.sentence, *("" for _ in COUNT_COLUMNS)))
        return columns, rows

    def _coco(self, finished: Finished) -> dict[str, Any]:
        keys = sorted(finished.results)
        return {
            "info": {"folder": self.images.as_posix()},
            "images": coco_rows.image_rows({key: finished.sizes_wh[key] for key in keys}),
            "annotations": coco_rows.results([finished.results[key] for key in keys]),
            "categories": coco_rows.categories(self.labels),
        }

    def _matches(self, rows: list[ClassMatches]) -> None:
        """Write and print the numbers of annotated, predicted and matched cells of each class."""
        columns = ("label", "annotated", "predicted", "matched", "recall", "precision", "AP50", "predicted_by_annotated")
        figures = [(r.recall, r.precision, r.ap50, r.predicted_by_annotated) for r in rows]
        table = [(r.label, r.annotated, r.predicted, r.matched, *(rounded(v, "") for v in f)) for r, f in zip(rows, figures, strict=True)]
        _write_csv(self.folder / "per_class.csv", columns, table)
        width = max(len(r.label) for r in rows)
        print(f"{'':{width}}  annotated  predicted  matched  recall  precision   AP50  predicted/annotated")
        for label, annotated, predicted, matched, recall, precision, ap50, ratio in table:
            print(f"{label:{width}}  {annotated:>9}  {predicted:>9}  {matched:>7}  {recall:>6}  {precision:>9}  {ap50:>5}  {ratio:>19}")

    def _say_metrics(self, metrics: dict[str, Any]) -> None:
        print(f"mAP50 {rounded(metrics['mAP50'])}  mAP {rounded(metrics['mAP'])}  cell AP50 {rounded(metrics['cell']['AP50'])}  ", end="")
        cell = metrics["cell"]
        print(f"cell recall {rounded(cell['recall50'])} at any score, {rounded(cell['recall'])} as counted", end="")
        if "infected" in metrics:
            print(f"  infected F1 {rounded(metrics['infected']['f1'])}", end="")
        print(f"  on {number_of(metrics['images'], 'annotated image')}")

    def say(self, finished: Finished) -> None:
        """Print a summary and the paths of the files."""
        verdicts = self.verdicts(finished)
        detections = number_of(sum(map(len, finished.results.values())), "detection")
        counted = "" if len(verdicts.given) == len(finished.results) else f"{len(verdicts.given):,} of "
        print(f"{counted}{number_of(len(finished.results), 'image')}: {verdicts.together.in_words(self.labels, verdicts.errors)}")
        if verdicts.sentence:
            print(verdicts.sentence)
        print(f"counts: {self.folder / 'counts.csv'}   {detections}, including uncertain ones: {self.folder / 'detections.csv'}")
        if finished.results:
            print(f"images with boxes: {self.folder / ANNOTATED}")
        renamed = [key for key in finished.results if self.names[key] != key]
        if renamed:
            new_name = f"{self.names[renamed[0]]}.png"
            print(f"{number_of(len(renamed), 'image')} drawn under another name, since its own is too long or taken; first: {new_name}")
        _say_ending(self.folder, finished, self.labels.names)


def write_classification(folder: Path, classifier: PatchClassifier, finished: Finished, truth: AnnotationSet | None) -> None:
    """Write ``predictions.csv`` and, with annotations, ``metrics.json``."""
    clear(folder)
    names = classifier.class_names
    rows = []
    for key, p in sorted(finished.results.items()):
        best = int(p.argmax())
        rows.append((key, names[best], f"{p[best]:.4f}", *(f"{v:.4f}" for v in p)))
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "predictions.csv", ("image", "label", "score", *(f"p_{name}" for name in names)), rows)
    _write_failed(folder, finished.reasons)
    if truth is not None:
        scored = [p for p in truth.images if p.key in finished.results]
        class_ids = np.array([p.cell_class_ids[0] for p in scored], dtype=np.int64)
        probabilities = np.array([finished.results[p.key] for p in scored]).reshape(-1, len(names))
        files.write_json(
            folder / "metrics.json", classification_metrics(class_ids, probabilities, names) | scored_without(truth, classifier.labels)
        )
    print(f"{number_of(len(rows), 'image')} classified: {folder / 'predictions.csv'}")
    _say_ending(folder, finished, names)


def _count_row(labels: LabelSet, c: Count, errors: ErrorRates | None, is_given: bool) -> tuple:
    """Return numbers of cells and parasitemia for a row of ``counts.csv``; the parasitemia is empty if it is not given."""
    if not labels.is_infected.any():
        return (*c.by_label.tolist(), c.red_cells)
    fraction, interval = (c.parasitemia, c.interval(errors)) if is_given else (None, None)
    ends = ("", "") if interval is None else tuple(f"{end:.6f}" for end in interval)
    return (*c.by_label.tolist(), c.infected, c.red_cells, "" if fraction is None else f"{fraction:.6f}", *ends)


def _write_csv(path: Path, columns: tuple[str, ...], rows: Iterable[tuple]) -> None:
    # Bytes of a name that are not UTF-8 are written as \\x.., as in Python's messages.
    with files.replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _write_png(path: Path, scene: np.ndarray) -> None:
    """Write uint8 RGB (H, W, 3) with OpenCV, which takes a quarter less time and a fifth less disk than Pillow."""
    parameters = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    _, content = cv2.imencode(".png", np.ascontiguousarray(scene[..., ::-1]), parameters)
    with files.replacing(path) as temporary:
        temporary.write_bytes(content.tobytes())


def _write_failed(folder: Path, failed: dict[str, str]) -> None:
    if failed:
        _write_csv(folder / "failed.csv", ("image", "reason"), sorted(failed.items()))


def _say_ending(folder: Path, finished: Finished, labels: Iterable[str]) -> None:
    formulas = [name for name in (*labels, *sorted(finished.results), *sorted(finished.failed)) if FORMULA.match(name)]
    if formulas:
        n, first = number_of(len(formulas), "name"), excerpt(formulas[0])
        print(f"{n} in the tables begin with =, +, - or @, as a formula does; first: {first}; import them into a spreadsheet as text")
    if finished.reasons:
        print(f"{number_of(len(finished.reasons), 'image')} failed: {folder / 'failed.csv'}")
    if finished.interrupted:
        print("interrupted: the tables hold the images that were finished")
