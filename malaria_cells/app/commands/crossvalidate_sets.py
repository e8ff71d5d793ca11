"""``crossvalidate --by data_set``: how good is a recipe on a laboratory that it has not seen."""

import json
import logging
from pathlib import Path
from typing import Any

from malaria_cells.app.commands.crossvalidate import TABLE, is_trained, summary, table
from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.config import Config, load_config, names_of
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.data_sets import groups_of
from malaria_cells.data.dataset import DataSet, load_data_set, with_labels
from malaria_cells.data.seen_before import seen_in
from malaria_cells.evaluation.by_data_set import detected_by_data_set
from malaria_cells.inference.counting import ErrorRates
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.unfamiliar import Evidence, applies_to
from malaria_cells.results.training_report import write_training_files
from malaria_cells.training.elsewhere import as_elsewhere, content_of, measured_evidence
from malaria_cells.training.start_model import start_of, with_start
from malaria_cells.training.train_model import train_data_set

log = logging.getLogger(__name__)


def crossvalidate_sets(config_path: Path, overrides: list[str], output: Path) -> int:
    """Train once a data set on the training parts of all others, and score on it; what was trained before is not trained again.

    Thresholds are chosen on the validation parts of the others. A set is scored on its test part, or where it has none on all its images.
    Evidence for an infection means on its unfamiliar images what it means, to the trainings that left those out, on the other sets'.

    Args:
        config_path: the recipe, with `data_sets`.
        overrides: ``KEY=VALUE``.
        output: folder for ``without_NAME`` of each set and `TABLE`.

    Returns:
        Exit code.

    Raises:
        InputError: the config or the data are wrong; there are fewer than two data sets.
    """
    config = load_config(config_path, overrides)
    if config.data_sets is None or len(config.data_sets) < 2:
        found = "no `data_sets`" if config.data_sets is None else "one data set"
        raise InputError(f"{config_path}: --by data_set leaves out one data set after another; found {found}, expected two or more")
    every_name = names_of(config.data_sets)
    config = with_start(with_labels(config)).model_copy(update={"output_models": str(output)})
    data = load_data_set(config)
    names = _of_images(data, every_name)
    _check_unseen(config, data.all_images)
    scored: list[dict[str, Any]] = []
    left_out: dict[str, AnnotationSet] = {}
    for name in names:
        parts, part = _leaving_out(data, name)
        print(f"without {name}: scored on {_said(part)}, {number_of(len(_test(parts)), 'image')}", flush=True)
        folder, of_others = output / f"without_{name}", _of_others(config, every_name, name)
        if not is_trained(folder, of_others, parts):
            train_data_set(folder.name, of_others, parts, resume=False, report=write_training_files)
        left_out[name] = _test(parts)
        scored.append({"left_out": name, "scored_on": part} | _figures(folder, name))
        _write(output, scored, len(names), overrides, {})
    if not applies_to(data.train.labels):
        return _tell(output, scored, names)
    evidence = _evidence(output, {name: _to_fit_to(data, own, name) for name, own in left_out.items()})
    for row in scored:
        name = row["left_out"]
        detector = as_elsewhere(load_detector(output / f"without_{name}")[0], evidence, name)
        if detector is not None:
            print(f"without {name}: scored again, unfamiliar images as the other data sets have it", flush=True)
            row |= detected_by_data_set(detector, left_out[name])[name]
    _write(output, scored, len(names), overrides, evidence)
    return _tell(output, scored, names)


def _tell(output: Path, scored: list[dict[str, Any]], names: list[str]) -> int:
    print(table(scored, "left out", names))
    print(f"figures of each set: {output / TABLE}")
    return 0


def _to_fit_to(data: DataSet, scored_on: AnnotationSet, name: str) -> AnnotationSet:
    """The images of a set that it is not scored on, or all where it has no test part."""
    rest = data.all_images.subset({p.key for p in data.all_images.images if p.data_set == name} - {p.key for p in scored_on.images})
    return rest if len(rest) else scored_on


def _evidence(output: Path, left_out: dict[str, AnnotationSet]) -> dict[str, Evidence]:
    """What each training sees of the red cells that it left out, by data set."""
    found = {name: measured_evidence(load_detector(output / f"without_{name}")[0], own) for name, own in left_out.items()}
    return {name: own for name, own in found.items() if own is not None}


def _write(output: Path, scored: list[dict[str, Any]], folds: int, overrides: list[str], evidence: dict[str, Evidence]) -> None:
    """Write `TABLE`, which the config key `elsewhere` reads too."""
    errors = {row["left_out"]: ErrorRates(**row["counts"]) for row in scored if "counts" in row}
    files.write_json(output / TABLE, summary(scored, folds, overrides) | {"by": "data_set"} | content_of(errors, evidence))


def _check_unseen(config: Config, images: AnnotationSet) -> None:
    """See that the start model, if there is one, was not trained on a data set that is to be left out."""
    start = start_of(config)
    seen = [] if start is None else seen_in(start.folder, [p.key for p in images.images])
    if seen:
        raise InputError(
            f"start_from: {config.start_from}: was trained on images with the file names of {len(seen):,} of "
            f"{number_of(len(images), 'image')} (first: {seen[0]}), so that no data set would be left out; train from scratch "
            "(`--set start_from=null`)"
        )


def _of_images(data: DataSet, names: list[str]) -> list[str]:
    """The sets that can be left out: no detector is scored on images of single cells, which teach in every training."""
    found = {p.data_set for p in data.all_images.images}
    if len(found) < 2:
        raise InputError("data_sets: --by data_set leaves out one set of images after another; found one, expected two or more")
    single = [name for name in names if name not in found]
    if single:
        log.warning(f"{', '.join(single)}: images of single cells, never left out")
    return [name for name in names if name in found]


def _leaving_out(data: DataSet, name: str) -> tuple[DataSet, str]:
    """The training and validation parts of the others, with the images that the set is scored on as test part, and which these are."""
    own_test = [] if data.test is None else [p.key for p in data.test.images if p.data_set == name]
    everything = data.all_images
    test = everything.subset(own_test or [p.key for p in everything.images if p.data_set == name])
    others = {part: _others(found, name, groups_of(test.images)) for part, found in data.parts.items() if part != "test"}
    return DataSet(others["train"], others["validation"], test, data.single_cells), "test" if own_test else "all"


def _others(annotations: AnnotationSet, name: str, held_out: set[str]) -> AnnotationSet:
    copies = [p.key for p in annotations.images if p.data_set != name and p.group in held_out]
    if copies:
        log.warning(f"{name}: {number_of(len(copies), 'image')} of other sets are the same images, left out; first: {copies[0]}")
    return annotations.subset(p.key for p in annotations.images if p.data_set != name and p.group not in held_out)


def _test(parts: DataSet) -> AnnotationSet:
    return parts.train if parts.test is None else parts.test


def _said(part: str) -> str:
    return "its test part" if part == "test" else "all its images, since it has no test part"


def _of_others(config: Config, names: list[str], left_out: str) -> Config:
    """The recipe without one set; the others keep their names, so that the folder's ``config.yaml`` trains the same again."""
    entries = [
        entry.model_copy(update={"name": name}) for entry, name in zip(config.data_sets or [], names, strict=True) if name != left_out
    ]
    # What a file says of laboratories that were left out knows the one that is left out now.
    return config.model_copy(update={"name": f"without_{left_out}", "data_sets": entries, "elsewhere": None})


def _figures(folder: Path, name: str) -> dict[str, Any]:
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return metrics["by_data_set"][name] if "by_data_set" in metrics else metrics["test"]
