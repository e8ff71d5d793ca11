"""Scores one model on the test part of each data set of a config, with the noise of each figure.

``python benchmarks/laboratories.py MODEL --config configs/thin_smear.yaml [--part validation] [--json FILE]`` detects in every image
once. The figures are those of ``run.py --annotations``; beside the most important ones stands the 95 % interval of `ROUNDS` bootstrap
samples of groups (slides), since images of one slide are alike. False alarms are counted by 1,000 red cells that were counted.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base.progress import progress
from malaria_cells.base.tensorflow_setup import start_tensorflow
from malaria_cells.config import load_config
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.dataset import load_data_set, with_labels
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import read_image
from malaria_cells.evaluation import as_one_class, cell_figures, detection_metrics, error_rates, infected_figures, interval_coverage
from malaria_cells.inference.counting import count_detected, total
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.familiarity import UNLIKE

ROUNDS = 200
SEED = 7


def main() -> None:
    """Parse arguments, detect, print."""
    parser = arguments(__doc__, "test")
    parser.add_argument("--only", nargs="*", help="data sets by their names")
    options = parser.parse_args()
    part, detector = opened(options)
    rows = {}
    for name, own in part.by_data_set().items():
        if options.only is None or name in options.only:
            rows[name] = figures(detector, own)
            print_row(name, rows[name])
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def arguments(doc: str | None, part: str) -> argparse.ArgumentParser:
    """Options of a benchmark of one model on the data sets of a config; `part` is what it looks at by default."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--config", type=Path, default=Path("configs/thin_smear.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--part", choices=["test", "validation", "train"], default=part)
    parser.add_argument("--json", type=Path)
    return parser


def opened(options: argparse.Namespace) -> tuple[AnnotationSet, Detector]:
    """The part of the data sets and the detector that the options name."""
    start_tensorflow()
    from malaria_cells.inference.model_folder import load_detector

    data = load_data_set(with_labels(load_config(options.config, options.set)))
    part = data.parts.get(options.part)
    if part is None:
        sys.exit(f"{options.config}: no data set has a {options.part} part")
    return part, load_detector(options.model)[0]


def figures(detector: Detector, annotations: AnnotationSet) -> dict[str, Any]:
    """Detect in the images of one data set and score them."""
    images, labels = list(annotations.images), annotations.labels
    if labels.names != detector.labels.names:
        sys.exit(f"the model's labels are {', '.join(detector.labels.names)}; give the config the same, by --set labels=[..]")
    seen, verdicts = [], []
    for p in progress(images, len(images), "detecting", "image"):
        pixels = read_image(p.path)
        seen.append(detector.detect(pixels))
        verdicts.append(detector.familiarity(pixels, seen[-1]))
    scored = detection_metrics(images, seen, labels, None).to_json()
    by_image = [count_detected(own, labels) for own in seen]
    counted = total(by_image, labels)
    rates = error_rates(images, seen, labels)
    given = [i for i, verdict in enumerate(verdicts) if verdict is None or verdict.level != UNLIKE]
    expected = [detector.errors_for(verdicts[i]) for i in given]
    levels = [verdict.level for verdict in verdicts if verdict]
    return scored | {
        "groups": len({p.group for p in images}),
        "noise": noise(images, seen, annotations),
        "false_alarms_per_1000": 1000 * rates.false_alarms / max(counted.red_cells, 1),
        "interval_coverage": interval_coverage([images[i] for i in given], [seen[i] for i in given], labels, expected),
        "familiarity": {level: levels.count(level) for level in sorted(set(levels))},
    }


def noise(images: Sequence[AnnotatedImage], seen: Sequence[Detections], annotations: AnnotationSet) -> dict[str, list[float]]:
    """95 % intervals of the bootstrap by group (Efron and Tibshirani 1993, chapter 13, percentiles)."""
    rng = np.random.default_rng(SEED)
    labels = annotations.labels
    groups: dict[str, list[int]] = {}
    for i, p in enumerate(images):
        groups.setdefault(p.group, []).append(i)
    members = list(groups.values())
    samples: dict[str, list[float]] = {"cell AP50": [], "infected AP50": [], "infected F1": []}
    for _ in range(ROUNDS):
        rows = [i for g in rng.integers(len(members), size=len(members)) for i in members[g]]
        # Drawn twice, an image is two images: tables tell them apart by their keys.
        drawn, found = [replace(images[i], key=str(n)) for n, i in enumerate(rows)], [seen[i] for i in rows]
        values = {"cell AP50": cell_figures(drawn, found, labels).ap50[0]}
        if any(labels.is_infected[p.cell_class_ids].any() for p in drawn):
            values["infected AP50"] = as_one_class(drawn, found, labels.is_infected).ap50[0]
            values["infected F1"] = infected_figures(drawn, found, labels).f1
        for name, value in values.items():
            if value is not None:
                samples[name].append(float(value))
    return {name: np.percentile(values, [2.5, 97.5]).round(3).tolist() for name, values in samples.items() if values}


def print_row(name: str, row: dict[str, Any]) -> None:
    """A line of the table."""
    infected = row.get("infected", {})
    values = {
        "cell AP50": row["cell"]["AP50"],
        "cell recall": row["cell"]["recall50"],
        "mAP50": row["mAP50"],
        "infected AP50": infected.get("AP50"),
        "infected F1": infected.get("f1"),
        "alarms a 1,000": row["false_alarms_per_1000"],
    }
    shown = [f"{column} {value:.3f}{_between(row['noise'].get(column))}" for column, value in values.items() if value is not None]
    print(f"{name} ({row['images']} images of {row['groups']} groups): {', '.join(shown)}")
    print(f"    intervals {row['interval_coverage']}, {row['familiarity']}")


def _between(limits: list[float] | None) -> str:
    return f" ({limits[0]:.3f} to {limits[1]:.3f})" if limits else ""


if __name__ == "__main__":
    main()
