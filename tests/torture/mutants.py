"""Runs mutants in a process of their own, and begins another one behind what ended it."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.torture.child import SECONDS

WAIT = 120  # seconds without a line until a mutant counts as one that never ends; the machine may be busy, processor time is not
START = 600  # seconds for the start of a process, which may import TensorFlow and export networks


@dataclass
class Report:
    """What came of the mutants of one kind.

    Attributes:
        counts: number of mutants by outcome: read, refused, fault.
        faults: number of the mutant, and what was wrong.
        seconds: processor time of the slowest mutant.
        megabytes: memory of the largest one.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)
    seconds: float = 0
    megabytes: float = 0

    def add(self, number: int, outcome: str, detail: str = "", seconds: float = 0, megabytes: float = 0) -> None:
        self.counts[outcome] += 1
        if outcome == "fault":
            self.faults.append((number, detail))
        self.seconds, self.megabytes = max(self.seconds, seconds), max(self.megabytes, megabytes)


def run(kinds: list[str], first: int, last: int, folder: Path | None = None) -> dict[str, Report]:
    """Read the mutants of kinds from one number to before another; what came of them by kind."""
    reports = {kind: Report() for kind in kinds}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        left = [(kind, first) for kind in kinds]
        while left:
            # Of a kind whose process was ended the rest is read alone, the other kinds together.
            together = [kind for kind, start in left if start == first] if left[0][1] == first else [left[0][0]]
            start = left[0][1]
            ended = _run_until_it_ends(together, start, last, Path(scratch), reports)
            left = [each for each in left if each[0] not in together]
            if ended is not None:
                kind, next_number = ended
                behind = [(name, first) for name in together[together.index(kind) + 1 :]]
                left = [*([(kind, next_number)] if next_number < last else []), *behind, *left]
    return reports


def _run_until_it_ends(kinds: list[str], first: int, last: int, scratch: Path, reports: dict[str, Report]) -> tuple[str, int] | None:
    """Run one process; returns the kind and number behind the mutant that ended it, None where nothing did."""
    command = [sys.executable, "-m", "tests.torture.child", str(scratch), str(first), str(last), *kinds]
    errors = (scratch / "errors").open("w+b")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    child: Any = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=os.environ | quiet)
    begun: tuple[str, int] | None = None
    n_done = 0
    try:
        for line in _lines(child):
            kind, number = line.pop("kind"), line["number"]
            if "outcome" in line:
                reports[kind].add(**line)
                begun, n_done = None, n_done + 1
            else:
                begun = kind, number
    except TimeoutError:
        child.kill()
    code = child.wait()
    child.stdout.close()
    errors.seek(0)
    said = errors.read().decode(errors="replace")[-1500:]
    errors.close()
    if begun is not None:
        reports[begun[0]].add(begun[1], "fault", _why(code, said), SECONDS if code == -signal.SIGPROF else 0)
        return begun[0], begun[1] + 1
    if code or n_done < len(kinds) * (last - first):
        raise RuntimeError(f"the process of {', '.join(kinds)} ended with {code} between two mutants: {said}")
    return None


def _why(code: int, said: str) -> str:
    if code == -signal.SIGPROF:
        return f"took more than {SECONDS} seconds of processor time"
    if code == -signal.SIGKILL:
        return f"did not end within {WAIT} seconds, or was killed for its memory"
    return f"the process ended with {code}: {said}"


def _lines(child: Any) -> Any:
    """Lines of a process, parsed; an error when none comes for too long."""
    rest, wait = b"", START
    while True:
        if not select.select([child.stdout], [], [], wait)[0]:
            raise TimeoutError
        chunk = os.read(child.stdout.fileno(), 2**16)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        yield from map(json.loads, lines)
        wait = WAIT
