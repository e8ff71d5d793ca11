"""``train``: a data set and a config in, a model folder out."""

import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.tensorflow_setup import start_tensorflow
from malaria_cells.base.text import number_of, rounded
from malaria_cells.commands.by_data_set import DETECTION, at, has_named_sets
from malaria_cells.commands.train_one_stage import train_one_stage_into
from malaria_cells.commands.train_two_stage import train_two_stage_into
from malaria_cells.config import Config, load_config
from malaria_cells.data.augment import check_policy
from malaria_cells.data.data_record import data_record
from malaria_cells.data.data_sets import said_of_unannotated
from malaria_cells.data.dataset import DataSet, load_data_set, with_labels
from malaria_cells.data.single_cell_sets import said_of_labels_not_in_photographs, said_of_single_cells
from malaria_cells.fitting import run_state
from malaria_cells.fitting.claim import check_folder, check_place, claimed
from malaria_cells.inference.model_description import ABOUT
from malaria_cells.models import check_model_name
from malaria_cells.proposals.habits import measured
from malaria_cells.training.elsewhere import read_elsewhere
from malaria_cells.training.start_model import with_start

log = logging.getLogger(__name__)


def train(config_path: Path, overrides: list[str], resume: bool) -> int:
    """Train what a config asks for and write the model folder.

    Returns:
        Exit code.

    Raises:
        InputError: the config or the data are wrong, and nothing is written then; or another training has the name.
    """
    config = load_config(config_path, overrides)
    _check_request(config)
    output = Path(config.output_models)
    if resume and _say_if_complete(output, config.name):
        return 0
    config = with_start(with_labels(config))
    data = load_data_set(config)
    _check_cells(data)
    with claimed(output, config.name or None, resume) as name:
        if not resume and run_state.is_there(run_state.folder_of(output, name)):
            log.warning(f"{output / name}: begins anew; the same command with --resume would go on with what an earlier run has made")
        try:
            _train_claimed(name, config, data, resume)
        except KeyboardInterrupt:
            if run_state.folder_of(output, name).exists():
                print(f"{output / name}: what was trained so far is kept; the same command with --resume goes on", file=sys.stderr)
            raise
    return 0


def train_data_set(name: str, config: Config, data: DataSet, resume: bool) -> Path:
    """Train on parts that are there already.

    Args:
        name: of the model folder below the config's `output_models`.
        config: the recipe, its labels filled in (`dataset.with_labels`).
        data: the parts; a test part is scored and never chosen by.
        resume: whether to go on with an unfinished run of that name.

    Returns:
        The model folder.

    Raises:
        InputError: as `train`.
    """
    _check_request(config)
    _check_cells(data)
    with claimed(Path(config.output_models), name, resume):
        return _train_claimed(name, config, data, resume)


def _train_claimed(name: str, config: Config, data: DataSet, resume: bool) -> Path:
    """As `train_data_set`, for a name whose lock is held."""
    output = Path(config.output_models)
    folder, place = output / name, run_state.folder_of(output, name)
    if run_state.is_finished(place, folder / ABOUT):
        run_state.RunState(place).finish()
    files.check_replaceable(folder, ABOUT)
    # A detector of one stage learns from photographs alone.
    _describe(data if config.detector == "two_stage" else replace(data, single_cells=None))
    begin = run_state.RunState.resume if resume else run_state.RunState.start
    run = begin(place, config, data_record(data))
    started = time.monotonic()
    start_tensorflow()
    try:
        with files.replacing_folder(folder, ABOUT) as beside:
            into = train_two_stage_into if config.detector == "two_stage" else train_one_stage_into
            metrics = into(beside, name, config, data, run)
            run.mark_finished(beside / ABOUT)
    except (InputError, KeyboardInterrupt):
        run.abort()
        raise
    run.finish()
    _say_done(folder, metrics, time.monotonic() - started)
    return folder


def _check_request(config: Config) -> None:
    """See that the config can be followed, as far as that does not depend on the data."""
    read_elsewhere(config.elsewhere)
    for look in config.looks:
        check_model_name(look.model)
        check_policy(look.augmentation)
    output = Path(config.output_models)
    check_place(output, config.name or None)
    if config.detector == "two_stage":
        check_folder(Path(config.patch_cache), "patches")
    if config.name:
        files.check_replaceable(output / config.name, ABOUT)


def _say_if_complete(output: Path, name: str | None) -> bool:
    """Whether the run to be gone on with has written its model; what it did not come to remove is removed now."""
    name = name or next(iter(run_state.by_age(output)), None)
    if name is None or not (output / name / ABOUT).is_file():
        return False
    place = run_state.folder_of(output, name)
    finished = run_state.is_finished(place, output / name / ABOUT)
    if run_state.is_there(place) and not finished:
        return False
    with claimed(output, name, resume=True):
        if finished:
            run_state.RunState(place).finish()
    print(f"{output / name} is complete; there is nothing to resume")
    return True


def _check_cells(data: DataSet) -> None:
    for name, part in (("training", data.train), ("validation", data.validation)):
        if part.class_counts.sum() == 0:
            advice = "annotate more pictures, or check `labels`, `ignore_labels` and the annotation by `malaria-cells explore`"
            raise InputError(f"no labelled cell in the {name} part ({number_of(len(part), 'picture')}); {advice}")
    if data.test is not None and data.test.class_counts.sum() == 0:
        log.warning(f"no labelled cell in the test part ({number_of(len(data.test), 'picture')}); only false alarms can be seen there")


def _describe(data: DataSet) -> None:
    names = data.train.labels.names
    rows = [(part, annotations) for part, annotations in data.parts.items()]
    if has_named_sets(data.train):
        rows = [row for part, whole in rows for row in [(part, whole), *((f"  {n}", own) for n, own in whole.by_data_set().items())]]
    width = max(12, *(len(row) + 1 for row, _ in rows))
    print(f"{'':{width}}{'pictures':>9}" + "".join(f"  {n:>{max(len(n), 6)}}" for n in names))
    for row, annotations in rows:
        counts = zip(names, annotations.class_counts, strict=True)
        print(f"{row:{width}}{len(annotations):>9}" + "".join(f"  {c:>{max(len(n), 6)}}" for n, c in counts))
    for line in (*said_of_single_cells(data.single_cells), *said_of_unannotated(data.train), *measured(data.train)):
        print(line)
    sys.stdout.flush()
    for line in said_of_labels_not_in_photographs(data.train, data.single_cells):
        log.warning(line)


def _say_done(folder: Path, metrics: dict[str, Any], seconds: float) -> None:
    part = "test" if "test" in metrics else "validation"
    f = metrics[part]
    if "mAP50" in f:
        figures = f"mAP50 {rounded(f['mAP50'])}, cell AP50 {rounded(f['cell']['AP50'])}"
        print(f"{part}: {figures} on {number_of(f['images'], 'picture')} ({seconds:.0f} s)")
    else:
        print(f"{part}: accuracy {f['accuracy']:.3f}, macro F1 {f['macro_f1']:.3f} on {f['patches']:,} patches ({seconds:.0f} s)")
    for name, own in metrics.get("by_data_set", {}).items():
        figures = ", ".join(f"{heading} {rounded(at(own, path))}" for heading, path in DETECTION.items() if at(own, path) is not None)
        print(f"  {name}: {figures} on {number_of(own['images'], 'picture')}")
    print(f"model: {folder}\nnext:  python run.py --model {folder} --image PICTURES")
