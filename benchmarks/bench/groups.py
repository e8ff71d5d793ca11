"""The groups of rows by name, in the order of the table."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from benchmarks.bench.rows import Row
from benchmarks.bench.settings import Settings

Group = Callable[[Settings], Iterable[Row]]
# Each is a function of the module of that name, which is imported in the group's own process alone; `cores` lies beside `detection`.
MODULES = {
    "detection": "detection",
    "steps": "steps",
    "cores": "detection",
    "patches": "patches",
    "feeding": "feeding",
    "scoring": "scoring",
    "augmentation": "augmentation",
    "training": "training",
    "start": "start",
    "memory": "memory",
    "growth": "growth",
}
TITLES = {
    "detection": "A photograph, from file to decided cells",
    "steps": "What a photograph's time is spent on",
    "cores": "Fewer and more cores",
    "patches": "Cutting patches",
    "feeding": "Feeding a training",
    "scoring": "Scoring",
    "augmentation": "Test-time augmentation",
    "training": "Training",
    "start": "Start",
    "memory": "Memory",
    "growth": "How time grows",
}
DEFAULT = tuple(name for name in MODULES if name != "growth")  # growth takes as long as the rest together


def measured(name: str, settings: Settings) -> list[Row]:
    """The rows of a group. What goes wrong after some rows becomes a row that says so, and the rows before it stay."""
    group: Group = getattr(import_module(f"benchmarks.bench.{MODULES[name]}"), name)
    rows: list[Row] = []
    try:
        rows.extend(group(settings))
    except Exception as error:  # noqa: BLE001  a row that cannot be measured does not take the others with it
        rows.append(Row(TITLES[name], not_measured=f"{type(error).__name__}: {error}".splitlines()[0]))
    return rows


def in_a_process(name: str, settings: Settings) -> list[Row]:
    """The rows of a group, measured in a process of its own, whose libraries, threads and memory no other group sees."""
    with ProcessPoolExecutor(1, get_context("spawn"), _quiet, (settings.cache / f"{name}.log",)) as pool:
        try:
            return pool.submit(measured, name, settings).result()
        except BrokenProcessPool:
            return [
                Row(
                    TITLES[name], not_measured=f"the process ended: out of memory, or a library's error; see {name}.log in {settings.cache}"
                )
            ]


def _quiet(log: Path) -> None:
    """Let what libraries and progress bars print go into a file."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
