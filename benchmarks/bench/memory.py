"""Most memory of `run.py`, for few and for many photographs."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from benchmarks.bench.peers import exported
from benchmarks.bench.rows import AT_MOST, Row, Target
from benchmarks.bench.settings import ROOT, Settings, photographs
from malaria_cells.data.images import read_image

FEW = 10
SIZE_WH = (640, 480)  # pixels, of the fields for the many: photographs as they are would take most of an hour
DIFFERENT = 10  # fields; the others are hard links to them


@dataclass(frozen=True)
class Run:
    """What a whole `run.py` took.

    Attributes:
        peak_mib: most memory in MiB.
        seconds: wall time.
    """

    peak_mib: float
    seconds: float


def memory(settings: Settings) -> Iterator[Row]:
    """Whole runs, images with boxes written: few photographs as they are, then few and many smaller fields of them."""
    model = exported(settings)
    many = 300 if settings.quick else 10_000
    at_most = Target(AT_MOST, 700.0, of_value=True)
    whole = photographs(settings)
    for engine in ("onnx", "keras"):
        folder = model if engine == "onnx" else settings.model
        with tempfile.TemporaryDirectory() as where:
            ran = run(folder, engine, linked(whole[:FEW], Path(where) / "few", FEW), Path(where) / "out")
        name = f"most memory of run.py, {FEW} photographs, {engine}"
        yield Row(name, "MiB", ran.peak_mib, target=at_most if engine == "onnx" else None, note="drawing included", repeats=1)
    with tempfile.TemporaryDirectory(dir=settings.cache) as where:
        fields = cut_fields(whole[:DIFFERENT], Path(where) / "different")
        few, most = (run(model, "onnx", linked(fields, Path(where) / str(n), n), Path(where) / "out") for n in (FEW, many))
    name = f"most memory of run.py, {many:,} fields of {SIZE_WH[0]} x {SIZE_WH[1]}, onnx"
    note = f"drawing included; {1e3 * most.seconds / many:.0f} ms a field with everything"
    of_few = f"{FEW} of them"
    ratio = most.peak_mib / few.peak_mib
    yield Row(name, "MiB", most.peak_mib, of_few, few.peak_mib, ratio, target=Target(AT_MOST, 1.1), note=note, repeats=1)
    yield Row(name, "MiB", most.peak_mib, target=at_most, note=note, repeats=1)


def cut_fields(paths: list[Path], folder: Path) -> list[Path]:
    """The upper left part of photographs as JPEG files."""
    folder.mkdir(parents=True)
    fields = []
    for number, path in enumerate(paths):
        fields.append(folder / f"{number}.jpg")
        cv2.imwrite(str(fields[-1]), read_image(path)[: SIZE_WH[1], : SIZE_WH[0], ::-1])
    return fields


def linked(paths: list[Path], folder: Path, count: int) -> Path:
    """A folder of so many files, copies of a few and hard links to the copies: `run.py` leaves out symbolic links to what it has listed."""
    folder.mkdir(parents=True)
    copies: list[Path] = []
    for number in range(count):
        source = paths[number % len(paths)].resolve()
        path = folder / f"{number:05d}{source.suffix.lower()}"
        if number < len(paths):
            shutil.copyfile(source, path)
            copies.append(path)
        else:
            path.hardlink_to(copies[number % len(paths)])
    return folder


def run(model: Path, engine: str, images: Path, output: Path) -> Run:
    """Run `run.py` in a process of its own.

    Raises:
        RuntimeError: it failed.
    """
    command = [
        sys.executable,
        "run.py",
        "--model",
        str(model),
        "--engine",
        engine,
        "--image",
        str(images),
        "--output",
        str(output),
        "--force",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)  # of this process alone, which `getrusage` of all children is not
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"run.py failed: {lines[-1] if lines else process.returncode}")
    return Run(used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), time.perf_counter() - started)
