"""Kills processes at random moments by SIGKILL: what is left is whole, and the next start goes on to the end."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tests.conftest import bbbc041_entry
from tests.mirror import archive, serving
from tests.torture.kill_targets import TARGETS, check

WAIT = 600  # seconds for one start; training imports TensorFlow, and the machine may be busy


def run(name: str, kills: int, seed: int = 0) -> list[str]:
    """Kill the work at as many random moments; returns what was wrong.

    The moments are drawn evenly over the time that the work took when it was let alone.
    """
    with _server() if name == "download" else nullcontext() as environment, tempfile.TemporaryDirectory() as root:
        whole = _Started(name, Path(root) / "whole", environment)
        whole.wait_for_beginning()
        begun = time.monotonic()
        faults = [f"{name}: was not killed and failed: {said}"] if (said := whole.end()) else []
        seconds = time.monotonic() - begun
        for number in range(kills):
            after = random.Random(f"{name} {seed} {number}").random() * seconds
            faults += _killed_and_started_again(name, Path(root) / str(number), after, environment)
    return faults


def _killed_and_started_again(name: str, folder: Path, after: float, environment: dict[str, str] | None) -> list[str]:
    first = _Started(name, folder, environment)
    first.wait_for_beginning()
    time.sleep(after)
    first.process.kill()
    first.process.communicate()
    moment = f"{name}: killed after {after:.3f} s"
    try:
        check(name, folder)
    except Exception as error:  # noqa: BLE001  whatever a reader raises on half a file
        return [f"{moment}: what is left is not whole: {type(error).__name__}: {error}"]
    if said := _Started(name, folder, environment).end():
        return [f"{moment}: the next start failed: {said}"]
    try:
        check(name, folder)
    except Exception as error:  # noqa: BLE001
        return [f"{moment}: after the next start: {type(error).__name__}: {error}"]
    left = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if ".writing-" in p.name or p.name.endswith(".part")]
    return [f"{moment}: the next start left {left}"] if left and name in {"patches", "download"} else []


class _Started:
    """A process that does the work."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str] | None) -> None:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "tests.torture.kill_targets", name, str(folder)]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=os.environ | (environment or {}) | {"CUDA_VISIBLE_DEVICES": ""}, **pipes)

    def wait_for_beginning(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def end(self) -> str:
        """Wait for its end; what it said where it failed."""
        _, said = self.process.communicate(timeout=WAIT)
        return said[-1500:] or f"exit code {self.process.returncode}" if self.process.returncode else ""


class _server:
    """A server on loopback of a data set that takes some chunks to fetch."""

    def __enter__(self) -> dict[str, str]:
        entry = bbbc041_entry("/images/a.png", [("ring", 5, 5, 30, 30)], (1024, 768))
        image = (Path(__file__).parents[2] / "docs" / "images" / "smear.jpg").read_bytes()
        noise = random.Random(0).randbytes(30_000_000)
        members = {"malaria/images/a.png": image, "malaria/images/b.png": noise, "malaria/training.json": json.dumps([entry]).encode()}
        self.serving = serving({"/bbbc/BBBC041/malaria.zip": archive(members | {"malaria/test.json": b"[]"})})
        server = self.serving.__enter__()
        return {"MALARIA_CELLS_MIRROR": server.url, "MALARIA_CELLS_RETRY_SECONDS": "0.01"}

    def __exit__(self, *error: Any) -> None:
        self.serving.__exit__(*error)


def main(kills: int) -> int:
    """Kill each kind of work and print what came of it; returns the number of faults."""
    n_faults = 0
    for name in TARGETS:
        started = time.monotonic()
        faults = run(name, kills)
        print(f"kill -9: {name}: {kills} kills, {len(faults)} faults; {time.monotonic() - started:.0f} s", flush=True)
        for fault in faults:
            print(f"  {fault}", flush=True)
        n_faults += len(faults)
    return n_faults
