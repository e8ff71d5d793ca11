"""Takes corrected annotations back into the training part."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet, Picture
from malaria_cells.data.duplicates import same_photographs

log = logging.getLogger(__name__)

PREFIX = "corrections"


def with_corrections(train: AnnotationSet, held_out: AnnotationSet | None, corrected: AnnotationSet, source: str) -> AnnotationSet:
    """The training part with corrected pictures in the place of the same photographs, or beside them if they are new.

    Photographs are the same if their content is, whatever their names and whether or not another program wrote them anew
    (`same_photographs`). Of several copies in the training part, the corrected one alone remains.

    Args:
        train: the pictures that are not held out for the test.
        held_out: the test part.
        corrected: pictures with corrected boxes.
        source: what they were read from, for errors.

    Raises:
        InputError: a corrected picture is one of the test part: to train on it would make the test worthless; or two corrected
            pictures are one photograph, so that it is not known which of them counts.
    """
    tested = held_out.pictures if held_out is not None else ()
    by_photograph = _same(corrected.pictures, train.pictures, tested)
    merged = {p.key: p for p in train.pictures}
    part_of = {p.group: p.part for p in train.pictures}
    for i, p in enumerate(corrected.pictures):
        others, before, in_test = by_photograph[i]
        if in_test:
            raise InputError(
                f"corrections: {source}: '{p.key}' is the test picture '{in_test[0].key}'; "
                "what is tested on cannot be trained on, leave it out of the corrections"
            )
        if others:
            raise InputError(
                f"corrections: {source}: '{p.key}' and '{others[0].key}' are one photograph, corrected twice; leave one of them out"
            )
        if before:
            first, *copies = before
            merged[first.key] = replace(p, key=first.key, path=first.path, group=first.group, part=first.part)
            for copy in copies:
                del merged[copy.key]
            if copies:
                which = f"{number_of(len(copies), 'further copy')[:-1]}ies" if len(copies) > 1 else "1 further copy"
                log.warning(f"corrections: {source}: '{p.key}' takes the place of '{first.key}' and of {which}; first: '{copies[0].key}'")
        else:
            new = f"{PREFIX}/{p.key}"
            group = group_below(PREFIX, p)
            merged[new] = replace(p, key=new, group=group, part=part_of.get(group))
    return replace(train, pictures=tuple(merged[key] for key in sorted(merged)))


def group_below(folder: str, picture: Picture) -> str:
    """The group of a picture of a further folder: a slide is the same in whatever folder, a picture on its own is none of the others.

    Args:
        folder: a name that keeps the folder's pictures apart from others of the same key.
        picture: with the key and group that it has in its folder.
    """
    return f"{folder}/{picture.group}" if picture.group in {picture.key, "."} else picture.group


def _same(
    corrected: Sequence[Picture], train: Sequence[Picture], tested: Sequence[Picture]
) -> list[tuple[list[Picture], list[Picture], list[Picture]]]:
    """For each corrected picture, the other corrected, the training and the test pictures that are the same photograph."""
    sides = (corrected, train, tested)
    every = [(side, p) for side, pictures in enumerate(sides) for p in pictures]
    found: list[tuple[list[Picture], list[Picture], list[Picture]]] = [([], [], []) for _ in corrected]
    for copies in same_photographs([p for _, p in every], asked=range(len(corrected))):
        for i in copies:
            if i < len(corrected):
                for j in copies:
                    if j != i:
                        side, picture = every[j]
                        found[i][side].append(picture)
    return found
