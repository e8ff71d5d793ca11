"""``train``: a data set and a config in, a model folder out."""

import datetime as dt
import logging
import sys
import time
from pathlib import Path
from typing import Any

from malaria_cells import files
from malaria_cells.augment import check_policy
from malaria_cells.commands.train_one_stage import train_one_stage_into
from malaria_cells.commands.train_two_stage import train_two_stage_into
from malaria_cells.config import Config, load_config
from malaria_cells.dataset import DataSet, load_data_set, with_labels
from malaria_cells.engine import start_tensorflow
from malaria_cells.errors import InputError
from malaria_cells.model_description import ABOUT
from malaria_cells.models import check_model_name
from malaria_cells.training import unfinished
from malaria_cells.wording import number_of, rounded

log = logging.getLogger(__name__)


def train(config_path: Path, overrides: list[str], resume: bool) -> int:
    """Train what a config asks for and write the model folder.

    Returns:
        Exit code.

    Raises:
        InputError: the config or the data are wrong; nothing is written then.
    """
    config = load_config(config_path, overrides)
    output = Path(config.output_models)
    name = _name(config, output, resume)
    folder = output / name
    if resume and (folder / ABOUT).is_file() and not unfinished.folder_of(output, name).exists():
        print(f"{folder} is complete; there is nothing to resume")
        return 0
    config = with_labels(config)
    try:
        train_data_set(name, config, load_data_set(config), resume)
    except KeyboardInterrupt:
        if unfinished.folder_of(output, name).exists():
            print(f"{folder}: what was trained so far is kept; the same command with --resume goes on", file=sys.stderr)
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
    for look in config.looks:
        check_model_name(look.model)
        check_policy(look.augmentation)
    _check_cells(data)
    output = Path(config.output_models)
    folder = output / name
    _describe(data)
    begin = unfinished.UnfinishedRun.resume if resume else unfinished.UnfinishedRun.start
    run = begin(unfinished.folder_of(output, name), config)
    started = time.monotonic()
    start_tensorflow()
    try:
        with files.replacing_folder(folder, ABOUT) as beside:
            into = train_two_stage_into if config.detector == "two_stage" else train_one_stage_into
            metrics = into(beside, name, config, data, run)
    except (InputError, KeyboardInterrupt):
        run.withdraw()
        raise
    run.remove()
    _say_done(folder, metrics, time.monotonic() - started)
    return folder


def _name(config: Config, output: Path, resume: bool) -> str:
    if config.name:
        return config.name
    if resume:
        name = unfinished.newest(output)
        if name is None:
            raise InputError(f"--resume: found no unfinished run in {output}; start one without --resume")
        return name
    return dt.datetime.now().strftime("%Y-%m-%d-%H%M%S")


def _check_cells(data: DataSet) -> None:
    for name, part in (("training", data.train), ("validation", data.validation)):
        if part.class_counts.sum() == 0:
            advice = "annotate more pictures, or check `labels`, `ignore_labels` and the annotation by `malaria-cells explore`"
            raise InputError(f"no labelled cell in the {name} part ({number_of(len(part), 'picture')}); {advice}")
    if data.test is not None and data.test.class_counts.sum() == 0:
        log.warning(f"no labelled cell in the test part ({number_of(len(data.test), 'picture')}); only false alarms can be seen there")


def _describe(data: DataSet) -> None:
    names = data.train.labels.names
    print(f"{'':12}{'pictures':>9}" + "".join(f"  {n:>{max(len(n), 6)}}" for n in names))
    for part, annotations in data.parts.items():
        print(
            f"{part:12}{len(annotations):>9}"
            + "".join(f"  {c:>{max(len(n), 6)}}" for n, c in zip(names, annotations.class_counts, strict=True))
        )
    sys.stdout.flush()
    for name, n in zip(names, data.train.class_counts, strict=True):
        if n == 0:
            log.warning(f"labels: '{name}' does not occur in the training part; the model cannot learn it")


def _say_done(folder: Path, metrics: dict[str, Any], seconds: float) -> None:
    part = "test" if "test" in metrics else "validation"
    f = metrics[part]
    if "mAP50" in f:
        figures = f"mAP50 {rounded(f['mAP50'])}, cell AP50 {rounded(f['cell']['AP50'])}"
        print(f"{part}: {figures} on {number_of(f['images'], 'picture')} ({seconds:.0f} s)")
    else:
        print(f"{part}: accuracy {f['accuracy']:.3f}, macro F1 {f['macro_f1']:.3f} on {f['patches']:,} patches ({seconds:.0f} s)")
    print(f"model: {folder}\nnext:  python run.py --model {folder} --image PICTURES")
