"""``train``: trains a model on the data set of a config and writes a model folder."""

import logging
import sys
from pathlib import Path

from malaria_cells.base.errors import InputError
from malaria_cells.config import Config, load_config
from malaria_cells.data.dataset import DataSet
from malaria_cells.fitting import run_folders
from malaria_cells.fitting.claim import claimed
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.model_description import ABOUT
from malaria_cells.results.training_report import write_training_files
from malaria_cells.training.train_model import check_request, prepared, train_claimed

log = logging.getLogger(__name__)


def train(config_path: Path, overrides: list[str], resume: bool) -> int:
    """Train the model of a config and write its folder.

    Returns:
        Exit code.

    Raises:
        InputError: the config or the data are invalid, and nothing is written; or another training uses the same name.
    """
    config = load_config(config_path, overrides)
    check_request(config)
    if resume and _finish_if_complete(Path(config.output_models), config.name):
        return 0
    config, data = prepared(config)
    try:
        _claim_and_train(config, data, resume)
    except run_folders.ResumeError as error:  # its last advice is to start a new run
        raise InputError(f"--resume: {error} without --resume") from error
    return 0


def _claim_and_train(config: Config, data: DataSet, resume: bool) -> None:
    output = Path(config.output_models)
    with claimed(output, config.name or None, resume) as name:
        if not resume and run_folders.is_there(run_folders.folder_of(output, name)):
            log.warning(f"{output / name}: starts from scratch; the same command with --resume continues the interrupted run")
        try:
            train_claimed(name, config, data, resume, write_training_files)
        except KeyboardInterrupt:
            if run_folders.folder_of(output, name).exists():
                print(f"{output / name}: the state of the training is kept; the same command with --resume continues it", file=sys.stderr)
            raise


def _finish_if_complete(output: Path, name: str | None) -> bool:
    """Whether the run to resume has already written its model. If so, remove its remaining temporary files and print a line."""
    name = name or next(iter(run_folders.by_age(output)), None)
    if name is None or not (output / name / ABOUT).is_file():
        return False
    state_folder = run_folders.folder_of(output, name)
    finished = run_folders.is_finished(state_folder, output / name / ABOUT)
    if run_folders.is_there(state_folder) and not finished:
        return False
    with claimed(output, name, resume=True):
        if finished:
            RunState(state_folder).finish()
    print(f"{output / name} is complete; there is nothing to resume")
    return True
