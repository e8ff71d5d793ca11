"""The state of a training run on disk, so that a run killed at any moment goes on where its last whole epoch ended.

The one file ``state.json`` says which files of weights belong to the state. An epoch first writes weights under a name that no state has,
then replaces that file in one step, then removes the weights that are out of date: at every instant one whole state is found.
"""

import json
import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.config import Config, load_config
from malaria_cells.data.data_record import differences

log = logging.getLogger(__name__)

CONFIG = "config.yaml"
DATA = "data.json"
FINISHED = "finished"
STATE = "state.json"
ENDING, BACKUP = ".unfinished", ".before"


def folder_of(output_models: Path, name: str) -> Path:
    """Where an unfinished run of that name is kept."""
    return output_models / f".{name}{ENDING}"


def places(output_models: Path, name: str) -> tuple[Path, Path]:
    """Where an unfinished run of that name is kept, and the backup of an earlier one."""
    folder = folder_of(output_models, name)
    return folder, _backup_of(folder)


def by_age(output_models: Path) -> list[str]:
    """Names of the runs that are not finished, the one worked on last first."""
    found = {p.with_name(p.name.removesuffix(BACKUP)): p for end in (BACKUP, "") for p in output_models.glob(f".*{ENDING}{end}")}
    newest_first = sorted(found, key=lambda p: max(f.stat().st_mtime for f in (found[p], *found[p].rglob(STATE))), reverse=True)
    return [p.name[1 : -len(ENDING)] for p in newest_first]


def is_there(folder: Path) -> bool:
    """Whether there is a run to go on with, in its folder or in its backup."""
    return folder.exists() or _backup_of(folder).exists()


def is_finished(folder: Path, model_file: Path) -> bool:
    """Whether a run ended by writing a model, and was killed before it removed its folder.

    Args:
        folder: of the run.
        model_file: the file of the model that `RunState.mark_finished` was given, in its place.
    """
    marker = folder / FINISHED
    return marker.is_file() and model_file.is_file() and marker.read_text(encoding="utf-8") == files.file_hash(model_file).hex()


def _backup_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{BACKUP}")


def _is_empty(folder: Path) -> bool:
    return {p.name for p in folder.iterdir() if not p.name.startswith(".")} <= {CONFIG, DATA}


@dataclass
class RunState:
    """A folder with the run's config and the state after its last whole epoch.

    Attributes:
        folder: holds ``config.yaml``, ``data.json`` and ``state/``.
        history: one row an epoch so far.
        best_epoch: index of the best epoch so far, or None.
        stopped: whether the training ended with the last of these epochs, as by early stopping, before the epochs it was to have.
        weights: weights and optimizer after the last whole epoch; not there before the first.
        best_weights: those of the best epoch.
    """

    folder: Path
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    stopped: bool = False
    weights: Path = Path()
    best_weights: Path = Path()

    @staticmethod
    def start(folder: Path, config: Config, data: dict[str, Any] | None = None) -> "RunState":
        """Start a new run. An unfinished run in the folder is renamed to ``*.before`` and deleted only when the new run finishes.

        Args:
            folder: see `folder_of`.
            config: the recipe.
            data: what it is trained on (`data_record`).
        """
        if folder.exists() and _is_empty(folder):
            files.remove_folder(folder)
        elif folder.exists():
            backup = _backup_of(folder)
            if backup.exists():
                files.remove_folder(backup)
            folder.replace(backup)
            log.warning(f"{folder}: an unfinished run was there; it is kept as {backup.name} until this one is finished")
        with files.replacing_folder(folder, None) as beside:
            files.write_text(beside / CONFIG, config.to_yaml())
            if data is not None:
                files.write_json(beside / DATA, data)
        return RunState(folder)

    @staticmethod
    def resume(folder: Path, config: Config, data: dict[str, Any] | None = None) -> "RunState":
        """Open an unfinished run.

        Args:
            folder: see `folder_of`.
            config: the recipe.
            data: what it would be trained on now (`data_record`).

        Raises:
            InputError: none there, or its config or its images differ.
        """
        _restore_backup(folder, config)
        if not (folder / CONFIG).is_file():
            raise InputError(f"--resume: found no unfinished run at {folder}; start one without --resume")
        different = _different(folder, config)
        if different:
            raise InputError(
                f"--resume: the config differs from the unfinished run's in {', '.join(different)}; "
                "put the old values back, or start anew without --resume"
            )
        if data is not None:
            _check_data(folder, data)
        return RunState._open(folder)

    def part(self, number: int) -> "RunState":
        """The record of one of several trainings of this run, counted from 0; the first is the run itself."""
        return self if number == 0 else RunState._open(self.folder / f"part{number + 1}")

    @staticmethod
    def _open(folder: Path) -> "RunState":
        run = RunState(folder)
        if run.state_file.is_file():
            run._take(json.loads(run.state_file.read_text(encoding="utf-8")))
        return run

    def _take(self, state: dict[str, Any]) -> None:
        self.history, self.best_epoch, self.stopped = state["history"], state["best_epoch"], state.get("stopped", False)
        # Runs of version 0.1.0 lack the names.
        self.weights = self.state_file.parent / state.get("weights", "last.weights.h5")
        self.best_weights = self.state_file.parent / state.get("best_weights", "../best.weights.h5")

    @property
    def state_file(self) -> Path:
        """Epoch by epoch figures, and the names of the weights that belong to them."""
        return self.folder / "state" / STATE

    @property
    def checkpoints(self) -> Path:
        """Weights of the last epochs, one file each."""
        return self.folder / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.folder / "tensorboard"

    def save(self, model: Any, row: dict[str, float], better: bool, stopped: bool = False, keep: int = 0) -> None:
        """Take a whole epoch into the record; a kill at any point leaves the old state or the new one.

        Args:
            model: with the weights after the epoch.
            row: figures of the epoch.
            better: whether it is the best so far.
            stopped: whether the training ends with it before the epochs it was to have.
            keep: weights of so many last epochs are kept as files of their own, too.
        """
        number = len(self.history) + 1
        place = self.state_file.parent
        place.mkdir(parents=True, exist_ok=True)
        written = place / f"pass_{number:03}.weights.h5"
        model.save_weights(written)
        if keep:
            self._keep_checkpoint(written, keep)
        best = written.name if better else self.best_weights.relative_to(place).as_posix()
        state = {
            "history": [*self.history, row],
            "best_epoch": number - 1 if better else self.best_epoch,
            "stopped": stopped,
            "weights": written.name,
            "best_weights": best,
        }
        files.write_text(self.state_file, json.dumps(state))
        self._take(state)
        for old in place.iterdir():
            if old not in (self.state_file, self.weights, self.best_weights):
                old.unlink()

    def _keep_checkpoint(self, weights: Path, keep: int) -> None:
        """Copy the weights of the epoch that is being saved, and remove all but the last `keep`."""
        self.checkpoints.mkdir(exist_ok=True)
        with files.replacing(self.checkpoints / weights.name) as beside:
            shutil.copyfile(weights, beside)
        for old in sorted(self.checkpoints.glob("pass_*.weights.h5"))[:-keep]:
            old.unlink()
        for left in self.checkpoints.glob(".*"):
            left.unlink()

    def mark_finished(self, model_file: Path) -> None:
        """Note which model the run ends with, before that is moved to its place; see `is_finished`.

        Args:
            model_file: a file of the model whose content no other one's has.
        """
        files.write_text(self.folder / FINISHED, files.file_hash(model_file).hex())

    def abort(self) -> None:
        """End the run early. If it has made nothing yet, its folder is removed and the backup of the earlier run restored."""
        if _is_empty(self.folder):
            files.remove_folder(self.folder)
            if _backup_of(self.folder).exists():
                _backup_of(self.folder).replace(self.folder)

    def finish(self) -> None:
        """Remove the folder of the finished run, and the backup of an earlier one."""
        if _backup_of(self.folder).exists():
            files.remove_folder(_backup_of(self.folder))
        files.remove_folder(self.folder)


def _different(folder: Path, config: Config) -> list[str]:
    """Keys in which the config of a run is another."""
    before = load_config(folder / CONFIG).model_dump()
    now = config.model_dump()
    return sorted(key for key in now if now[key] != before[key] and key != "name")


def _restore_backup(folder: Path, config: Config) -> None:
    """Restore the backup of an earlier run if the run started since was killed before it made anything."""
    backup = _backup_of(folder)
    if not backup.exists() or (folder.exists() and not _is_empty(folder)):
        return
    if folder.exists():
        if not (backup / CONFIG).is_file() or _different(backup, config):
            return
        files.remove_folder(folder)
    backup.replace(folder)


def _check_data(folder: Path, data: dict[str, Any]) -> None:
    if not (folder / DATA).is_file():
        log.warning(f"{folder}: holds no {DATA}: whether the annotation has changed since it was begun cannot be told")
        return
    different = differences(json.loads((folder / DATA).read_text(encoding="utf-8")), data)
    if different:
        raise InputError(
            f"--resume: the data differ from those that the unfinished run was begun with: {'; '.join(different)}; "
            "put the old ones back, or start anew without --resume"
        )
