"""Several photographs worked on at once, by threads, in their order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# One is read, cut or decided on by one core while the networks of another have what is left; more than three gained nothing on two cores.
AT_ONCE = 3
AHEAD = 2  # that are done and wait to be taken up


def in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Future[Result]]]:
    """Work on `AT_ONCE` items at a time; each comes back in its turn with its result, or what was raised, to ask for.

    Memory holds no more than `AT_ONCE` + `AHEAD` results. Where the iteration is left early, what has not begun is not begun any more.

    Args:
        work: called from several threads.
        items: in this order.
    """
    with ThreadPoolExecutor(AT_ONCE) as workers:
        pending: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in items:
                pending.append((item, workers.submit(work, item)))
                if len(pending) >= AT_ONCE + AHEAD:
                    yield pending.popleft()
            yield from pending
        finally:
            workers.shutdown(wait=False, cancel_futures=True)
