"""An ordered parallel map with threads."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Threads, at least. While one image is decoded or post-processed another runs inference; more than three in flight gave no speed-up on two
# cores.
MIN_WORKERS = 3
PREFETCHED = 2  # finished results that may wait for the consumer


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def imap_ordered(
    work: Callable[[Item], Result], items: Iterable[Item], n_workers: int | None = None
) -> Iterator[tuple[Item, Future[Result]]]:
    """Map a function over items by several threads and yield each item, in order, with the future of its result.

    Memory holds at most `PREFETCHED` results more than there are threads. If the iteration ends early, work that has not started is
    cancelled.

    Args:
        work: the function; it must be thread-safe.
        items: the arguments of its calls.
        n_workers: number of threads; None: one for each core, and at least `MIN_WORKERS`.
    """
    n_workers = n_workers or max(cores(), MIN_WORKERS)
    with ThreadPoolExecutor(n_workers) as workers:
        pending: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in items:
                pending.append((item, workers.submit(work, item)))
                if len(pending) >= n_workers + PREFETCHED:
                    yield pending.popleft()
            yield from pending
        finally:
            workers.shutdown(wait=False, cancel_futures=True)
