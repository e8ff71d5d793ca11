"""An ordered parallel map with threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Threads. While one image is decoded or post-processed another runs inference; more than three in flight gave no speed-up on two cores.
MAX_WORKERS = 3
PREFETCHED = 2  # finished results that may wait for the consumer


def imap_ordered(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Future[Result]]]:
    """Map a function over items by `MAX_WORKERS` threads and yield each item, in order, with the future of its result.

    Memory holds at most `MAX_WORKERS` + `PREFETCHED` results. If the iteration ends early, work that has not started is cancelled.

    Args:
        work: the function; it must be thread-safe.
        items: the arguments of its calls.
    """
    with ThreadPoolExecutor(MAX_WORKERS) as workers:
        pending: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in items:
                pending.append((item, workers.submit(work, item)))
                if len(pending) >= MAX_WORKERS + PREFETCHED:
                    yield pending.popleft()
            yield from pending
        finally:
            workers.shutdown(wait=False, cancel_futures=True)
