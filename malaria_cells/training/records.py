"""Writes the record of a training beside its networks: config, metrics, split and history."""

import shutil
from pathlib import Path
from typing import Any

from malaria_cells.base import files
from malaria_cells.config import Config
from malaria_cells.data.dataset import DataSet
from malaria_cells.data.seen_before import SEEN, SPLIT, learned_from
from malaria_cells.fitting.run_state import RunState

METRICS = "metrics.json"


def keep_record(folder: Path, config: Config, data: DataSet, metrics: dict[str, Any], runs: list[RunState]) -> None:
    """Write ``config.yaml``, ``metrics.json``, ``split.json`` and ``history.csv``, and copy checkpoints and TensorBoard event files.

    For a fine-tuned model ``split.json`` also lists the start model's images, so that a later test part can be checked against them.

    Args:
        folder: the model folder.
        config: the resolved config.
        data: the parts.
        metrics: content of ``metrics.json``.
        runs: one for each network that was trained; the files of all but the first go into subfolders.
    """
    files.write_text(folder / "config.yaml", config.to_yaml())
    files.write_json(folder / METRICS, metrics)
    parts = {part: [p.key for p in annotations.images] for part, annotations in data.parts.items()}
    start_keys = learned_from(Path(config.start_from)) if config.start_from else []
    files.write_json(folder / SPLIT, parts | ({SEEN: start_keys} if start_keys else {}))
    for run in runs:
        for source in (run.checkpoints, run.tensorboard):
            if source.is_dir():
                shutil.copytree(source, folder / source.relative_to(runs[0].folder))
    _write_history(folder / "history.csv", [run.history for run in runs])


def _write_history(path: Path, histories: list[list[dict[str, float]]]) -> None:
    rows = [
        {**({"training": training} if len(histories) > 1 else {}), "epoch": epoch, **row}
        for training, history in enumerate(histories, start=1)
        for epoch, row in enumerate(history, start=1)
    ]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    files.write_csv(path, columns, ([row.get(key, "") for key in columns] for row in rows))
