"""The state of a training run on disk, from which a run that was killed at any moment resumes after its last complete epoch.

The file ``state.json`` names the weights files that belong to the state. After an epoch the weights are first written under a new name,
then ``state.json`` is replaced atomically, then outdated weights are removed. So a complete state exists at every moment.
"""

import json
import logging
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from malaria_cells.base import files
from malaria_cells.config import Config, load_config
from malaria_cells.data.data_record import differences
from malaria_cells.fitting.run_folders import FINISHED, STATE, ResumeError, backup_of
from malaria_cells.fitting.training_time import TIME, TrainingTime

log = logging.getLogger(__name__)

CONFIG = "config.yaml"
DATA = "data.json"


@dataclass
class RunState:
    """A folder with the config of a run and the state after its last complete epoch.

    Attributes:
        folder: holds ``config.yaml``, ``data.json`` and ``state/``.
        history: metrics of the epochs so far, one dictionary per epoch.
        best_epoch: index of the best epoch so far, or None.
        stopped: whether the training ended with the last of these epochs before the maximum number of epochs, as by early stopping.
        weights: file of weights and optimizer state after the last complete epoch; it does not exist before the first.
        best_weights: file of weights and optimizer state after the best epoch.
        time: time of the run, recorded after each epoch.
        time_folder: folder of the whole run, if this is one of its trainings (`part`).
    """

    folder: Path
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    stopped: bool = False
    weights: Path = Path()
    best_weights: Path = Path()
    time: TrainingTime = field(default_factory=TrainingTime)
    time_folder: Path | None = None

    @staticmethod
    def start(folder: Path, config: Config, data: dict[str, Any] | None = None) -> "RunState":
        """Start a new run. An unfinished run in the folder is renamed to ``*.before`` and deleted only when the new run finishes.

        Args:
            folder: see `run_folders.folder_of`.
            config: the configuration.
            data: record of the training data (`data_record`).
        """
        if folder.exists() and _is_empty(folder):
            files.remove_folder(folder)
        elif folder.exists():
            backup = backup_of(folder)
            if backup.exists():
                files.remove_folder(backup)
            folder.replace(backup)
            log.warning(f"{folder}: found an unfinished run; it is kept as {backup.name} until the new run finishes")
        with files.replacing_folder(folder, None) as temporary:
            files.write_text(temporary / CONFIG, config.to_yaml())
            if data is not None:
                files.write_json(temporary / DATA, data)
        return RunState(folder)

    @staticmethod
    def resume(folder: Path, config: Config, data: dict[str, Any] | None = None) -> "RunState":
        """Open an unfinished run.

        Args:
            folder: see `run_folders.folder_of`.
            config: the configuration, which must equal that of the run.
            data: record of the present training data (`data_record`).

        Raises:
            ResumeError: there is no unfinished run, or its config or its data differ.
        """
        _restore_backup(folder, config)
        if not (folder / CONFIG).is_file():
            raise ResumeError(f"found no unfinished run at {folder}; start a new run")
        differing = _differing_keys(folder, config)
        if differing:
            raise ResumeError(
                f"the config differs from the unfinished run's in {', '.join(differing)}; restore the old values, or start a new run"
            )
        if data is not None:
            _check_data(folder, data)
        return RunState._open(folder, TrainingTime.continued(folder))

    def part(self, number: int) -> "RunState":
        """Return the state of one of several trainings of this run, counted from 0; the first is the run itself."""
        return self if number == 0 else RunState._open(self.folder / f"part{number + 1}", self.time, self.folder)

    @staticmethod
    def _open(folder: Path, time: TrainingTime, time_folder: Path | None = None) -> "RunState":
        run = RunState(folder, time=time, time_folder=time_folder)
        if run.state_file.is_file():
            run._take(json.loads(run.state_file.read_text(encoding="utf-8")))
        return run

    def _take(self, state: dict[str, Any]) -> None:
        self.history, self.best_epoch, self.stopped = state["history"], state["best_epoch"], state.get("stopped", False)
        # The state files of version 0.1.0 do not name the weights.
        self.weights = self.state_file.parent / state.get("weights", "last.weights.h5")
        self.best_weights = self.state_file.parent / state.get("best_weights", "../best.weights.h5")

    @property
    def state_file(self) -> Path:
        """File of the metrics of each epoch and the names of the weights files."""
        return self.folder / "state" / STATE

    @property
    def checkpoints(self) -> Path:
        """Folder of the weights of the most recent epochs, one file each."""
        return self.folder / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """Folder of the TensorBoard event files."""
        return self.folder / "tensorboard"

    def save(self, model: Any, row: dict[str, float], better: bool, stopped: bool = False, keep: int = 0) -> None:
        """Save the state after an epoch. A kill at any moment leaves either the old or the new state.

        Args:
            model: the model with the weights after the epoch.
            row: metrics of the epoch.
            better: whether the epoch is the best so far.
            stopped: whether the training ends with this epoch before the maximum number of epochs.
            keep: number of most recent epochs whose weights are also kept as separate files.
        """
        number = len(self.history) + 1
        folder = self.state_file.parent
        folder.mkdir(parents=True, exist_ok=True)
        written = folder / f"pass_{number:03}.weights.h5"
        files.check_room(folder, _n_bytes(model))
        model.save_weights(written)
        if keep:
            self._keep_checkpoint(written, keep)
        best = written.name if better else self.best_weights.relative_to(folder).as_posix()
        state = {
            "history": [*self.history, row],
            "best_epoch": number - 1 if better else self.best_epoch,
            "stopped": stopped,
            "weights": written.name,
            "best_weights": best,
        }
        files.write_text(self.state_file, json.dumps(state))
        self._take(state)
        for old in folder.iterdir():
            if old not in (self.state_file, self.weights, self.best_weights):
                old.unlink()
        self.record_time()

    def record_time(self) -> None:
        """Write the time that the run has taken into its folder, for a later sitting."""
        self.time.record(self.time_folder or self.folder)

    def _keep_checkpoint(self, weights: Path, keep: int) -> None:
        """Copy the weights of the current epoch to the checkpoints, and remove all but the last `keep`."""
        self.checkpoints.mkdir(exist_ok=True)
        with files.replacing(self.checkpoints / weights.name) as temporary:
            shutil.copyfile(weights, temporary)
        for old in sorted(self.checkpoints.glob("pass_*.weights.h5"))[:-keep]:
            old.unlink()
        for leftover in self.checkpoints.glob(".*"):
            leftover.unlink()

    def mark_finished(self, model_file: Path) -> None:
        """Record the model of the run before it is moved to its final path; see `run_folders.is_finished`.

        Args:
            model_file: a file of the model whose content is unique to it.
        """
        files.write_text(self.folder / FINISHED, files.file_hash(model_file).hex())

    def abort(self) -> None:
        """End the run early. If no epoch is saved yet, its folder is removed and the backup of the earlier run is restored."""
        if _is_empty(self.folder):
            files.remove_folder(self.folder)
            if backup_of(self.folder).exists():
                backup_of(self.folder).replace(self.folder)
        else:
            self.record_time()

    def finish(self) -> None:
        """Remove the folder of the finished run and the backup of an earlier run."""
        if backup_of(self.folder).exists():
            files.remove_folder(backup_of(self.folder))
        files.remove_folder(self.folder)


def _n_bytes(model: Any) -> int:
    """About the size of a file of weights: of float32, with the state of an optimizer that keeps two numbers for each."""
    return 3 * 4 * sum(math.prod(v.shape) for v in (*model.trainable_variables, *model.non_trainable_variables))


def _differing_keys(folder: Path, config: Config) -> list[str]:
    """Keys whose values differ between a config and the config of a run."""
    before = load_config(folder / CONFIG).model_dump()
    now = config.model_dump()
    return sorted(key for key in now if now[key] != before[key] and key != "name")


def _restore_backup(folder: Path, config: Config) -> None:
    """Restore the backup of an earlier run if the run that replaced it was killed before its first epoch was saved."""
    backup = backup_of(folder)
    if not backup.exists() or (folder.exists() and not _is_empty(folder)):
        return
    if folder.exists():
        if not (backup / CONFIG).is_file() or _differing_keys(backup, config):
            return
        files.remove_folder(folder)
    backup.replace(folder)


def _check_data(folder: Path, data: dict[str, Any]) -> None:
    if not (folder / DATA).is_file():
        log.warning(f"{folder}: holds no {DATA}, so changes of the annotation since the start of the run cannot be detected")
        return
    differing = differences(json.loads((folder / DATA).read_text(encoding="utf-8")), data)
    if differing:
        raise ResumeError(
            f"the data differ from those of the unfinished run: {'; '.join(differing)}; restore the old data, or start a new run"
        )


def _is_empty(folder: Path) -> bool:
    return {p.name for p in folder.iterdir() if not p.name.startswith(".")} <= {CONFIG, DATA, TIME}
