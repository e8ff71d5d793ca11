"""``train``: a data set and a config in, a model folder out."""

import logging
import sys
from pathlib import Path

from malaria_cells.config import load_config
from malaria_cells.data.dataset import load_data_set, with_labels
from malaria_cells.fitting import run_state
from malaria_cells.fitting.claim import claimed
from malaria_cells.inference.model_description import ABOUT
from malaria_cells.results.training_report import write_training_files
from malaria_cells.training.start_model import with_start
from malaria_cells.training.train_model import check_cells, check_request, train_claimed

log = logging.getLogger(__name__)


def train(config_path: Path, overrides: list[str], resume: bool) -> int:
    """Train what a config asks for and write the model folder.

    Returns:
        Exit code.

    Raises:
        InputError: the config or the data are wrong, and nothing is written then; or another training has the name.
    """
    config = load_config(config_path, overrides)
    check_request(config)
    output = Path(config.output_models)
    if resume and _say_if_complete(output, config.name):
        return 0
    config = with_start(with_labels(config))
    data = load_data_set(config)
    check_cells(data)
    with claimed(output, config.name or None, resume) as name:
        if not resume and run_state.is_there(run_state.folder_of(output, name)):
            log.warning(f"{output / name}: begins anew; the same command with --resume would go on with what an earlier run has made")
        try:
            train_claimed(name, config, data, resume, write_training_files)
        except KeyboardInterrupt:
            if run_state.folder_of(output, name).exists():
                print(f"{output / name}: what was trained so far is kept; the same command with --resume goes on", file=sys.stderr)
            raise
    return 0


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
