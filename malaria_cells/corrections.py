"""Takes corrected annotations back into the training part."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from malaria_cells.annotations import AnnotationSet, Picture
from malaria_cells.errors import InputError

PREFIX = "corrections"


def with_corrections(train: AnnotationSet, held_out: AnnotationSet | None, corrected: AnnotationSet, source: str) -> AnnotationSet:
    """The training part with corrected pictures in the place of the same photographs, or beside them if they are new.

    Photographs are the same if their files are, byte for byte, whatever their names.

    Args:
        train: the pictures that are not held out for the test.
        held_out: the test part.
        corrected: pictures with corrected boxes.
        source: what they were read from, for errors.

    Raises:
        InputError: a corrected picture is one of the test part: to train on it would make the test worthless.
    """
    contents = _contents((*train.pictures, *(held_out.pictures if held_out else ()), *corrected.pictures))
    tested = {contents[p.path]: p.key for p in held_out.pictures} if held_out else {}
    by_content = {contents[p.path]: p for p in train.pictures}
    merged = {p.key: p for p in train.pictures}
    for p in corrected.pictures:
        if contents[p.path] in tested:
            raise InputError(
                f"corrections: {source}: '{p.key}' is the test picture '{tested[contents[p.path]]}'; "
                "what is tested on cannot be trained on, leave it out of the corrections"
            )
        before = by_content.get(contents[p.path])
        if before is not None:
            merged[before.key] = replace(p, key=before.key, path=before.path, group=before.group, part=before.part)
        else:
            new = f"{PREFIX}/{p.key}"
            merged[new] = replace(p, key=new, group=f"{PREFIX}/{p.group}", part="train")
    return replace(train, pictures=tuple(merged[key] for key in sorted(merged)))


def _contents(pictures: tuple[Picture, ...]) -> dict:
    paths = [p.path for p in pictures]
    with ThreadPoolExecutor() as pool:
        return dict(zip(paths, pool.map(lambda path: hashlib.blake2b(path.read_bytes()).digest(), paths), strict=True))
