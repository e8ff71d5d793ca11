"""Runs the parts of an output on Ray (ray.io): a pool of processes that detect, and another one of processes that write.

Ray Data hands out the parts, starts processes as there are processors, and gives the part of a process that died to another one.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from malaria_cells.base.errors import InputError
from malaria_cells.base.progress import progress
from malaria_cells.base.ray_cluster import LOCAL, connected
from malaria_cells.cluster.images import UnreachableError
from malaria_cells.cluster.output import ClusterOutput
from malaria_cells.cluster.tries import MAX_TRIES, Tries
from malaria_cells.cluster.worker import Job, PartDetector, PartWriter

MAX_WRITERS = 16
TRIES = "malaria_cells_tries"  # name of the process that records which image each worker is at


@dataclass
class Done:
    """What a run did.

    Attributes:
        images: number of images that were worked on.
        failures: how many of them failed.
        interrupted: whether the user stopped the run.
    """

    images: int = 0
    failures: int = 0
    interrupted: bool = False


class _ToldTries:
    """Tells the process that keeps the record of images, and waits until it knows."""

    def __init__(self, keeper: Any) -> None:
        self._keeper = keeper

    def begin(self, key: str) -> bool:
        import ray

        return ray.get(self._keeper.begin.remote(key, os.getpid()))

    def end(self, key: str) -> None:
        self._keeper.end.remote(key)


class _Detect:
    """A process of the first pool."""

    def __init__(self, job: Any, keeper: Any) -> None:
        import cv2
        import ray

        cv2.setNumThreads(1)  # there is a process for each processor
        self._detector = PartDetector(ray.get(job), _ToldTries(keeper))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        # An error that ends the run is handed on as a value: of an exception, Ray would keep the text alone.
        try:
            return {"part": row["part"], "stopped": "", **self._detector.tables([str(key) for key in row["keys"]])}
        except UnreachableError as error:
            nothing = {"cells": b"", "failed": b"", "counts": b"", "images": 0, "failures": 0, "process": os.getpid()}
            return {"part": row["part"], "stopped": str(error), **nothing}


class _Write:
    """A process of the second pool."""

    def __init__(self, output: str) -> None:
        self._writer = PartWriter(output)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        done = {name: row[name] for name in ("part", "stopped", "images", "failures", "process")}
        if done["stopped"]:
            return done
        try:
            self._writer.write(int(row["part"]), row)
        except (InputError, OSError) as error:
            done["stopped"] = str(error)
        return done


def run_parts(output: ClusterOutput, job: Job, cluster: str, workers: int | None = None) -> Done:
    """Run the parts that are not written yet.

    Args:
        output: the output, which says which parts are missing.
        job: what the workers are told.
        cluster: address of a cluster, or ``local``.
        workers: number of processes that detect; None: one for each processor.

    Raises:
        InputError: the cluster or the store cannot be reached; what is written stays.
    """
    done, parts = Done(), output.unfinished_parts()
    if not parts:
        return done
    total = sum(len(output.keys_of(part)) for part in parts)
    with connected(cluster):
        written = _rows(output, parts, job, cluster, workers)
        try:
            for row in progress(written, total, "detecting", "image", lambda row: int(row["images"])):
                if row["stopped"]:
                    raise InputError(
                        f"{row['stopped']}; the run stopped, and what was finished is in {output.place}: the same command goes on from "
                        "there"
                    )
                done.images += int(row["images"])
                done.failures += int(row["failures"])
        except KeyboardInterrupt:
            done.interrupted = True
    return done


def _rows(output: ClusterOutput, parts: list[int], job: Job, cluster: str, workers: int | None) -> Iterator[dict[str, Any]]:
    """Yield a row for each part that is written."""
    import ray
    from ray.data import ActorPoolStrategy

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # a part takes as long as it takes
    context.max_consecutive_actor_init_deaths = MAX_TRIES
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # errors are raised, too
    keeper = ray.remote(num_cpus=0)(Tries).options(name=TRIES, get_if_exists=True, max_restarts=-1, max_task_retries=-1).remote()
    stored = ray.put(job)
    if workers is None and cluster == LOCAL:
        workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
    size: dict[str, int] = {"min_size": 1} if workers is None else {"size": min(workers, len(parts))}
    items = [{"part": part, "keys": list(output.keys_of(part))} for part in parts]
    rows = ray.data.from_items(items, override_num_blocks=len(items))
    detected = rows.map(_Detect, fn_constructor_args=(stored, keeper), compute=ActorPoolStrategy(**size), num_cpus=1)
    writers = ActorPoolStrategy(min_size=1, max_size=MAX_WRITERS)
    written = detected.map(_Write, fn_constructor_args=(job.output,), compute=writers, num_cpus=0)
    try:
        yield from written.iter_rows()
    finally:
        ray.kill(keeper)
