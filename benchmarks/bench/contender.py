"""A process that works when it is told to, so that several can take turns without sharing threads, memory or libraries."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.bench.settings import ROOT

WORKER = Path(__file__).with_name("worker.py")


class ContenderError(Exception):
    """A contender cannot work; the message says why."""


@dataclass(frozen=True)
class Turn:
    """What a contender did in one turn.

    Attributes:
        ms: wall time in milliseconds, for each item.
        cpu_ms: processor time of all threads in milliseconds, for each item.
        result: what the work returned, such as the number of boxes.
        peak_mib: most memory of the process so far, in MiB.
    """

    ms: float
    cpu_ms: float
    result: Any
    peak_mib: float


class Contender:
    """A running worker; a context manager, which ends it."""

    def __init__(self, kind: str, package: Path = ROOT, cores: Sequence[int] = (), **arguments: Any):
        """Start the worker and wait until it is ready.

        Args:
            kind: one of the functions of `worker`.
            package: folder of the version of `malaria_cells` that it imports.
            cores: numbers of the cores that it may use; empty: those of this process.
            arguments: of the function.

        Raises:
            ContenderError: it cannot start.
        """
        request = json.dumps({"kind": kind, "cores": list(cores), "arguments": arguments}, default=str)
        environment = os.environ | {"PYTHONPATH": str(package), "TF_CPP_MIN_LOG_LEVEL": "3"}
        # A file, since a pipe that nobody reads would stop the worker once it is full; `close` closes it.
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), request],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environment,
            cwd=package,
        )
        try:
            self._answer()
        except ContenderError:
            self.close()
            raise

    def turn(self, items: Sequence[Any], **options: Any) -> Turn:
        """Let it work on items, such as paths, and wait for the end.

        Args:
            items: what is worked on.
            options: of the work, such as ``in_turn=True``.

        Raises:
            ContenderError: it failed.
        """
        if self.process.stdin is None:
            raise ContenderError("the worker takes no requests")
        self.process.stdin.write(json.dumps({"items": list(items), "options": options}, default=str) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        n = max(len(items), 1)
        return Turn(1e3 * answer["seconds"] / n, 1e3 * answer["cpu"] / n, answer["result"], answer["peak_mib"])

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            self.close()
            lines = self.said.strip().splitlines()
            raise ContenderError(f"the process ended: {lines[-1] if lines else 'without a message'}")
        answer = json.loads(line)
        if "error" in answer:
            raise ContenderError(answer["error"])
        return answer

    def close(self) -> None:
        """End the worker; `said` has what it printed."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        if not self.errors.closed:
            self.errors.seek(0)
            self.said = self.errors.read()
            self.errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
