"""What each rule of a detector does to each data set: the figures with the rule, and what changes without it.

``python benchmarks/rules.py MODEL --config configs/thin_smear.yaml [--part validation] [--json FILE]`` looks at every image of a part
once for each way of looking, and decides in each way of deciding. A rule that helps some laboratories and hurts others is to be chosen at
training.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import numpy as np
from laboratories import arguments, opened

from malaria_cells.base.progress import progress
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.images import read_image
from malaria_cells.evaluation import as_one_class, average_precision, cell_figures, mean_present
from malaria_cells.inference import detector as detectors
from malaria_cells.inference.detector import Predictions
from malaria_cells.inference.two_stage_detector import TwoStageDetector

OVERLAPS = (0.3, 0.4, 0.5, 0.6, 0.7)


def main() -> None:
    """Parse arguments, measure, print."""
    parser = arguments(__doc__, "validation")
    parser.add_argument("--most", type=int, default=30, help="images of each set, evenly over it")
    options = parser.parse_args()
    part, detector = opened(options)
    if not isinstance(detector, TwoStageDetector):
        sys.exit(f"{options.model}: expected a two-stage detector")
    rows = {}
    for name, own in part.by_data_set().items():
        chosen = replace(own, images=own.images[:: max(len(own) // options.most, 1)])
        rows[name] = measured(detector, chosen)
        print_table(name, len(chosen), rows[name])
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def looked(detector: TwoStageDetector, annotations: AnnotationSet, what: str) -> list[Predictions]:
    """What the networks say of each image."""
    images = annotations.images
    return [detector.predict(read_image(p.path)) for p in progress(images, len(images), what, "image")]


def measured(detector: TwoStageDetector, annotations: AnnotationSet) -> dict[str, dict[str, float | None]]:
    """Figures of one data set by rule."""
    seen = looked(detector, annotations, "as it is")
    rows = {"as it is": figures(detector, seen, annotations)}
    with nested_boxes_stay():
        rows["nested boxes stay"] = figures(detector, seen, annotations)
    for iou in OVERLAPS:
        rows[f"overlap {iou}"] = figures(detector.with_settings(nms_iou=iou), seen, annotations)
    rows["proposer not asked"] = figures(detector.with_settings(proposal_weight=0.0), seen, annotations)
    own_size = detector.with_cell_size(annotations.median_cell_size)
    rows["in the annotated size"] = figures(own_size, looked(own_size, annotations, "annotated size"), annotations)
    usual = min(detector.proposer.reference_sizes, key=lambda size: abs(np.log(size / annotations.median_cell_size)))
    nearest = detector.with_cell_size(float(usual))
    rows["in the nearest usual size"] = figures(nearest, looked(nearest, annotations, "nearest size"), annotations)
    return rows


@contextmanager
def nested_boxes_stay() -> Iterator[None]:
    """Nothing is taken off a box in which another one lies."""
    with mock.patch.object(detectors, "nested_decay", lambda boxes_xyxy, *_: np.ones(len(boxes_xyxy), dtype=np.float32)):
        yield


def figures(detector: TwoStageDetector, seen: list[Predictions], annotations: AnnotationSet) -> dict[str, float | None]:
    """Average precisions at an IoU of 0.5."""
    images, labels = list(annotations.images), annotations.labels
    found = [detector.decide(*look) for look in seen]
    cell = cell_figures(images, found, labels)
    by_label = average_precision(images, found, labels).ap50
    infected = as_one_class(images, found, labels.is_infected).ap50[0]
    return {"cell AP50": cell.ap50[0], "mAP50": mean_present(by_label), "infected AP50": infected}


def print_table(name: str, images: int, rows: dict[str, dict[str, float | None]]) -> None:
    """The first row as it is, the others as what is added by leaving the rule."""
    first = rows["as it is"]
    print(f"\n{name}, {number_of(images, 'image')}\n| | " + " | ".join(first) + " |\n" + "|---" * (len(first) + 1) + "|")
    for rule, row in rows.items():
        print(f"| {rule} | " + " | ".join(said(row[key], None if row is first else first[key]) for key in first) + " |", flush=True)


def said(value: float | None, before: float | None) -> str:
    """A figure, or its difference from another."""
    if value is None or not np.isfinite(value):
        return ""
    return f"{value:.3f}" if before is None else f"{value - before:+.3f}"


if __name__ == "__main__":
    main()
