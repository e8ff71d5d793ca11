"""Progress for people: a bar with rate and time left on a terminal, plain lines now and then in a pipe."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0


def progress(items: Iterable[Item], total: int, what: str, unit: str) -> Iterator[Item]:
    """Hand on `items`, showing how far it is.

    Args:
        items: what is worked through.
        total: how many there are.
        what: label of the bar, for example ``detecting``.
        unit: name of one item, for example ``image``.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, unit=unit, leave=False, file=sys.stderr)
        return
    start = said = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == total or now - said >= SECONDS_BETWEEN_LINES:
            said = now
            rate = done / max(now - start, 1e-9)
            print(f"{what}: {done}/{total} {unit}s, {rate:.1f} {unit}s/s, {(total - done) / rate:.0f} s left", file=sys.stderr, flush=True)
