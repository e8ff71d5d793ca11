"""What every training leaves beside its networks: how it was made and how it went."""

import csv
import shutil
from pathlib import Path
from typing import Any

from malaria_cells import files
from malaria_cells.config import Config
from malaria_cells.dataset import DataSet
from malaria_cells.training.unfinished import UnfinishedRun


def keep_record(folder: Path, config: Config, data: DataSet, metrics: dict[str, Any], run: UnfinishedRun) -> None:
    """Write ``config.yaml``, ``metrics.json``, ``split.json`` and ``history.csv``, and keep checkpoints and event files."""
    files.write_text(folder / "config.yaml", config.to_yaml())
    files.write_json(folder / "metrics.json", metrics)
    files.write_json(folder / "split.json", {part: [p.key for p in annotations.pictures] for part, annotations in data.parts.items()})
    for extra in (run.checkpoints, run.tensorboard):
        if extra.is_dir():
            shutil.copytree(extra, folder / extra.name)
    _write_history(folder / "history.csv", run.history)


def _write_history(path: Path, history: list[dict[str, float]]) -> None:
    with files.replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["epoch", *history[0]])
        writer.writeheader()
        writer.writerows({"epoch": i, **row} for i, row in enumerate(history, start=1))
