"""Sees that nothing of the test or validation part is in training: no slide, and no image under another name."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet

log = logging.getLogger(__name__)

MOST_SHOWN = 5  # pairs of copies in a message
_PARTS = {"train": "training", "validation": "validation", "test": "test"}


ADVICE = "Move its images to one side (in split_file, in test_annotations, or in the data set's own parts)"


def check_apart(parts: Mapping[str, AnnotationSet], source: str, advice: str = ADVICE) -> None:
    """See that no group is in two parts.

    Args:
        parts: by name.
        source: what put the images into their parts, for the error.
        advice: what to do about it.

    Raises:
        InputError: a group is on two sides: names it, the parts and an image of it in either.
    """
    seen: dict[str, tuple[str, str]] = {}
    straddling: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {}
    for part, annotations in parts.items():
        for p in annotations.images:
            first = seen.setdefault(p.group, (part, p.key))
            if first[0] != part:
                straddling.setdefault(p.group, (first, (part, p.key)))
    if not straddling:
        return
    group, ((part, key), (other_part, other_key)) = next(iter(straddling.items()))
    more = f", as {'is' if len(straddling) == 2 else 'are'} {len(straddling) - 1:,} more" if len(straddling) > 1 else ""
    if group == key == other_key:
        what = f"'{key}' is in {_PARTS[part]} and in {_PARTS[other_part]}{more}; an image belongs to one part"
        raise InputError(f"{source}: {what}: take it out of one of them")
    raise InputError(
        f"{source}: the group (slide) '{group}' is in {_PARTS[part]} ('{key}') and in {_PARTS[other_part]} ('{other_key}'){more}; "
        f"an image or group belongs to one part, or the scores flatter. {advice}, or, if the name does not tell a slide, change `group`"
    )


def check_copies(parts: Mapping[str, AnnotationSet], images: Iterable[Collection[str]], source: str) -> None:
    """See that no image is in two parts under two names.

    Args:
        parts: by name; keys are of one part each.
        images: keys of the images that are one image, one collection an image.
        source: what put the images into their parts, for the error.

    Raises:
        InputError: copies are on two sides: names them and their parts.
    """
    part_of = {p.key: part for part, annotations in parts.items() for p in annotations.images}
    straddling = []
    for copies in images:
        by_part: dict[str, str] = {}
        for key in copies:
            if key in part_of:
                by_part.setdefault(part_of[key], key)
        if len(by_part) > 1:
            straddling.append(" and ".join(f"'{key}' ({_PARTS[part]})" for part, key in by_part.items()))
    if straddling:
        shown = ", ".join(straddling[:MOST_SHOWN]) + (f" and {len(straddling) - MOST_SHOWN:,} more" if len(straddling) > MOST_SHOWN else "")
        raise InputError(
            f"{source}: {number_of(len(straddling), 'image')} under two names in two parts, so that the scores flatter: {shown}. "
            "Take one of each out of the annotation or its part, or put both into one part"
        )


def together(annotations: AnnotationSet, images: Iterable[Sequence[str]]) -> AnnotationSet:
    """The same images, with one group for those that are one image and for all that share a group with them.

    Args:
        annotations: images that are to be split.
        images: keys of the images that are one image, one collection an image; others are not looked at.
    """
    by_key = {p.key: p for p in annotations.images}
    copies = [[key for key in keys if key in by_key] for keys in images]
    copies = [keys for keys in copies if len(keys) > 1]
    if not copies:
        return annotations
    first, second, *_ = copies[0]
    log.warning(
        f"{number_of(len(copies), 'image')} under two names or more, first '{first}' and '{second}'; copies are kept on one side of a split"
    )
    joined: dict[str, str] = {}

    def name_of(group: str) -> str:
        while group in joined:
            group = joined[group]
        return group

    for keys in copies:
        groups = sorted({name_of(by_key[key].group) for key in keys})
        joined |= dict.fromkeys(groups[1:], groups[0])
    return replace(annotations, images=tuple(replace(p, group=name_of(p.group)) for p in annotations.images))
