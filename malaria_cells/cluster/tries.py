"""Which image each worker is at, so that an image at which processes die is given up instead of being tried for ever."""

from collections import Counter

MAX_TRIES = 3  # processes that may die at an image before it counts as failed


class Tries:
    """A record of images that were begun and not finished. It lives in a process of its own, which outlives the workers.

    Examples:
        >>> tries = Tries()
        >>> [tries.begin("a.png", process) for process in (101, 102, 103, 104)]
        [True, True, True, False]
        >>> tries.end("b.png")
    """

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()
        self._at_work: dict[int, str] = {}

    def begin(self, key: str, process: int) -> bool:
        """Note that a process begins an image; False if `MAX_TRIES` processes began it and none ended it."""
        if self._begun[key] >= MAX_TRIES:
            return False
        self._begun[key] += 1
        self._at_work[process] = key
        return True

    def end(self, key: str) -> None:
        """Forget an image that was finished, whatever came of it."""
        self._begun.pop(key, None)
        self._at_work = {process: at for process, at in self._at_work.items() if at != key}

    def at_work(self) -> dict[int, str]:
        """The image that each process is at, by its number; a process that died is still here."""
        return dict(self._at_work)
