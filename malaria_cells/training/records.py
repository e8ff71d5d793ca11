"""What every training leaves beside its networks: how it was made and how it went."""

import csv
import shutil
from pathlib import Path
from typing import Any

from malaria_cells.base import files
from malaria_cells.config import Config
from malaria_cells.data.dataset import DataSet
from malaria_cells.data.seen_before import SEEN, SPLIT, learned_from
from malaria_cells.fitting.run_state import RunState


def keep_record(folder: Path, config: Config, data: DataSet, metrics: dict[str, Any], runs: list[RunState]) -> None:
    """Write ``config.yaml``, ``metrics.json``, ``split.json`` and ``history.csv``, and keep checkpoints and event files.

    A model that began with another one also lists that one's images, so that a third one's test part is known from them.

    Args:
        folder: of the model.
        config: as resolved.
        data: the parts.
        metrics: of the training.
        runs: one for each network that was trained; the files of all but the first go into subfolders.
    """
    files.write_text(folder / "config.yaml", config.to_yaml())
    files.write_json(folder / "metrics.json", metrics)
    parts = {part: [p.key for p in annotations.images] for part, annotations in data.parts.items()}
    before = learned_from(Path(config.start_from)) if config.start_from else []
    files.write_json(folder / SPLIT, parts | ({SEEN: before} if before else {}))
    for run in runs:
        for extra in (run.checkpoints, run.tensorboard):
            if extra.is_dir():
                shutil.copytree(extra, folder / extra.relative_to(runs[0].folder))
    _write_history(folder / "history.csv", [run.history for run in runs])


def _write_history(path: Path, histories: list[list[dict[str, float]]]) -> None:
    rows = [
        {**({"training": training} if len(histories) > 1 else {}), "epoch": epoch, **row}
        for training, history in enumerate(histories, start=1)
        for epoch, row in enumerate(history, start=1)
    ]
    with files.replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
