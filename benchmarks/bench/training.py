"""How long the shipped model's training takes, and whether the cores are busy meanwhile."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.bench.rows import AT_LEAST, AT_MOST, Row, Target
from benchmarks.bench.settings import ROOT, Settings

CONFIG = "configs/thin_smear.yaml"
NAMES = ("training of the shipped model", "cores busy during the training")
TARGETS = (Target(AT_MOST, 40.0, of_value=True), Target(AT_LEAST, 90.0, of_value=True))
UNITS = ("min", "%")


def training(settings: Settings) -> Iterator[Row]:
    """Minutes and busy cores: measured if that was asked for, otherwise those that the model's ``metrics.json`` holds."""
    if settings.train:
        figures, note = trained(settings), f"{CONFIG}, measured now"
    else:
        figures, note = recorded(settings), "as the model's metrics.json holds it, of the machine that trained it"
    reason = "the model's metrics.json does not hold it; --train trains the shipped model anew"
    for name, unit, target, figure in zip(NAMES, UNITS, TARGETS, figures, strict=True):
        if figure is None:
            yield Row(name, unit, target=target, not_measured=reason)
        else:
            yield Row(name, unit, figure, target=target, note=note, repeats=1)


def recorded(settings: Settings) -> tuple[float | None, float | None]:
    """Minutes, and percent of the cores' time, from ``training_time`` in ``metrics.json``: ``seconds``, and ``cores_busy`` from 0 to 1."""
    path = settings.model / "metrics.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    of_training = content.get("training_time") or {}
    seconds, busy = of_training.get("seconds"), of_training.get("cores_busy")
    return None if seconds is None else seconds / 60, None if busy is None else 100 * busy


def trained(settings: Settings) -> tuple[float, float]:
    """Minutes, and percent of the cores' time, of a training in a process of its own.

    Raises:
        RuntimeError: it failed.
    """
    models = settings.cache.resolve() / "models"
    command = [sys.executable, "train.py", f"--config={CONFIG}", "--set", f"output_models={models}", "--set", "name=bench"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"train.py failed with exit code {process.returncode}; its messages are above")
    return seconds / 60, 100 * (used.ru_utime + used.ru_stime) / seconds / settings.n_cores
