"""The state of a training run on disk, so that a run killed at any moment goes on where its last whole pass ended."""

import json
import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from malaria_cells import files
from malaria_cells.config import Config, load_config
from malaria_cells.errors import InputError

log = logging.getLogger(__name__)

CONFIG = "config.yaml"


def folder_of(output_models: Path, name: str) -> Path:
    """Where an unfinished run of that name is kept."""
    return output_models / f".{name}.unfinished"


def newest(output_models: Path) -> str | None:
    """Name of the run worked on last that is not finished, or None."""
    found = sorted(output_models.glob(".*.unfinished"), key=lambda p: p.stat().st_mtime)
    return found[-1].name[1 : -len(".unfinished")] if found else None


def _aside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.before")


def _is_empty(folder: Path) -> bool:
    return {p.name for p in folder.iterdir()} <= {CONFIG}


@dataclass
class UnfinishedRun:
    """A folder with the run's config and the state after its last whole pass.

    Attributes:
        folder: holds ``config.yaml``, ``best.weights.h5`` and ``state/``.
        history: one row a pass so far.
        best_epoch: index of the best pass so far, or None.
    """

    folder: Path
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None

    @staticmethod
    def start(folder: Path, config: Config) -> "UnfinishedRun":
        """Begin anew; what an earlier run left in the folder is put aside until this one is finished: it may be a night's work."""
        if folder.exists() and _is_empty(folder):
            shutil.rmtree(folder)
        elif folder.exists():
            aside = _aside(folder)
            if aside.exists():
                shutil.rmtree(aside)
            folder.replace(aside)
            log.warning(f"{folder}: an unfinished run was there, which --resume would go on with; it is put aside as {aside.name}")
        folder.mkdir(parents=True)
        files.write_text(folder / CONFIG, config.to_yaml())
        return UnfinishedRun(folder)

    @staticmethod
    def resume(folder: Path, config: Config) -> "UnfinishedRun":
        """Open an unfinished run.

        Raises:
            InputError: none there, or its config differs.
        """
        if not (folder / CONFIG).is_file():
            raise InputError(f"--resume: found no unfinished run at {folder}; start one without --resume")
        before = load_config(folder / CONFIG).model_dump()
        now = config.model_dump()
        different = sorted(key for key in now if now[key] != before[key] and key != "name")
        if different:
            raise InputError(
                f"--resume: the config differs from the unfinished run's in {', '.join(different)}; "
                "put the old values back, or start anew without --resume"
            )
        return UnfinishedRun._open(folder)

    def part(self, number: int) -> "UnfinishedRun":
        """The record of one of several trainings of this run, counted from 0; the first is the run itself."""
        return self if number == 0 else UnfinishedRun._open(self.folder / f"part{number + 1}")

    @staticmethod
    def _open(folder: Path) -> "UnfinishedRun":
        run = UnfinishedRun(folder)
        if run.state_file.is_file():
            state = json.loads(run.state_file.read_text(encoding="utf-8"))
            run.history, run.best_epoch = state["history"], state["best_epoch"]
        return run

    @property
    def state_file(self) -> Path:
        """Pass by pass figures."""
        return self.folder / "state" / "state.json"

    @property
    def weights(self) -> Path:
        """Weights and optimizer after the last whole pass."""
        return self.folder / "state" / "last.weights.h5"

    @property
    def best_weights(self) -> Path:
        """Weights of the best pass."""
        return self.folder / "best.weights.h5"

    @property
    def checkpoints(self) -> Path:
        """Weights of the last passes, one file each."""
        return self.folder / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.folder / "tensorboard"

    def keep_checkpoint(self, model: Any, keep: int) -> None:
        """Write the weights of the pass that has just been saved, and remove all but the last `keep`."""
        self.checkpoints.mkdir(exist_ok=True)
        beside = self.checkpoints / ".writing.weights.h5"
        model.save_weights(beside)
        beside.replace(self.checkpoints / f"pass_{len(self.history):03}.weights.h5")
        for old in sorted(self.checkpoints.glob("pass_*.weights.h5"))[:-keep]:
            old.unlink()

    def save(self, model: Any, row: dict[str, float], better: bool) -> None:
        """Take a whole pass into the record; a kill at any point leaves the old state or the new one."""
        if better:
            with files.replacing(self.best_weights) as beside:
                # Keras insists on the suffix.
                path = beside.with_name(f"{beside.stem}.weights.h5")
                model.save_weights(path)
                path.replace(beside)
            self.best_epoch = len(self.history)
        self.history.append(row)
        with files.replacing_folder(self.folder / "state", "state.json") as beside:
            model.save_weights(beside / "last.weights.h5")
            state = {"history": self.history, "best_epoch": self.best_epoch}
            (beside / "state.json").write_text(json.dumps(state), encoding="utf-8")

    def withdraw(self) -> None:
        """The run ends early. If it made nothing yet it goes, and what was put aside for it comes back."""
        if _is_empty(self.folder):
            shutil.rmtree(self.folder)
            if _aside(self.folder).exists():
                _aside(self.folder).replace(self.folder)

    def remove(self) -> None:
        """The run is finished, and what was put aside for it is out of date."""
        shutil.rmtree(self.folder)
        if _aside(self.folder).exists():
            shutil.rmtree(_aside(self.folder))
