"""What a run works on and is scored by: the part of a split, and the annotation in the model's labels."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from malaria_cells.app.commands.run_request import RunRequest
from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet, ImageList, load_annotations
from malaria_cells.data.annotations.matching import match_names
from malaria_cells.data.data_sets import unannotated_ids
from malaria_cells.data.labels import IN_RUN, LabelSet
from malaria_cells.data.seen_before import SEEN
from malaria_cells.data.split_file import read_parts

log = logging.getLogger(__name__)


def of_part(root: Path, keys: list[str], split: Path | None, part: str) -> list[str]:
    """The images that a split file puts into a part; all where there is no split file.

    An image that several names of the file fit, such as ``1.jpg`` and ``sub/1.jpg``, is the one of the longest.

    Args:
        root: folder of the images.
        keys: the images, relative to it.
        split: JSON of lists of names, or None.
        part: name of a list.

    Raises:
        InputError: no such file or list, a name that fits several images, a name in two lists, or no image of the part.
    """
    if split is None:
        return keys
    # What the models before that of a split file were trained on says nothing of its parts.
    lists = {name: names for name, names in read_parts(split, "--split").items() if name != SEEN}
    if part not in lists:
        found = f"holds the lists {', '.join(map(repr, sorted(lists)))}" if lists else "holds no list"
        raise InputError(f"--split {split}: {found}, expected '{part}'; name one of them with --part")
    wanted = dict.fromkeys(lists[part])
    doubled = next((name for other, names in lists.items() if other != part for name in names if name in wanted), None)
    if doubled is not None:
        raise InputError(f"--split {split}: '{doubled}' is in '{part}' and in another list; an image belongs to one part")
    matched = match_names((name for names in lists.values() for name in names), {key: (root / key).absolute().as_posix() for key in keys})
    for name in wanted:
        if len(matched[name]) > 1:
            first, second, *_ = matched[name]
            raise InputError(f"--split {split}: '{name}' fits several images of {root} ({first}, {second}); write the path from {root} on")
    kept = {matched[name][0] for name in wanted if matched[name]}
    missing = [name for name in wanted if not matched[name]]
    if not kept:
        first_name = f"; first name: {missing[0]}" if missing else ""
        raise InputError(f"--split {split}: none of the {number_of(len(keys), 'image')} is in its '{part}' part{first_name}")
    if missing:
        log.warning(
            f"--split {split}: {len(missing):,} of {number_of(len(wanted), 'name')} of its '{part}' part fit no image of {root}, "
            f"so that those are not worked on; first: {missing[0]}"
        )
    return [key for key in keys if key in kept]


def read_truth(request: RunRequest, root: Path, keys: list[str], labels: LabelSet) -> AnnotationSet | None:
    """The annotation of the images in the model's labels, as `request` maps and ignores its categories; None where none is named.

    Raises:
        InputError: a category that the model does not know, or no image annotated.
    """
    if request.annotations is None:
        said = {
            "--label-map": request.label_map,
            "--ignore-labels": request.ignore_labels,
            "--annotated-labels": request.annotated_labels,
        }
        for flag, value in said.items():
            if value:
                raise InputError(f"{flag}: is about the annotation that is scored by; name it with --annotations")
        return None
    known = scored_labels(labels, request.ignore_labels or [], request.label_map or {})
    finder = ImageList(root, keys, request.annotations)
    truth = load_annotations(request.annotations, known, finder=finder, images="found")
    if not len(truth):
        raise InputError(f"--annotations {request.annotations}: annotates none of the {len(keys)} images of {request.image}")
    if len(truth) < len(keys):
        log.warning(f"{request.annotations}: {len(keys) - len(truth)} of {len(keys)} images are not annotated there and not scored")
    return _with_unannotated(_without_ignored_images(truth, request.annotations), request.annotated_labels)


def _with_unannotated(truth: AnnotationSet, annotated: list[str] | None) -> AnnotationSet:
    if annotated is None:
        return truth
    unannotated = unannotated_ids(truth, annotated, truth.labels, "--annotated-labels")
    return replace(truth, images=tuple(replace(p, unannotated=unannotated) for p in truth.images))


def scored_labels(labels: LabelSet, ignore: Sequence[str], label_map: Mapping[str, str]) -> LabelSet:
    """The model's labels, with further categories of an annotation mapped to them, or ignored.

    Raises:
        InputError: a label of the model is to be ignored, or a category to be mapped to what the model does not know.
    """
    for name in ignore:
        if name in labels.names:
            raise InputError(
                f"--ignore-labels: '{name}' is a label of the model, which it is scored by; per_class.csv has its figures apart. "
                "Ignore categories of the annotation that the model does not know"
            )
    ignored = tuple(dict.fromkeys((*labels.ignored, *ignore)))
    return replace(labels, ignored=ignored, label_map=tuple(label_map.items()), wording=IN_RUN)


def _without_ignored_images(truth: AnnotationSet, source: Path) -> AnnotationSet:
    ignored = [p.key for p in truth.images if p.whole and p.ignore.all()]
    if not ignored:
        return truth
    log.warning(f"{source}: {number_of(len(ignored), 'image')} of ignored labels, not scored; first: {ignored[0]}")
    rest = truth.subset({p.key for p in truth.images} - set(ignored))
    if not len(rest):
        raise InputError(f"--annotations {source}: all its images are of ignored labels; leave out --ignore-labels, or map them")
    return rest
