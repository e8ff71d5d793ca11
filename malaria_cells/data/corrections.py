"""Takes corrected annotations back into the training part."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.duplicates import same_images

log = logging.getLogger(__name__)

PREFIX = "corrections"


def with_corrections(train: AnnotationSet, held_out: AnnotationSet | None, corrected: AnnotationSet, source: str) -> AnnotationSet:
    """The training part with corrected images in the place of the same images, or beside them if they are new.

    Images are the same if their content is, whatever their names and whether or not another program wrote them anew
    (`same_images`). Of several copies in the training part, the corrected one alone remains.

    Args:
        train: the images that are not held out for the test.
        held_out: the test part.
        corrected: images with corrected boxes.
        source: what they were read from, for errors.

    Raises:
        InputError: a corrected image is one of the test part: to train on it would make the test worthless; or two corrected
            images are one image, so that it is not known which of them counts.
    """
    tested = held_out.images if held_out is not None else ()
    by_image = _same(corrected.images, train.images, tested)
    merged = {p.key: p for p in train.images}
    part_of = {p.group: p.part for p in train.images}
    for i, p in enumerate(corrected.images):
        others, before, in_test = by_image[i]
        if in_test:
            raise InputError(
                f"corrections: {source}: '{p.key}' is the test image '{in_test[0].key}'; "
                "what is tested on cannot be trained on, leave it out of the corrections"
            )
        if others:
            raise InputError(
                f"corrections: {source}: '{p.key}' and '{others[0].key}' are one image, corrected twice; leave one of them out"
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
    return replace(train, images=tuple(merged[key] for key in sorted(merged)))


def group_below(folder: str, image: AnnotatedImage) -> str:
    """The group of an image of a further folder: a slide is the same in whatever folder, an image on its own is none of the others.

    Args:
        folder: a name that keeps the folder's images apart from others of the same key.
        image: with the key and group that it has in its folder.
    """
    return f"{folder}/{image.group}" if image.group in {image.key, "."} else image.group


def _same(
    corrected: Sequence[AnnotatedImage], train: Sequence[AnnotatedImage], tested: Sequence[AnnotatedImage]
) -> list[tuple[list[AnnotatedImage], list[AnnotatedImage], list[AnnotatedImage]]]:
    """For each corrected image, the other corrected, the training and the test images that are the same image."""
    sides = (corrected, train, tested)
    every = [(side, p) for side, images in enumerate(sides) for p in images]
    found: list[tuple[list[AnnotatedImage], list[AnnotatedImage], list[AnnotatedImage]]] = [([], [], []) for _ in corrected]
    for copies in same_images([p for _, p in every], asked=range(len(corrected))):
        for i in copies:
            if i < len(corrected):
                for j in copies:
                    if j != i:
                        side, image = every[j]
                        found[i][side].append(image)
    return found
