"""How good is a model after it was adapted to 0, 5, 10, 20, 40 images of another laboratory? The curve on that one's test part.

    python benchmarks/few_images.py results/away/without_bbbc041 data/bbbc041 --output results/few

The model must not have seen that laboratory: `crossvalidate --by data_set` makes such models. DATA is a folder with images, an annotation
and a split.json, whose training list the images are drawn from, and whose test list is scored. Each count is drawn with each seed, the
larger draws holding the smaller ones; models that are there are only scored. The table is written to few_images.json and
few_images.md in the output folder, after each model.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.app.cli import main as malaria_cells
from malaria_cells.base import files
from malaria_cells.base.progress import progress
from malaria_cells.data.annotations import AnnotationSet, load_annotations
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.split_file import read_split
from malaria_cells.data.writers import WRITERS
from malaria_cells.evaluation import detection_metrics
from malaria_cells.inference.model_description import ABOUT
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.model_yaml import load_description

COUNTS = (0, 5, 10, 20, 40)
FIGURES = {
    "cell AP50": ("cell", "AP50"),
    "infected AP50": ("infected", "AP50"),
    "infected F1": ("infected", "f1"),
    "false alarms per 1,000": ("infected", "false_alarms_per_1000_red_cells"),
}


def labels_of(model: Path, data: Path) -> LabelSet:
    """The model's labels; categories of the data that it does not know are ignore regions, so that every count is scored alike."""
    labels = load_description(model)[0].labels
    found = load_annotations(data, None, warn=False).labels.names
    return replace(labels, ignored=tuple(dict.fromkeys((*labels.ignored, *(name for name in found if name not in labels.names)))))


def drawn(train: AnnotationSet, count: int, seed: int) -> AnnotationSet:
    """The first so many images of an order by a seed."""
    order = np.random.default_rng(seed).permutation(len(train))[:count]
    return train.subset(train.images[i].key for i in order)


def adapted(model: Path, few: AnnotationSet, folder: Path, minutes: float) -> Path:
    """The folder of the model that is made of one and a few images."""
    made = folder / "model"
    if not (made / ABOUT).is_file():
        if not (folder / "data").exists():
            WRITERS["coco"](few, folder / "data")
        ignored = ["--ignore-labels", ",".join(few.labels.ignored)] if few.labels.ignored else []
        request = ["adapt", str(folder / "data"), "--from", str(model), "--output", str(made), "--minutes", str(minutes), *ignored]
        if malaria_cells(request):
            raise SystemExit(f"malaria-cells {' '.join(request)} failed")
    return made


def scored(model: Path, test: AnnotationSet) -> dict[str, float | None]:
    """The figures of a model on the test part."""
    detector, _ = load_detector(model)
    images = list(test.images)
    found = [detector.detect(p.path) for p in progress(images, len(images), "detecting", "image")]
    metrics = detection_metrics(images, found, test.labels, None).to_json()
    return {name: metrics.get(part, {}).get(key) for name, (part, key) in FIGURES.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """Mean over seeds by count, as Markdown."""
    lines = ["| images | models | " + " | ".join(FIGURES) + " |", "|---" * (len(FIGURES) + 2) + "|"]
    for count in sorted({row["images"] for row in rows}):
        own = [row for row in rows if row["images"] == count]
        cells = []
        for name in FIGURES:
            values = [row[name] for row in own if row[name] is not None]
            spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}" if values else "none")
        lines.append(f"| {count} | {len(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure the curve and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model folder to go on from")
    parser.add_argument("data", type=Path, help="data set folder")
    parser.add_argument("--split", type=Path, help="JSON of the parts (default: split.json in DATA)")
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--output", type=Path, default=Path("results/few_images"))
    options = parser.parse_args()
    everything = load_annotations(options.data, labels_of(options.model, options.data))
    train, test = read_split(options.split or options.data / "split.json", everything)
    rows: list[dict[str, Any]] = []
    for count in options.counts:
        for seed in options.seeds[: 1 if count == 0 else None]:
            if count > len(train):
                print(f"{count} images: {options.data} has {len(train)} to draw from")
                continue
            folder = options.output / f"{count}_images_seed{seed}"
            model = options.model if count == 0 else adapted(options.model, drawn(train, count, seed), folder, options.minutes)
            rows.append({"images": count, "seed": seed, **scored(model, test)})
            print(json.dumps(rows[-1]), flush=True)
            about = {"model": str(options.model), "data": str(options.data), "test_images": len(test), "rows": rows}
            files.write_json(options.output / "few_images.json", about)
            files.write_text(options.output / "few_images.md", table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
