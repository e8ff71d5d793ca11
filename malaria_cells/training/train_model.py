"""Trains from a data set to a complete model folder; an interrupted training can be resumed."""

import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.tensorflow_setup import repeat_exactly, start_tensorflow
from malaria_cells.base.text import number_of, rounded
from malaria_cells.config import Config
from malaria_cells.data.augment import check_policy
from malaria_cells.data.data_record import data_record
from malaria_cells.data.data_sets import describe_unannotated
from malaria_cells.data.dataset import DataSet, load_data_set, with_labels
from malaria_cells.data.single_cell_sets import describe_labels_not_in_images, describe_single_cells
from malaria_cells.evaluation.by_data_set import DETECTION, at, has_named_sets
from malaria_cells.fitting import run_folders
from malaria_cells.fitting.claim import check_folder, check_place, claimed
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.model_description import ABOUT
from malaria_cells.models import check_model_name
from malaria_cells.proposals import check_method
from malaria_cells.proposals.learned.habits import measured
from malaria_cells.training.errors_elsewhere import read_elsewhere
from malaria_cells.training.one_stage import train_one_stage_into
from malaria_cells.training.records import METRICS
from malaria_cells.training.start_model import with_start
from malaria_cells.training.training_result import TrainingResult
from malaria_cells.training.two_stage import train_two_stage_into

log = logging.getLogger(__name__)

Reporter = Callable[[Path, str, TrainingResult], None]


def prepared(config: Config) -> tuple[Config, DataSet]:
    """Return a checked config with its labels and start model filled in, and its data in parts.

    Raises:
        InputError: the data are wrong, or have no labelled cell to learn from or to choose by.
    """
    config = with_start(with_labels(config))
    data = load_data_set(config)
    check_cells(data)
    return config, data


def train_data_set(name: str, config: Config, data: DataSet, resume: bool, report: Reporter) -> Path:
    """Train on a data set that is already loaded and split.

    Args:
        name: name of the model folder in the config's `output_models`.
        config: the recipe, its labels filled in (`dataset.with_labels`).
        data: the parts; a test part is only scored, nothing is chosen on it.
        resume: whether to resume an unfinished run of that name.
        report: function that writes the report; it is called with the new folder, the name and the result.

    Returns:
        The model folder.

    Raises:
        InputError: the config does not fit the data, or another training uses the name.
    """
    check_request(config)
    check_cells(data)
    with claimed(Path(config.output_models), name, resume):
        return train_claimed(name, config, data, resume, report)


def train_claimed(name: str, config: Config, data: DataSet, resume: bool, report: Reporter) -> Path:
    """Train as `train_data_set` does; the caller has checked the request and holds the lock of the name."""
    output = Path(config.output_models)
    folder, run_folder = output / name, run_folders.folder_of(output, name)
    if run_folders.is_finished(run_folder, folder / ABOUT):
        RunState(run_folder).finish()
    files.check_replaceable(folder, ABOUT)
    # A one-stage detector is not trained on images of single cells.
    _describe(data if config.detector == "two_stage" else replace(data, single_cells=None))
    open_run = RunState.resume if resume else RunState.start
    run = open_run(run_folder, config, data_record(data))
    start_tensorflow()
    if config.deterministic:
        repeat_exactly()
    try:
        with files.replacing_folder(folder, ABOUT) as new_folder:
            train = train_two_stage_into if config.detector == "two_stage" else train_one_stage_into
            result = train(new_folder, config, data, run)
            report(new_folder, name, result)
            taken = run.time.used.to_json()
            files.write_json(new_folder / METRICS, result.metrics | {"training_time": taken})
            run.mark_finished(new_folder / ABOUT)
    except (InputError, KeyboardInterrupt):
        run.abort()
        raise
    run.finish()
    _say_done(folder, result.metrics, taken["seconds"])
    return folder


def check_request(config: Config) -> None:
    """Check everything in the config that does not depend on the data.

    Raises:
        InputError: a file, model, augmentation or folder that the config names cannot be used.
    """
    read_elsewhere(config.elsewhere)
    for recipe in config.classifiers:
        check_model_name(recipe.model)
        check_policy(recipe.augmentation)
    check_method(config.proposals)
    output = Path(config.output_models)
    check_place(output, config.name or None)
    if config.detector == "two_stage":
        check_folder(Path(config.patch_cache), "patches")
    if config.name:
        files.check_replaceable(output / config.name, ABOUT)


def check_cells(data: DataSet) -> None:
    """Check that training and validation part have labelled cells; log a warning if the test part has none.

    Raises:
        InputError: the training or validation part has no labelled cell.
    """
    for name, part in (("training", data.train), ("validation", data.validation)):
        if part.class_counts.sum() == 0:
            advice = "annotate more images, or check `labels`, `ignore_labels` and the annotation with `malaria-cells explore`"
            raise InputError(f"no labelled cell in the {name} part ({number_of(len(part), 'image')}); {advice}")
    if data.test is not None and data.test.class_counts.sum() == 0:
        log.warning(f"no labelled cell in the test part ({number_of(len(data.test), 'image')}); only false alarms can be measured on it")


def _describe(data: DataSet) -> None:
    names = data.train.labels.names
    rows = [(part, annotations) for part, annotations in data.parts.items()]
    if has_named_sets(data.train):
        rows = [row for part, whole in rows for row in [(part, whole), *((f"  {n}", subset) for n, subset in whole.by_data_set().items())]]
    width = max(12, *(len(row) + 1 for row, _ in rows))
    print(f"{'':{width}}{'images':>9}" + "".join(f"  {n:>{max(len(n), 6)}}" for n in names))
    for row, annotations in rows:
        counts = zip(names, annotations.class_counts, strict=True)
        print(f"{row:{width}}{len(annotations):>9}" + "".join(f"  {c:>{max(len(n), 6)}}" for n, c in counts))
    for line in (*describe_single_cells(data.single_cells), *describe_unannotated(data.train), *measured(data.train)):
        print(line)
    sys.stdout.flush()
    for line in describe_labels_not_in_images(data.train, data.single_cells):
        log.warning(line)


def _say_done(folder: Path, metrics: dict[str, Any], seconds: float) -> None:
    part = "test" if "test" in metrics else "validation"
    f = metrics[part]
    if "mAP50" in f:
        figures = f"mAP50 {rounded(f['mAP50'])}, cell AP50 {rounded(f['cell']['AP50'])}"
        print(f"{part}: {figures} on {number_of(f['images'], 'image')} ({seconds:.0f} s)")
    else:
        print(f"{part}: accuracy {f['accuracy']:.3f}, macro F1 {f['macro_f1']:.3f} on {f['patches']:,} patches ({seconds:.0f} s)")
    for name, m in metrics.get("by_data_set", {}).items():
        figures = ", ".join(f"{heading} {rounded(at(m, path))}" for heading, path in DETECTION.items() if at(m, path) is not None)
        print(f"  {name}: {figures} on {number_of(m['images'], 'image')}")
    print(f"model: {folder}\nnext:  python run.py --model {folder} --image IMAGES")
