"""Writes the files of a detection run; their names, columns and keys must not change."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base import files
from malaria_cells.base.text import number_of, rounded
from malaria_cells.data import coco_rows
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import LargeImage, read_image
from malaria_cells.data.images.refusal import MAX_PIXELS
from malaria_cells.data.images.slides import is_slide
from malaria_cells.data.labels import LabelSet
from malaria_cells.evaluation import (
    DetectionMetrics,
    class_matches,
    detection_metrics,
    interval_coverage,
)
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.error_rates import ErrorRates
from malaria_cells.inference.model_folder import PROPOSER
from malaria_cells.results.compare import compared
from malaria_cells.results.large_overlay import overview, write_drawn
from malaria_cells.results.output_folder import ANNOTATED, COMPARED, WITHOUT_RED_CELLS, begin_drawn, clear, drawn_names
from malaria_cells.results.overlay import draw_detections
from malaria_cells.results.png import write_png
from malaria_cells.results.review import FOLDER, write_review
from malaria_cells.results.run_results import RunResults
from malaria_cells.results.scored_by import describe_labels, scored_without
from malaria_cells.results.tables import say_ending, write_counts, write_detections, write_failed, write_matches
from malaria_cells.results.verdicts import Verdicts


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
        """Return an output whose folder holds no files of an earlier run; `images` is the folder of the image `keys`."""
        output = DetectionOutput(folder, detector, images, drawn_names(keys), force)
        output.begin()
        return output

    def begin(self, finished: Collection[str] = ()) -> None:
        """Remove the files of earlier runs from the folder, and create the folder of drawn images.

        Args:
            finished: keys of images that this run finished before it was interrupted; what was drawn of them stays.
        """
        clear(self.folder, [self.drawn(key) for key in finished])
        begin_drawn(self.folder / ANNOTATED)

    def drawn(self, key: str) -> Path:
        """Return the path of a drawn image."""
        return self.folder / ANNOTATED / f"{self.names[key]}.png"

    @property
    def labels(self) -> LabelSet:
        """The classes."""
        return self.detector.labels

    def image(self, key: str, image: np.ndarray | LargeImage, detections: Detections) -> Path:
        """Write ``annotated/<image>.png``, and return its path; of a large image that is an overview, and ``<image>.tif`` is beside it."""
        if isinstance(image, LargeImage):
            write_drawn(self.drawn(key).with_name(f"{self.drawn(key).stem}.tif"), image, detections, self.labels)
            scene = overview(image, detections, self.labels)
        else:
            scene = draw_detections(image, detections, self.labels)
        write_png(self.drawn(key), scene)
        return self.drawn(key)

    def tables(self, finished: RunResults, truth: AnnotationSet | None) -> DetectionMetrics | None:
        """Write all tables and, with annotations, ``metrics.json``; return the metrics, or None without annotations."""
        results = finished.results
        self.folder.mkdir(parents=True, exist_ok=True)
        write_detections(self.folder / "detections.csv", results, self.labels)
        verdicts = self.verdicts(finished)
        errors_of = partial(self.errors_of, finished=finished)
        write_counts(self.folder / "counts.csv", results, self.labels, finished.familiarity, verdicts, errors_of)
        self._write_coco(finished)
        write_failed(self.folder, finished.reasons)
        return self._score(finished, truth.subset(results)) if truth is not None else None

    def compare(self, finished: RunResults, truth: AnnotationSet) -> None:
        """Write ``compared/<image>.png``, also ``_without_red_cells``, for every annotated image."""
        versions = {"": True, WITHOUT_RED_CELLS: False} if self.labels.is_red_cell.any() else {"": True}
        annotated = [p for p in truth.images if p.key in finished.results]
        if annotated:
            begin_drawn(self.folder / COMPARED)
        for p in annotated:
            pixels = read_image(p.path)
            for suffix, with_red_cells in versions.items():
                scene = compared(pixels, p, finished.results[p.key], self.labels, with_red_cells)
                write_png(self.folder / COMPARED / f"{self.names[p.key]}{suffix}.png", scene)
        if annotated:
            print(f"annotation beside detections: {self.folder / COMPARED}")

    def review(self, finished: RunResults, count: int, model: Path) -> None:
        """Write the most doubtful cells as a sheet and as a data set to correct, and print how to go on."""
        too_large = [key for key, (width, height) in finished.sizes_wh.items() if width * height > MAX_PIXELS or is_slide(Path(key))]
        if too_large:
            print(f"review: without {number_of(len(too_large), 'image')} that no annotation tool would open; first: {too_large[0]}")
        left_out = set(too_large)
        results = {key: r for key, r in finished.results.items() if key not in left_out} if left_out else finished.results
        n = write_review(self.folder / FOLDER, results, self.images, self.labels, count)
        if n:
            folder = self.folder / FOLDER
            print(f"{n} doubtful cells: {folder}")
            print(f"correct its annotations.json, then train with --set corrections={folder}")
            if (model / PROPOSER).is_file():
                print(f"or fine-tune the model: malaria-cells adapt {folder} --from {model} --output models/adapted")
        else:
            print("review: no cell was counted, there is nothing to review")

    def _score(self, finished: RunResults, truth: AnnotationSet) -> DetectionMetrics:
        """Write and print the metrics of the annotated images."""
        results, images = finished.results, list(truth.images)
        detections = [results[p.key] for p in images]
        seconds = round(finished.seconds / len(results), 4) if results else None
        metrics = detection_metrics(images, detections, self.labels, seconds)
        coverage = {"interval_coverage": self._coverage(images, finished)} if metrics.infected else {}
        unscored = scored_without(truth, self.labels)
        files.write_json(self.folder / "metrics.json", metrics.to_json() | coverage | unscored)
        _say_metrics(metrics)
        if "ignored_labels" in unscored:
            regions = number_of(sum(int(p.ignore.sum()) for p in images), "region")
            print(f"ignored labels, scored as neither right nor wrong: {', '.join(unscored['ignored_labels'])} ({regions} in all)")
        message = describe_labels(images, detections, self.labels)
        if message:
            print(message)
        write_matches(self.folder / "per_class.csv", class_matches(images, detections, self.labels, metrics.by_class.ap50))
        return metrics

    def _coverage(self, images: list[AnnotatedImage], finished: RunResults) -> dict[str, Any]:
        """Return how often intervals contain the annotated parasitemia, and the number of images without an interval."""
        errors = [self.errors_of(p.key, finished) for p in images]
        verdicts = self.verdicts(finished)
        with_interval = [(p, e) for p, e in zip(images, errors, strict=True) if p.key in verdicts.included and (e is None or e.measured)]
        detections = [finished.results[p.key] for p, _ in with_interval]
        coverage = interval_coverage([p for p, _ in with_interval], detections, self.labels, [e for _, e in with_interval])
        return coverage | {"without_interval": len(images) - len(with_interval)}

    def errors_of(self, key: str, finished: RunResults) -> ErrorRates | None:
        """Return the error rates to expect on one image."""
        return self.detector.errors_for(finished.familiarity.get(key))

    def verdicts(self, finished: RunResults) -> Verdicts:
        """Return the verdicts on the familiarity of all images together."""
        return Verdicts.of(self.detector, finished.results, finished.familiarity, self.force)

    def _write_coco(self, finished: RunResults) -> None:
        """Write ``detections.json``, image by image: the rows of all images together would take a hundred times the memory of one."""
        keys = sorted(finished.results)
        content = {
            "info": {"folder": self.images.as_posix()},
            "images": coco_rows.image_rows({key: finished.sizes_wh[key] for key in keys}),
            "annotations": [],
            "categories": coco_rows.categories(self.labels),
        }
        rows = coco_rows.results_by_image(finished.results[key] for key in keys)
        files.write_json_rows(self.folder / "detections.json", content, "annotations", rows)

    def say(self, finished: RunResults) -> None:
        """Print a summary and the paths of the files."""
        verdicts = self.verdicts(finished)
        detections = number_of(sum(map(len, finished.results.values())), "detection")
        counted = "" if len(verdicts.included) == len(finished.results) else f"{len(verdicts.included):,} of "
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
        say_ending(self.folder, finished, self.labels.names)


def _say_metrics(metrics: DetectionMetrics) -> None:
    average = f"mAP50 {rounded(metrics.map50)}  mAP {rounded(metrics.map)}  cell AP50 {rounded(metrics.cell_ap50)}"
    recall = f"cell recall {rounded(metrics.cell_recall50)} at any score, {rounded(metrics.cell.recall)} as counted"
    infected = f"  infected F1 {rounded(metrics.infected.f1)}" if metrics.infected else ""
    print(f"{average}  {recall}{infected}  on {number_of(metrics.images, 'annotated image')}")
