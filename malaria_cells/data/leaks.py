"""Guards against leakage between the training, validation and test parts: shared slides, and copies of an image."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet

log = logging.getLogger(__name__)

MAX_PAIRS = 5  # pairs of copies listed in a message
_PARTS = {"train": "training", "validation": "validation", "test": "test"}


ADVICE = "Move its images into one part (by split_file, test_annotations, or the data set's own parts)"


def check_apart(parts: Mapping[str, AnnotationSet], source: str, advice: str = ADVICE) -> None:
    """Check that no group is in two parts.

    Args:
        parts: the parts by name.
        source: the file or setting that defines the parts, for the error.
        advice: what the user can do, for the error.

    Raises:
        InputError: a group is in two parts; the message names the group, the parts and one image in each.
    """
    first_seen: dict[str, tuple[str, str]] = {}
    straddling: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {}
    for part, annotations in parts.items():
        for p in annotations.images:
            first = first_seen.setdefault(p.group, (part, p.key))
            if first[0] != part:
                straddling.setdefault(p.group, (first, (part, p.key)))
    if not straddling:
        return
    group, ((part, key), (other_part, other_key)) = next(iter(straddling.items()))
    more = f", as {'is' if len(straddling) == 2 else 'are'} {len(straddling) - 1:,} more" if len(straddling) > 1 else ""
    if group == key == other_key:
        problem = f"'{key}' is in {_PARTS[part]} and in {_PARTS[other_part]}{more}; an image belongs to one part"
        raise InputError(f"{source}: {problem}: take it out of one of them")
    raise InputError(
        f"{source}: the group (slide) '{group}' is in {_PARTS[part]} ('{key}') and in {_PARTS[other_part]} ('{other_key}'){more}; "
        f"a group belongs to one part, or the scores are too good. {advice}; if the name does not identify a slide, change `group`"
    )


def check_copies(parts: Mapping[str, AnnotationSet], images: Iterable[Collection[str]], source: str) -> None:
    """Check that no image is in two parts under two names.

    Args:
        parts: the parts by name; each key is in one part.
        images: keys of the copies of each image, one collection per image.
        source: the file or setting that defines the parts, for the error.

    Raises:
        InputError: copies of an image are in two parts; the message names them and their parts.
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
        listed = ", ".join(straddling[:MAX_PAIRS]) + (f" and {len(straddling) - MAX_PAIRS:,} more" if len(straddling) > MAX_PAIRS else "")
        raise InputError(
            f"{source}: {number_of(len(straddling), 'image')} under two names in two parts, which makes the scores too good: {listed}. "
            "Take one of each out of the annotation or its part, or put both into one part"
        )


def group_copies(annotations: AnnotationSet, images: Iterable[Sequence[str]]) -> AnnotationSet:
    """The same images, with the groups of copies of one image merged.

    Args:
        annotations: the images to be split.
        images: keys of the copies of each image, one collection per image; keys that are not in `annotations` are skipped.
    """
    by_key = {p.key: p for p in annotations.images}
    copies = [[key for key in keys if key in by_key] for keys in images]
    copies = [keys for keys in copies if len(keys) > 1]
    if not copies:
        return annotations
    first, second, *_ = copies[0]
    log.warning(
        f"{number_of(len(copies), 'image')} under two names or more, first '{first}' and '{second}'; copies are kept in one part of a split"
    )
    merged_into: dict[str, str] = {}

    def name_of(group: str) -> str:
        while group in merged_into:
            group = merged_into[group]
        return group

    for keys in copies:
        groups = sorted({name_of(by_key[key].group) for key in keys})
        merged_into |= dict.fromkeys(groups[1:], groups[0])
    return replace(annotations, images=tuple(replace(p, group=name_of(p.group)) for p in annotations.images))
