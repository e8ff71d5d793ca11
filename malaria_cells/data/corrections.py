"""Merges corrected annotations into the training part."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.duplicates import same_images

log = logging.getLogger(__name__)

PREFIX = "corrections"  # folder of the keys of corrected images that are new to the data set


def with_corrections(train: AnnotationSet, held_out: AnnotationSet | None, corrected: AnnotationSet, source: str) -> AnnotationSet:
    """The training part, in which corrected images replace their originals; corrected images without an original are added.

    Images are compared by content, not by name, and match even if another program re-encoded them (`same_images`). Further copies
    of a corrected image are removed from the training part.

    Args:
        train: the images that are not held out for the test.
        held_out: the test part.
        corrected: images with corrected boxes.
        source: the corrections' file or folder, for errors.

    Raises:
        InputError: a corrected image is a test image, or two corrected images are the same image.
    """
    tested = held_out.images if held_out is not None else ()
    copies_of = _copies(corrected.images, train.images, tested)
    merged = {p.key: p for p in train.images}
    part_of = {p.group: p.part for p in train.images}
    for i, p in enumerate(corrected.images):
        same_corrected, originals, same_tested = copies_of[i]
        if same_tested:
            raise InputError(
                f"corrections: {source}: '{p.key}' is the test image '{same_tested[0].key}'; "
                "test images cannot be trained on; leave it out of the corrections"
            )
        if same_corrected:
            raise InputError(
                f"corrections: {source}: '{p.key}' and '{same_corrected[0].key}' are the same image, corrected twice; leave one of them out"
            )
        if originals:
            first, *copies = originals
            merged[first.key] = replace(p, key=first.key, path=first.path, group=first.group, part=first.part)
            for copy in copies:
                del merged[copy.key]
            if copies:
                removed = f"{number_of(len(copies), 'duplicate')} removed from the training part, first: '{copies[0].key}'"
                log.warning(f"corrections: {source}: '{p.key}' replaces '{first.key}'; {removed}")
        else:
            new_key = f"{PREFIX}/{p.key}"
            group = group_below(PREFIX, p)
            merged[new_key] = replace(p, key=new_key, group=group, part=part_of.get(group))
    return replace(train, images=tuple(merged[key] for key in sorted(merged)))


def group_below(folder: str, image: AnnotatedImage) -> str:
    """The group of an image from an additional folder.

    A slide keeps its group, whatever the folder; an image that is its own group gets the folder's name in front.

    Args:
        folder: name that distinguishes the folder's images from others of the same key.
        image: the image, with its key and group within the folder.
    """
    return f"{folder}/{image.group}" if image.group in {image.key, "."} else image.group


def _copies(
    corrected: Sequence[AnnotatedImage], train: Sequence[AnnotatedImage], tested: Sequence[AnnotatedImage]
) -> list[tuple[list[AnnotatedImage], list[AnnotatedImage], list[AnnotatedImage]]]:
    """For each corrected image, its copies among the corrected, the training and the test images."""
    parts = (corrected, train, tested)
    all_images = [(part, p) for part, images in enumerate(parts) for p in images]
    copies_of: list[tuple[list[AnnotatedImage], list[AnnotatedImage], list[AnnotatedImage]]] = [([], [], []) for _ in corrected]
    for copies in same_images([p for _, p in all_images], asked=range(len(corrected))):
        for i in copies:
            if i < len(corrected):
                for j in copies:
                    if j != i:
                        part, image = all_images[j]
                        copies_of[i][part].append(image)
    return copies_of
