"""Groups images by their paths, so that the fields of view of one slide stay in one part of a split."""

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

SECONDS = 2.0  # time limit for searching the pattern in all paths; usual patterns need microseconds per path
MAX_LENGTH = 500  # characters of a pattern
MAX_REPEATS = 10_000  # product of a pattern's repetition counts, since nested ones such as (a{100}){100} are expanded when compiled


def grouped(images: Sequence[AnnotatedImage], group: str | None, source: Path) -> list[AnnotatedImage]:
    r"""Set the group of every image according to the config's `group`.

    An image whose key does not match the pattern, or matches with an empty (group), is a group of its own; a warning is logged.

    Args:
        images: the images, which are grouped by their keys.
        group: ``folder``; a regular expression that is searched in the key and whose first group is the slide's name; or None, which
            makes every image a group of its own.
        source: path that the images were read from, for messages.

    Returns:
        The images in the same order, with their groups.

    Raises:
        InputError: `group` is not a regular expression with a group, or takes too long.

    Examples:
        >>> import numpy as np
        >>> no_boxes = np.zeros((0, 4)), np.zeros(0, dtype=int), np.zeros(0, dtype=bool)
        >>> fields = [AnnotatedImage(key, Path(key), (9, 9), key, *no_boxes) for key in ("slide1_a.png", "slide1_b.png")]
        >>> [image.group for image in grouped(fields, r"(slide\d+)_", Path("."))]
        ['slide1', 'slide1']
    """
    if group is None:
        return [replace(image, group=image.key) for image in images]
    if group == "folder":
        return [replace(image, group=PurePosixPath(image.key).parent.as_posix()) for image in images]
    slides = _slides(group, [image.key for image in images])
    unmatched = [image.key for image, slide in zip(images, slides, strict=True) if not slide]
    if unmatched:
        _warn(group, unmatched, len(images), source)
    return [replace(image, group=slide or image.key) for image, slide in zip(images, slides, strict=True)]


def _warn(group: str, unmatched: list[str], total: int, source: Path) -> None:
    n_matched = "none" if len(unmatched) == total else f"{total - len(unmatched):,}"
    log.warning(
        f"{source}: group: '{group}' finds a slide in {n_matched} of {number_of(total, 'path')}; first without: '{unmatched[0]}'. "
        f"Each of the {number_of(len(unmatched), 'image')} counts as a slide of its own, so fields of view of one slide may be on both "
        "sides of a split; set `group` to a pattern whose (group) is the slide's name, to folder, or to null if no images share a slide"
    )


def _slides(group: str, keys: list[str]) -> list[str | None]:
    try:
        if len(group) > MAX_LENGTH:
            raise ValueError(f"it has {len(group):,} characters, more than {MAX_LENGTH}")
        if math.prod(max(int(n), 1) for n in regex.findall(r"(?<=[{,])\d+(?=[,}])", group)) > MAX_REPEATS:
            raise ValueError(f"its repetition counts multiply to more than {MAX_REPEATS:,}")
        pattern = regex.compile(group)
        if not pattern.groups:
            raise ValueError("it has no (group)")
    except (regex.error, ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise InputError(f"group: {excerpt(group)} is not a regular expression with one (group): {reason(error)}") from None
    end = time.monotonic() + SECONDS
    slides = []
    for key in keys:
        try:
            match = pattern.search(key, timeout=max(end - time.monotonic(), 0.001))
        except TimeoutError:
            raise InputError(
                f"group: {excerpt(group)} takes more than {SECONDS:g} seconds for {number_of(len(keys), 'path')}, and was stopped at "
                f"'{key}'; write it without a repetition inside a repetition, as in (slide\\d+)_"
            ) from None
        slides.append(match.group(1) if match else None)
    return slides
