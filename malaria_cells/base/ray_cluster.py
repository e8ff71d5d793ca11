"""Connection to Ray (ray.io), which runs work in several processes and on several machines. An extra of the package installs it."""

import importlib
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.tensorflow_setup import silence_tensorflow

LOCAL = "local"
EXTRA = "pip install 'malaria-cells[ray]'"


@dataclass(frozen=True)
class Share:
    """What one of several pieces of work may use.

    Attributes:
        at_once: how many pieces run at the same time.
        cpus: processors of each.
        gpus: graphics processors of each.
    """

    at_once: int
    cpus: int
    gpus: int


def check_installed(what: str, *modules: str) -> None:
    """Check that libraries of the extra are installed.

    Args:
        what: flag or command that needs them, with which the message begins.
        modules: names of modules.

    Raises:
        InputError: one is missing.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InputError(f"{what}: needs {module.split('.')[0]} ({reason(error)}); install it with: {EXTRA}") from None


@contextmanager
def connected(cluster: str) -> Iterator[None]:
    """Connect to a cluster, or start one of this machine's processors if it is ``local``; a connection that is there is used.

    Raises:
        InputError: there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent elsewhere
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # errors come as exceptions, too
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        ray.init(address=cluster, **quiet, **({"include_dashboard": False} if cluster == LOCAL else {}))
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"--cluster {cluster}: cannot be reached ({reason(error)}); give the address of a head node that `ray start --head` printed, "
            f"or '{LOCAL}' for this machine"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def share_of(pieces: int, at_once: int | None = None) -> Share:
    """Divide the cluster's processors among pieces of work; each gets a graphics processor if there are any.

    Args:
        pieces: number of pieces of work, one or more.
        at_once: how many may run at the same time; None: one for each graphics processor, or for each processor if there are none.
    """
    import ray

    total = ray.cluster_resources()
    cpus, gpus = int(total.get("CPU", 1)), int(total.get("GPU", 0))
    at_once = max(1, min(pieces, at_once or gpus or cpus))
    # A piece of work runs on one machine, so it cannot have more processors than the largest machine has.
    largest = max(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
    return Share(at_once, max(1, min(largest, cpus // at_once)), 1 if gpus else 0)


def results_of(function: Callable[[Any], Any], items: Sequence[Any], share: Share, logs: Sequence[Path]) -> Iterator[tuple[int, Any]]:
    """Call a function for each item in processes of the cluster, and yield results as they come.

    A process that dies is tried again three times by Ray.

    Args:
        function: a function of a module, which other processes can import.
        items: its arguments.
        share: how many run at once, and what each may use.
        logs: file for each item, to which its output is written.

    Yields:
        Index of the item; and the result, or the `InputError` that ended it. Other errors are raised.
    """
    import ray

    task = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus)(_called)
    stored = [ray.put(item) for item in items]
    waiting, running = list(range(len(items))), dict[Any, int]()
    while waiting or running:
        while waiting and len(running) < share.at_once:
            index = waiting.pop(0)
            running[task.remote(function, stored[index], logs[index].absolute(), Path.cwd(), share.cpus)] = index
        (done,), _ = ray.wait(list(running), num_returns=1)
        index = running.pop(done)
        try:
            yield index, ray.get(done)
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, InputError):
                raise
            yield index, error.cause
        except ray.exceptions.RayError as error:
            yield index, InputError(f"its process died ({reason(error)}); perhaps memory is short: run fewer at once by --parallel")


def _called(function: Callable[[Any], Any], item: Any, log: Path, folder: Path, cpus: int) -> Any:
    with at_work(folder, log, cpus):
        return function(item)


@contextmanager
def at_work(folder: Path, log: Path, cpus: int) -> Iterator[None]:
    """Prepare a process of the cluster for work: its current folder, its number of threads, and where its output goes.

    Args:
        folder: current folder of the program that asked for the work, from which relative paths are meant.
        log: file to which the output is appended.
        cpus: number of processors that the work may use.

    Raises:
        InputError: the machine does not have the folder.
    """
    try:
        os.chdir(folder)
        log.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{error.filename}: {error.strerror} on the machine {platform.node()}; the cluster's machines need the same folders for "
            "config, images and output, such as a network drive"
        ) from error
    if "tensorflow" not in sys.modules:  # TensorFlow reads it when it starts
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(cpus))
    silence_tensorflow()
    with log.open("a", encoding="utf-8", errors="backslashreplace") as file, redirect_stdout(file), redirect_stderr(file):
        yield
