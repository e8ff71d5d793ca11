"""Progress display: a bar on a terminal, a line every few seconds otherwise; both show the rate and the remaining time."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0


def progress(items: Iterable[Item], total: int, what: str, unit: str, units_of: Callable[[Item], int] = lambda _: 1) -> Iterator[Item]:
    """Yield `items` and show the progress on stderr.

    Args:
        items: the items.
        total: number of units, which are the items if each is one.
        what: label of the bar, for example ``detecting``.
        unit: name of one unit, for example ``image``.
        units_of: number of units of an item that comes, for example the images of a part.
    """
    if sys.stderr.isatty():
        with tqdm(total=total, desc=what, unit=unit, leave=False, file=sys.stderr) as bar:
            for item in items:
                yield item
                bar.update(units_of(item))
        return
    start = last_line = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += units_of(item)
        now = time.monotonic()
        if done and (done == total or now - last_line >= SECONDS_BETWEEN_LINES):
            last_line = now
            rate = done / max(now - start, 1e-9)
            print(f"{what}: {done}/{total} {unit}s, {rate:.1f} {unit}s/s, {(total - done) / rate:.0f} s left", file=sys.stderr, flush=True)
