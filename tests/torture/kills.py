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
from tests.torture.kill_checks import check, result
from tests.torture.kill_targets import TARGETS

TIDY = {"patches", "download", "detection"}  # whose next start removes what the killed one was writing
WAIT = 1800  # seconds for one start; training imports TensorFlow, and the machine may be busy


def run(name: str, kills: int, seed: int = 0) -> tuple[int, list[str]]:
    """Kill the work at as many random moments.

    The moments are drawn evenly over the time that the work took when it was let alone.

    Returns:
        How often the work was still going on at that moment, and what was wrong.
    """
    with _server() if name == "download" else nullcontext() as environment, tempfile.TemporaryDirectory() as root:
        whole = _Started(name, Path(root) / "whole", environment)
        whole.wait_for_beginning()
        begun = time.monotonic()
        faults = [f"{name}: was not killed and failed: {said}"] if (said := whole.end()) else []
        seconds = time.monotonic() - begun
        expected = result(name, Path(root) / "whole")
        n_killed = 0
        for number in range(kills):
            after = random.Random(f"{name} {seed} {number}").random() * seconds
            folder = Path(root) / str(number)
            n_killed += _killed(name, folder, after, environment)
            faults += [f"{name}: killed after {after:.3f} s: {fault}" for fault in _left_and_redone(name, folder, environment, expected)]
    return n_killed, faults


def _killed(name: str, folder: Path, after: float, environment: dict[str, str] | None) -> bool:
    """Start the work and kill it; whether it was still going on."""
    first = _Started(name, folder, environment)
    first.wait_for_beginning()
    time.sleep(after)
    first.process.kill()
    first.process.communicate()
    return first.process.returncode != 0


def _left_and_redone(name: str, folder: Path, environment: dict[str, str] | None, expected: dict[str, str]) -> list[str]:
    """What is wrong with what a kill left, and with what the next start makes of it."""
    try:
        check(name, folder)
    except Exception as error:  # noqa: BLE001  whatever a reader raises on half a file
        return [f"what is left is not whole: {type(error).__name__}: {error}"]
    if said := _Started(name, folder, environment).end():
        return [f"the next start failed: {said}"]
    try:
        check(name, folder)
    except Exception as error:  # noqa: BLE001
        return [f"after the next start: {type(error).__name__}: {error}"]
    if (found := result(name, folder)) != expected:
        differing = sorted(file for file in found.keys() | expected.keys() if found.get(file) != expected.get(file))
        return [f"after the next start, other than uninterrupted work gives: {', '.join(differing)}"]
    left = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if ".writing-" in p.name or p.name.endswith(".part")]
    return [f"the next start left {left}"] if left and name in TIDY else []


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
        try:
            _, said = self.process.communicate(timeout=WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            return f"did not end within {WAIT} seconds"
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


def main(kills: int, works: list[str] | None = None) -> int:
    """Kill each kind of work, or those named, and print what came of it; returns the number of faults."""
    n_faults = 0
    for name in works or TARGETS:
        started = time.monotonic()
        n_killed, faults = run(name, kills)
        seconds = time.monotonic() - started
        print(f"kill -9: {name}: {kills} kills, {n_killed} of them before its end, {len(faults)} faults; {seconds:.0f} s", flush=True)
        for fault in faults:
            print(f"  {fault}", flush=True)
        n_faults += len(faults)
    return n_faults
