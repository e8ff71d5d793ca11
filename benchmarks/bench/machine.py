"""What the figures were taken on: processor, versions, and the measured limit of its arithmetic."""

import os
import platform
import subprocess
import time
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.bench.settings import ROOT, Settings

LIBRARIES = (
    "tensorflow",
    "keras",
    "keras-cv",
    "onnxruntime",
    "openvino",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "faster-coco-eval",
    "pycocotools",
)
SIDE = 2048  # of the square matrices: large enough that memory is no limit


def cpu_model() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def described(settings: Settings) -> dict[str, Any]:
    """Machine, versions and time of a measurement, as JSON holds them."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": {
            "cpu": cpu_model(),
            "cores": len(settings.all_cores) or os.cpu_count(),
            "cores_in_use": settings.n_cores,
            "system": platform.platform(terse=True),
        },
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | {name: found for name in LIBRARIES if (found := _version(name))},
        "quick": settings.quick,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit that was measured, with a plus sign if files were changed since."""
    try:
        asked = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], **asked).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], **asked).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def matrix_product_rate(repeats: int = 8) -> float:
    """Floating-point operations a second of a float32 matrix product by NumPy, the fastest of several: the hardware's practical limit."""
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((SIDE, SIDE), dtype=np.float32) for _ in range(2))
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - started)
    return 2 * SIDE**3 / min(seconds)
