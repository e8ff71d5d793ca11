"""How long one waits for the help, and for an import."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

from benchmarks.bench.rows import AT_MOST, Row, Target, alternated
from benchmarks.bench.rows import alone as row_of
from benchmarks.bench.settings import ROOT, Settings

COMMANDS = {
    "malaria-cells --help": (("-m", "malaria_cells", "--help"), Target(AT_MOST, 0.5, of_value=True)),
    "run.py --help": (("run.py", "--help"), Target(AT_MOST, 0.5, of_value=True)),
    "import malaria_cells": (("-c", "import malaria_cells"), Target(AT_MOST, 0.3, of_value=True)),
}
NOTHING = ("-c", "pass")


def start(settings: Settings) -> Iterator[Row]:
    """Whole processes, from the call to the end, beside a Python that does nothing."""
    contenders = {name: partial(seconds_of, command) for name, (command, _) in COMMANDS.items()}
    contenders["nothing"] = partial(seconds_of, NOTHING)
    for once in contenders.values():
        once()  # the byte code is made
    figures = alternated(contenders, 3 if settings.quick else 15)
    bare = sorted(figures["nothing"])[len(figures["nothing"]) // 2]
    for name, (_, target) in COMMANDS.items():
        yield row_of(name, "s", figures[name], target, peer_name="a Python that does nothing", peer=bare)


def seconds_of(command: tuple[str, ...]) -> float:
    """Seconds of a Python process."""
    started = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, check=True)
    return time.perf_counter() - started
