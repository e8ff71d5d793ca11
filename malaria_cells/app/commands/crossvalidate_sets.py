"""``crossvalidate --by data_set``: estimates the figures of a config on laboratories that are not in the training data."""

import json
import logging
from pathlib import Path
from typing import Any

from malaria_cells.app.commands.crossvalidate import TABLE, summary, table
from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.config import Config, load_config, names_of
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.data_sets import groups_of
from malaria_cells.data.dataset import DataSet, load_data_set, with_labels
from malaria_cells.data.seen_before import seen_in
from malaria_cells.evaluation.by_data_set import detected_by_data_set
from malaria_cells.inference.error_rates import ErrorRates
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.unfamiliar import Evidence, applies_to
from malaria_cells.results.training_report import write_training_files
from malaria_cells.training.errors_elsewhere import as_elsewhere, content_of, measured_evidence
from malaria_cells.training.start_model import start_of, with_start
from malaria_cells.training.train_model import train_data_set
from malaria_cells.tuning.folds import is_trained

log = logging.getLogger(__name__)


def crossvalidate_sets(config_path: Path, overrides: list[str], output: Path) -> int:
    """Hold out one data set after another, train on the other sets, and score on it. Models that were trained before are reused.

    Thresholds are chosen on the validation parts of the other sets. A set is scored on its test part, or on all its images if it has no
    test part. On unfamiliar images the evidence of infection is converted to a probability by a sigmoid that is fitted to the other
    sets, each seen by the model that was trained without it.

    Args:
        config_path: YAML file of a config with `data_sets`.
        overrides: ``KEY=VALUE`` for the config.
        output: folder for the models ``without_NAME`` and `TABLE`.

    Returns:
        Exit code.

    Raises:
        InputError: the config or the data are invalid, or there are fewer than two data sets.
    """
    config = load_config(config_path, overrides)
    if config.data_sets is None or len(config.data_sets) < 2:
        content = "no `data_sets`" if config.data_sets is None else "one data set"
        raise InputError(f"{config_path}: --by data_set holds out one data set after another; found {content}, expected two or more")
    all_names = names_of(config.data_sets)
    config = with_start(with_labels(config)).model_copy(update={"output_models": str(output)})
    data = load_data_set(config)
    names = _with_fields_of_view(data, all_names)
    _check_start_model(config, data.all_images)
    scored: list[dict[str, Any]] = []
    held_out: dict[str, AnnotationSet] = {}
    for name in names:
        parts, part = _hold_out(data, name)
        print(f"without {name}: scored on {_part_text(part)}, {number_of(len(_test_images(parts)), 'image')}", flush=True)
        folder, fold_config = output / f"without_{name}", _config_without(config, all_names, name)
        if not is_trained(folder, fold_config, parts):
            train_data_set(folder.name, fold_config, parts, resume=False, report=write_training_files)
        held_out[name] = _test_images(parts)
        scored.append({"left_out": name, "scored_on": part} | _figures(folder, name))
        _write(output, scored, len(names), overrides, {})
    if not applies_to(data.train.labels):
        return _print_table(output, scored, names)
    evidence = _evidence(output, {name: _images_to_fit(data, test, name) for name, test in held_out.items()})
    for row in scored:
        name = row["left_out"]
        detector = as_elsewhere(load_detector(output / f"without_{name}")[0], evidence, name)
        if detector is not None:
            print(f"without {name}: scored again, with the sigmoid for unfamiliar images that is fitted to the other data sets", flush=True)
            row |= detected_by_data_set(detector, held_out[name])[name]
    _write(output, scored, len(names), overrides, evidence)
    return _print_table(output, scored, names)


def _print_table(output: Path, scored: list[dict[str, Any]], names: list[str]) -> int:
    print(table(scored, "left out", names))
    print(f"figures of each set: {output / TABLE}")
    return 0


def _images_to_fit(data: DataSet, scored_on: AnnotationSet, name: str) -> AnnotationSet:
    """The images of a set that are not in its test part, or all its images if it has no test part."""
    rest = data.all_images.subset({p.key for p in data.all_images.images if p.data_set == name} - {p.key for p in scored_on.images})
    return rest if len(rest) else scored_on


def _evidence(output: Path, held_out: dict[str, AnnotationSet]) -> dict[str, Evidence]:
    """Evidence of infection of the red cells of each data set, measured by the model that was trained without it."""
    measured = {name: measured_evidence(load_detector(output / f"without_{name}")[0], images) for name, images in held_out.items()}
    return {name: evidence for name, evidence in measured.items() if evidence is not None}


def _write(output: Path, scored: list[dict[str, Any]], folds: int, overrides: list[str], evidence: dict[str, Evidence]) -> None:
    """Write `TABLE`, which the config key `elsewhere` can name."""
    errors = {row["left_out"]: ErrorRates(**row["counts"]) for row in scored if "counts" in row}
    files.write_json(output / TABLE, summary(scored, folds, overrides) | {"by": "data_set"} | content_of(errors, evidence))


def _check_start_model(config: Config, images: AnnotationSet) -> None:
    """Check that the start model, if there is one, was not trained on a data set that will be held out."""
    start = start_of(config)
    seen_names = [] if start is None else seen_in(start.folder, [p.key for p in images.images])
    if seen_names:
        raise InputError(
            f"start_from: {config.start_from}: was trained on images with the file names of {len(seen_names):,} of "
            f"{number_of(len(images), 'image')} (first: {seen_names[0]}), so no data set would be held out; train from scratch "
            "(`--set start_from=null`)"
        )


def _with_fields_of_view(data: DataSet, names: list[str]) -> list[str]:
    """The names of the sets that can be held out. Sets of single-cell images cannot be scored and are in every training."""
    present = {p.data_set for p in data.all_images.images}
    if len(present) < 2:
        raise InputError("data_sets: --by data_set holds out one set of fields of view after another; found one, expected two or more")
    single = [name for name in names if name not in present]
    if single:
        log.warning(f"{', '.join(single)}: images of single cells, never held out")
    return [name for name in names if name in present]


def _hold_out(data: DataSet, name: str) -> tuple[DataSet, str]:
    """Hold out one set.

    Returns:
        The training and validation parts of the other sets, with the images to score on as test part; and which images of the held-out
        set these are, ``test`` or ``all``.
    """
    test_keys = [] if data.test is None else [p.key for p in data.test.images if p.data_set == name]
    all_images = data.all_images
    test = all_images.subset(test_keys or [p.key for p in all_images.images if p.data_set == name])
    parts = {part: _without_set(in_part, name, groups_of(test.images)) for part, in_part in data.parts.items() if part != "test"}
    return DataSet(parts["train"], parts["validation"], test, data.single_cells), "test" if test_keys else "all"


def _without_set(annotations: AnnotationSet, name: str, held_out: set[str]) -> AnnotationSet:
    copies = [p.key for p in annotations.images if p.data_set != name and p.group in held_out]
    if copies:
        log.warning(f"{name}: {number_of(len(copies), 'image')} of other sets are copies of its images and left out; first: {copies[0]}")
    return annotations.subset(p.key for p in annotations.images if p.data_set != name and p.group not in held_out)


def _test_images(parts: DataSet) -> AnnotationSet:
    return parts.train if parts.test is None else parts.test


def _part_text(part: str) -> str:
    return "its test part" if part == "test" else "all its images, since it has no test part"


def _config_without(config: Config, names: list[str], left_out: str) -> Config:
    """The config without one set. The other sets keep their names, so the folder's ``config.yaml`` reproduces the training."""
    entries = [
        entry.model_copy(update={"name": name}) for entry, name in zip(config.data_sets or [], names, strict=True) if name != left_out
    ]
    # The figures in the file of `elsewhere` were measured on the held-out set too.
    return config.model_copy(update={"name": f"without_{left_out}", "data_sets": entries, "elsewhere": None})


def _figures(folder: Path, name: str) -> dict[str, Any]:
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return metrics["by_data_set"][name] if "by_data_set" in metrics else metrics["test"]
