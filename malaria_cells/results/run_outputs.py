"""The files that ``run`` writes: names, columns and keys are a contract."""

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
from malaria_cells.inference.counting import Count, ErrorRates, count_detected
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.familiarity import Familiarity
from malaria_cells.inference.model_folder import PROPOSER
from malaria_cells.results.compare import compared
from malaria_cells.results.output_folder import ANNOTATED, COMPARED, WITHOUT_RED_CELLS, begin_drawn, clear, drawn_names
from malaria_cells.results.overlay import draw_detections
from malaria_cells.results.review import FOLDER, write_review
from malaria_cells.results.scored_by import said_of_labels, scored_without
from malaria_cells.results.verdicts import Verdicts

TOTAL = "TOTAL"
# What a spreadsheet takes for the beginning of a formula. Names that begin so stay as they are, since tables are joined by them.
FORMULA = re.compile(r"[=+\-@\t\r]")


@dataclass
class Finished:
    """What has been worked through so far.

    Attributes:
        results: by image key, in order.
        failed: reason by image key.
        not_drawn: reason by the key of images that have results, of which no image with boxes could be written.
        familiarity: by image key, of those in `results`; None where the model does not know what its training looked like.
        seconds: for the images in `results`, reading included.
        interrupted: whether a person stopped the run.
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
        """130 interrupted, 3 some images failed, 0 all done."""
        return 130 if self.interrupted else 3 if self.reasons else 0

    @property
    def reasons(self) -> dict[str, str]:
        """Why images failed, by their keys; those with results that could not be drawn among them."""
        return self.failed | {key: f"is in the tables, but could not be drawn: {why}" for key, why in self.not_drawn.items()}


@dataclass
class DetectionOutput:
    """Writes a detection run into a folder.

    Attributes:
        folder: where to; tables of an earlier run in it are replaced.
        detector: for its labels and thresholds.
        images: folder that the images' keys are relative to.
        names: see `drawn_names`.
        force: whether images that are unlike anything learned get a parasitemia, too.
    """

    folder: Path
    detector: Detector
    images: Path
    names: dict[str, str]
    force: bool = False

    @staticmethod
    def start(folder: Path, detector: Detector, images: Path, keys: Iterable[str], force: bool = False) -> "DetectionOutput":
        """Begin: what an earlier run left in the folder under these names goes, so that all tables belong together."""
        clear(folder)
        begin_drawn(folder / ANNOTATED)
        return DetectionOutput(folder, detector, images, drawn_names(keys), force)

    def drawn(self, key: str) -> Path:
        """Where an image with boxes is."""
        return self.folder / ANNOTATED / f"{self.names[key]}.png"

    @property
    def labels(self) -> LabelSet:
        """The classes."""
        return self.detector.labels

    def image(self, key: str, image: np.ndarray, found: sv.Detections) -> None:
        """Write ``annotated/<image>.png``."""
        scene = draw_detections(image, found, self.labels)
        _write_png(self.drawn(key), scene)

    def tables(self, finished: Finished, truth: AnnotationSet | None) -> Score | None:
        """Write every table, and ``metrics.json`` where there is something to score by."""
        results = finished.results
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_csv(self.folder / "detections.csv", ("image", "label", "score", "x_min", "y_min", "x_max", "y_max"), self._rows(results))
        _write_csv(self.folder / "counts.csv", *self._counts(finished))
        files.write_json(self.folder / "detections.json", self._coco(finished))
        _write_failed(self.folder, finished.reasons)
        return self._score(finished, truth.subset(results)) if truth is not None else None

    def compare(self, finished: Finished, truth: AnnotationSet) -> None:
        """Write ``compared/<image>.png`` and the same ``_without_red_cells`` for every image that is annotated."""
        versions = {"": True, WITHOUT_RED_CELLS: False} if self.labels.is_red_cell.any() else {"": True}
        shown = [p for p in truth.images if p.key in finished.results]
        if shown:
            begin_drawn(self.folder / COMPARED)
        for p in shown:
            pixels = read_image(p.path)
            for suffix, with_red_cells in versions.items():
                scene = compared(pixels, p, finished.results[p.key], self.labels, with_red_cells)
                _write_png(self.folder / COMPARED / f"{self.names[p.key]}{suffix}.png", scene)
        if shown:
            print(f"annotated beside detected: {self.folder / COMPARED}")

    def review(self, finished: Finished, count: int, model: Path) -> None:
        """Write the most doubtful cells as a sheet and a data set to correct."""
        n = write_review(self.folder / FOLDER, finished.results, self.images, self.labels, count)
        if n:
            folder = self.folder / FOLDER
            print(f"{n} doubtful cells: {folder}")
            print(f"correct its annotations.json, then train with --set corrections={folder}")
            if (model / PROPOSER).is_file():
                print(f"or go on from the model: malaria-cells adapt {folder} --from {model} --output models/adapted")
        else:
            print("review: no cell was counted, there is nothing to review")

    def _score(self, finished: Finished, truth: AnnotationSet) -> Score:
        """Write and say the figures of the images that are annotated."""
        results, images = finished.results, list(truth.images)
        found = [results[p.key] for p in images]
        seconds = round(finished.seconds / len(results), 4) if results else None
        scored = score(images, found, self.labels, seconds)
        metrics = scored.metrics
        if self.labels.is_infected.any():
            metrics["interval_coverage"] = self._coverage(images, finished)
        without = scored_without(truth, self.labels)
        files.write_json(self.folder / "metrics.json", metrics | without)
        self._say_metrics(metrics)
        if "ignored_labels" in without:
            regions = number_of(sum(int(p.ignore.sum()) for p in images), "region")
            print(f"ignored, so that they are neither hit nor miss: {', '.join(without['ignored_labels'])} ({regions} in all)")
        said = said_of_labels(images, found, self.labels)
        if said:
            print(said)
        ap50 = [metrics["per_class"][name]["AP50"] for name in self.labels.names]
        self._matches(class_matches(images, found, self.labels, ap50))
        return scored

    def _rows(self, results: dict[str, sv.Detections]) -> Iterable[tuple]:
        for key, found in sorted(results.items()):
            for i in np.argsort(-found.confidence, kind="stable"):
                box = (f"{v:.1f}" for v in found.xyxy[i])
                yield key, self.labels.names[found.class_id[i]], f"{found.confidence[i]:.4f}", *box

    def _coverage(self, images: list[AnnotatedImage], finished: Finished) -> dict[str, Any]:
        """How often intervals hold the annotated parasitemia, of the images for which one is given; the others are counted."""
        errors = [self.errors_of(p.key, finished) for p in images]
        own = self.verdicts(finished)
        with_one = [(p, e) for p, e in zip(images, errors, strict=True) if p.key in own.given and (e is None or e.measured)]
        found = [finished.results[p.key] for p, _ in with_one]
        coverage = interval_coverage([p for p, _ in with_one], found, self.labels, [e for _, e in with_one])
        return coverage | {"without_interval": len(images) - len(with_one)}

    def errors_of(self, key: str, finished: Finished) -> ErrorRates | None:
        """The error rates to expect on one image."""
        return self.detector.errors_for(finished.familiarity.get(key))

    def verdicts(self, finished: Finished) -> Verdicts:
        """What is to be said of the images' familiarity, and which of them are given a parasitemia."""
        return Verdicts.of(self.detector, finished.results, finished.familiarity, self.force)

    def _counts(self, finished: Finished) -> tuple[tuple[str, ...], list[tuple]]:
        has_infected = bool(self.labels.is_infected.any())
        columns = ("image", *self.labels.names, *(("infected",) if has_infected else ()), "red_cells")
        columns += ("parasitemia", "parasitemia_low", "parasitemia_high") if has_infected else ()
        columns += ("familiarity", "familiarity_reason")
        verdicts = self.verdicts(finished)
        rows = []
        for key, found in sorted(finished.results.items()):
            familiarity = finished.familiarity.get(key)
            said = (familiarity.level, familiarity.reason) if familiarity else ("", "")
            row = _count_row(self.labels, count_detected(found, self.labels), self.errors_of(key, finished), key in verdicts.given)
            # The last row alone has that name: an image of it is named from its folder on.
            rows.append((f"./{key}" if key == TOTAL else key, *row, *said))
        rows.append((TOTAL, *_count_row(self.labels, verdicts.together, verdicts.errors, True), "", verdicts.sentence))
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
        """Write and print what was annotated, predicted and matched."""
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
        """Tell where things are."""
        verdicts = self.verdicts(finished)
        detections = number_of(sum(map(len, finished.results.values())), "detection")
        counted = "" if len(verdicts.given) == len(finished.results) else f"{len(verdicts.given):,} of "
        print(f"{counted}{number_of(len(finished.results), 'image')}: {verdicts.together.in_words(self.labels, verdicts.errors)}")
        if verdicts.sentence:
            print(verdicts.sentence)
        print(f"counts: {self.folder / 'counts.csv'}   {detections}, unsure ones too: {self.folder / 'detections.csv'}")
        if finished.results:
            print(f"images with boxes: {self.folder / ANNOTATED}")
        renamed = [key for key in finished.results if self.names[key] != key]
        if renamed:
            other = f"{self.names[renamed[0]]}.png"
            print(f"{number_of(len(renamed), 'image')} drawn under another name, since theirs is too long or taken; first: {other}")
        _say_ending(self.folder, finished, self.labels.names)


def write_classification(folder: Path, classifier: PatchClassifier, finished: Finished, truth: AnnotationSet | None) -> None:
    """Write ``predictions.csv``, and ``metrics.json`` where each image has one true label."""
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
    """Cells and parasitemia as they stand in counts.csv; without the latter where it is not given."""
    if not labels.is_infected.any():
        return (*c.by_label.tolist(), c.red_cells)
    fraction, interval = (c.parasitemia, c.interval(errors)) if is_given else (None, None)
    ends = ("", "") if interval is None else tuple(f"{end:.6f}" for end in interval)
    return (*c.by_label.tolist(), c.infected, c.red_cells, "" if fraction is None else f"{fraction:.6f}", *ends)


def _write_csv(path: Path, columns: tuple[str, ...], rows: Iterable[tuple]) -> None:
    # A name that is not UTF-8 comes with \\x.. for its strange bytes, as in Python's messages.
    with files.replacing(path) as beside, beside.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _write_png(path: Path, scene: np.ndarray) -> None:
    """Write uint8 RGB (H, W, 3) by OpenCV: a quarter less time than Pillow, and a fifth less disk."""
    how = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    _, content = cv2.imencode(".png", np.ascontiguousarray(scene[..., ::-1]), how)
    with files.replacing(path) as beside:
        beside.write_bytes(content.tobytes())


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
        print("interrupted: the tables hold what was finished")
