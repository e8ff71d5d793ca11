"""Which images belong together, by their paths: fields of one slide, which no split may part."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import regex

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.text import excerpt, number_of
from malaria_cells.data.annotations.annotation_set import AnnotatedImage

log = logging.getLogger(__name__)

SECONDS = 2.0  # for the pattern to work through all paths; sensible ones need microseconds each
LONGEST = 500  # letters of a pattern
MOST_REPEATS = 10_000  # of counted repetitions, one inside the other, as in (a{100}){100}: each is compiled by itself


def grouped(images: Sequence[AnnotatedImage], group: str | None, source: Path) -> list[AnnotatedImage]:
    r"""Images with the groups that the configuration's `group` gives them.

    A path that the pattern does not match, or whose (group) is empty, leaves its image on its own, with a warning.

    Args:
        images: with their keys.
        group: ``folder``, a regular expression whose first group, searched in the key, names the slide, or None.
        source: what the images were read from, for messages.

    Raises:
        InputError: no regular expression with a group, or one that takes for ever.

    Examples:
        >>> import numpy as np
        >>> nothing = np.zeros((0, 4)), np.zeros(0, dtype=int), np.zeros(0, dtype=bool)
        >>> fields = [AnnotatedImage(key, Path(key), (9, 9), key, *nothing) for key in ("slide1_a.png", "slide1_b.png")]
        >>> [p.group for p in grouped(fields, r"(slide\d+)_", Path("."))]
        ['slide1', 'slide1']
    """
    if group is None:
        return [replace(p, group=p.key) for p in images]
    if group == "folder":
        return [replace(p, group=PurePosixPath(p.key).parent.as_posix()) for p in images]
    found = _searched(group, [p.key for p in images])
    alone = [p.key for p, slide in zip(images, found, strict=True) if not slide]
    if alone:
        _warn(group, alone, len(images), source)
    return [replace(p, group=slide or p.key) for p, slide in zip(images, found, strict=True)]


def _warn(group: str, alone: list[str], total: int, source: Path) -> None:
    which = "none" if len(alone) == total else f"{total - len(alone):,}"
    log.warning(
        f"{source}: group: '{group}' finds a slide in {which} of {number_of(total, 'path')}; first without: '{alone[0]}'. "
        f"Each of the {number_of(len(alone), 'image')} counts as a slide of its own, so that neighbouring fields may be on both sides of "
        "a split; set `group` to a pattern whose (bracket) finds the slide in such a path, to folder, or to null if none share a slide"
    )


def _searched(group: str, keys: list[str]) -> list[str | None]:
    try:
        if len(group) > LONGEST:
            raise ValueError(f"of {len(group):,} letters, more than {LONGEST}")
        if math.prod(max(int(n), 1) for n in regex.findall(r"(?<=[{,])\d+(?=[,}])", group)) > MOST_REPEATS:
            raise ValueError("counted repetitions that multiply")
        pattern = regex.compile(group)
        if not pattern.groups:
            raise ValueError("no bracket in it")
    except (regex.error, ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise InputError(f"group: {excerpt(group)} is not a regular expression with one (group): {reason(error)}") from None
    end = time.monotonic() + SECONDS
    found = []
    for key in keys:
        try:
            match = pattern.search(key, timeout=max(end - time.monotonic(), 0.001))
        except TimeoutError:
            raise InputError(
                f"group: {excerpt(group)} does not come to an end at '{key}', or takes more than {SECONDS:g} seconds for all "
                f"{number_of(len(keys), 'path')}; write it without a repetition inside a repetition, as in (slide\\d+)_"
            ) from None
        found.append(match.group(1) if match else None)
    return found
