"""Progress display: a bar on a terminal, a line every few seconds otherwise; both show the rate and the remaining time."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0


def progress(items: Iterable[Item], total: int, what: str, unit: str) -> Iterator[Item]:
    """Yield `items` and show the progress on stderr.

    Args:
        items: the items.
        total: number of items.
        what: label of the bar, for example ``detecting``.
        unit: name of one item, for example ``image``.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, unit=unit, leave=False, file=sys.stderr)
        return
    start = last_line = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == total or now - last_line >= SECONDS_BETWEEN_LINES:
            last_line = now
            rate = done / max(now - start, 1e-9)
            print(f"{what}: {done}/{total} {unit}s, {rate:.1f} {unit}s/s, {(total - done) / rate:.0f} s left", file=sys.stderr, flush=True)
