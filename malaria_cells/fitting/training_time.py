"""How long a training took, and which share of the cores' time it used; kept in the run's folder, so that a resumed run counts on."""

import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from malaria_cells.base import files

log = logging.getLogger(__name__)

TIME = "time.json"


@dataclass(frozen=True)
class Used:
    """Time that sittings of a training took.

    Attributes:
        seconds: wall time.
        cpu_seconds: time of all cores at work for this process and for those that it started and waited for.
        core_seconds: wall time times the number of cores that the process may use.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    core_seconds: float = 0.0

    def __add__(self, other: "Used") -> "Used":
        return Used(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds, self.core_seconds + other.core_seconds)

    def to_json(self) -> dict[str, float]:
        """``training_time`` of ``metrics.json``: seconds, and the share of the cores' time that was used, 0 to 1."""
        busy = self.cpu_seconds / self.core_seconds if self.core_seconds else 0.0
        return {"seconds": round(self.seconds, 1), "cores_busy": round(min(busy, 1.0), 3)}


class TrainingTime:
    """The time of a training: of its earlier sittings, as far as they were recorded, and of the present one from now on.

    Args:
        earlier: time of the earlier sittings.
    """

    def __init__(self, earlier: Used = Used()):
        self._earlier = earlier
        self._started, self._cpu_before = time.monotonic(), _cpu_seconds()

    @classmethod
    def continued(cls, folder: Path) -> Self:
        """Continue what a run's folder holds; a run of an earlier version, which holds nothing, counts from now on."""
        path = folder / TIME
        if not path.is_file():
            return cls()
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(Used(*(float(content[name]) for name in ("seconds", "cpu_seconds", "core_seconds"))))
        except (ValueError, KeyError, TypeError):
            log.warning(f"{path}: damaged; the time of the run's earlier sittings is unknown and is not in training_time")
            return cls()

    @property
    def used(self) -> Used:
        """The time of all sittings so far."""
        seconds = time.monotonic() - self._started
        return self._earlier + Used(seconds, _cpu_seconds() - self._cpu_before, seconds * _usable_cores())

    def record(self, folder: Path) -> None:
        """Write the time so far into a run's folder: after a kill, the time since then is not counted."""
        files.write_text(folder / TIME, json.dumps(vars(self.used)))


def _cpu_seconds() -> float:
    return sum(os.times()[:4])  # user and system time, of this process and of the children that it waited for


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
