"""``crossvalidate``: estimates the figures of a config and their standard errors without the test part."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.progress import progress
from malaria_cells.base.text import rounded
from malaria_cells.config import Config, load_config
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.dataset import DataSet, load_data_set, with_labels
from malaria_cells.data.seen_before import say_seen
from malaria_cells.data.splits import fold_images, split_images
from malaria_cells.evaluation import detection_metrics
from malaria_cells.evaluation.by_data_set import DETECTION, at
from malaria_cells.inference.model_description import ABOUT, file_fingerprint
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.model_yaml import load_description
from malaria_cells.results.training_report import write_training_files
from malaria_cells.training.start_model import start_of, with_start
from malaria_cells.training.train_model import train_data_set

TABLE = "crossvalidation.json"

_CLASSIFICATION: dict[str, tuple[str, ...]] = {
    "accuracy": ("accuracy",),
    "macro F1": ("macro_f1",),
    "balanced accuracy": ("balanced_accuracy",),
}


def crossvalidate(config_path: Path, overrides: list[str], folds: int, output: Path) -> int:
    """Train once for each fold on the other folds, and score on the fold. A fold that was trained before is only scored again.

    The folds divide the training and validation images. Each training draws its validation part, by which thresholds are chosen, from
    its own images. The test part is not used, so configs can be compared any number of times.

    Args:
        config_path: YAML file of the config.
        overrides: ``KEY=VALUE`` for the config.
        folds: number of folds.
        output: folder for the models ``fold1`` .. and `TABLE`.

    Returns:
        Exit code.

    Raises:
        InputError: the config or the data are invalid.
    """
    config = with_start(with_labels(load_config(config_path, overrides))).model_copy(update={"output_models": str(output)})
    data = load_data_set(config)
    keys = {p.key for part in (data.train, data.validation) for p in part.images}
    images = data.all_images.subset(keys)
    start = start_of(config)
    seen_before = {} if start is None else say_seen(start.folder, {"cross-validated": images})
    scored: list[dict[str, Any]] = []
    for number, held_out in enumerate(fold_images(images, folds, config.random_state), start=1):
        name = f"fold{number}"
        print(f"fold {number} of {folds}: {len(held_out)} images held out", flush=True)
        rest = images.subset(keys - {p.key for p in held_out.images})
        train, validation = split_images(rest, config.validation_size, config.random_state)
        fold_config = config.model_copy(update={"name": name})
        parts = DataSet(train, validation, held_out, data.single_cells)
        if not is_trained(output / name, fold_config, parts):
            train_data_set(name, fold_config, parts, resume=False, report=write_training_files)
        scored.append(_score(output / name, held_out))
        files.write_json(output / TABLE, summary(scored, folds, overrides) | seen_before)
    print(table(scored))
    print(f"figures of each fold: {output / TABLE}")
    return 0


def is_trained(folder: Path, config: Config, parts: DataSet) -> bool:
    """Whether the folder holds the model of this config and these images.

    Raises:
        InputError: the folder holds another model.
    """
    if not (folder / ABOUT).is_file():
        return False
    fingerprints = load_description(folder)[0].fingerprints
    expected = {"config": file_fingerprint(config.to_yaml())} | {part: images.fingerprint for part, images in parts.all_parts.items()}
    if any(fingerprints.get(key) != value for key, value in expected.items()):
        raise InputError(f"{folder}: holds a model of another config or other images; choose another --output, or remove the folder")
    print(f"{folder}: trained before")
    return True


def _score(folder: Path, held_out: AnnotationSet) -> dict[str, Any]:
    detector, description = load_detector(folder)
    if not description.has_background:
        return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["test"]
    images = list(held_out.images)
    detections = [detector.detect(p.path) for p in progress(images, len(images), "detecting", "image")]
    return detection_metrics(images, detections, held_out.labels, None).to_json()


def _figures(scored: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """The values of each figure of the table by fold; None if a fold lacks the figure."""
    paths = DETECTION if "mAP50" in scored[0] else _CLASSIFICATION
    return {heading: [at(metrics, path) for metrics in scored] for heading, path in paths.items()}


def _mean_and_error(values: list[float | None]) -> tuple[float, float | None] | None:
    """Mean over the folds that have the figure, and its standard error; None if no fold has it.

    The standard error is slightly too small, since any two trainings share most of their images (Bengio and Grandvalet 2004, JMLR 5,
    1089-1105).
    """
    present = [v for v in values if v is not None]
    if not present:
        return None
    return float(np.mean(present)), float(np.std(present, ddof=1) / np.sqrt(len(present))) if len(present) > 1 else None


def summary(scored: list[dict[str, Any]], folds: int, overrides: list[str]) -> dict[str, Any]:
    """The content of `TABLE`.

    Args:
        scored: metrics of each finished fold.
        folds: number of folds.
        overrides: ``KEY=VALUE`` for the config.
    """
    means = {heading: _mean_and_error(values) or (None, None) for heading, values in _figures(scored).items()}
    return {
        "folds": folds,
        "finished": len(scored),
        "set": overrides,
        "mean": {heading: mean for heading, (mean, _) in means.items()},
        "standard_error": {heading: error for heading, (_, error) in means.items()},
        "by_fold": scored,
    }


def table(scored: list[dict[str, Any]], heading: str = "fold", names: list[str] | None = None) -> str:
    """The figures as a table in Markdown.

    Args:
        scored: metrics of each fold.
        heading: heading of the first column.
        names: names of the folds; None: their numbers.
    """
    figures = _figures(scored)
    rows = [(heading, *figures)]
    names = names or [str(number) for number in range(1, len(scored) + 1)]
    rows += [(name, *map(rounded, values)) for name, values in zip(names, zip(*figures.values(), strict=True), strict=True)]
    means = (_mean_and_error(values) or (None, None) for values in figures.values())
    cells = (rounded(mean) + ("" if error is None else f" ± {rounded(error)}") for mean, error in means)
    rows.append(("mean ± standard error", *cells))
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])
