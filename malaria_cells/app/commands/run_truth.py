"""The images of a part of a split, and the ground truth of a run: an annotation in the model's labels."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from malaria_cells.app.commands.run_request import RunRequest
from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet, ImageList, load_annotations
from malaria_cells.data.annotations.matching import match_names
from malaria_cells.data.labels import IN_RUN, LabelSet
from malaria_cells.data.seen_before import SEEN
from malaria_cells.data.split_file import read_parts

log = logging.getLogger(__name__)


def select_part(root: Path, keys: list[str], split: Path | None, part: str) -> list[str]:
    """The images of one part of a split file; all images if there is no split file.

    If several names of the file match an image, such as ``1.jpg`` and ``sub/1.jpg``, the longest name counts.

    Args:
        root: folder of the images.
        keys: the images, relative to `root`.
        split: JSON file of lists of image names by part, or None.
        part: name of the part.

    Raises:
        InputError: the file or the part does not exist, a name matches several images or is in two parts, or no image is in the part.
    """
    if split is None:
        return keys
    # The list of images that start models were trained on is not a part.
    lists = {name: names for name, names in read_parts(split, "--split").items() if name != SEEN}
    if part not in lists:
        content = f"holds the parts {', '.join(map(repr, sorted(lists)))}" if lists else "holds no part"
        raise InputError(f"--split {split}: {content}, expected '{part}'; name a part with --part")
    wanted = dict.fromkeys(lists[part])
    duplicate = next((name for key, names in lists.items() if key != part for name in names if name in wanted), None)
    if duplicate is not None:
        raise InputError(f"--split {split}: '{duplicate}' is in '{part}' and in another part; an image belongs to one part")
    matched = match_names((name for names in lists.values() for name in names), {key: (root / key).absolute().as_posix() for key in keys})
    for name in wanted:
        if len(matched[name]) > 1:
            first, second, *_ = matched[name]
            raise InputError(
                f"--split {split}: '{name}' matches several images of {root} ({first}, {second}); write its path relative to {root}"
            )
    selected = {matched[name][0] for name in wanted if matched[name]}
    missing = [name for name in wanted if not matched[name]]
    if not selected:
        first_name = f"; first name: {missing[0]}" if missing else ""
        raise InputError(f"--split {split}: none of the {number_of(len(keys), 'image')} is in its '{part}' part{first_name}")
    if missing:
        log.warning(
            f"--split {split}: {len(missing):,} of {number_of(len(wanted), 'name')} of its '{part}' part match no image of {root} "
            f"and are skipped; first: {missing[0]}"
        )
    return [key for key in keys if key in selected]


def read_truth(request: RunRequest, root: Path, keys: list[str], labels: LabelSet) -> AnnotationSet | None:
    """Read the annotation of the images in the model's labels; `request` maps and ignores its categories. None if it names no annotation.

    Raises:
        InputError: a category is not a label of the model, or no image is annotated.
    """
    if request.annotations is None:
        options = {
            "--label-map": request.label_map,
            "--ignore-labels": request.ignore_labels,
            "--annotated-labels": request.annotated_labels,
        }
        for flag, value in options.items():
            if value:
                raise InputError(f"{flag}: applies to an annotation that detections are scored against; name it with --annotations")
        return None
    known = scored_labels(labels, request.ignore_labels or [], request.label_map or {})
    finder = ImageList(root, keys, request.annotations)
    truth = load_annotations(request.annotations, known, finder=finder, images="found")
    if not len(truth):
        raise InputError(f"--annotations {request.annotations}: annotates none of the {len(keys)} images of {request.image}")
    if len(truth) < len(keys):
        log.warning(f"{request.annotations}: {len(keys) - len(truth)} of {len(keys)} images are not annotated and not scored")
    return _with_unannotated(_without_ignored_images(truth, request.annotations), request.annotated_labels)


def _with_unannotated(truth: AnnotationSet, annotated: list[str] | None) -> AnnotationSet:
    if annotated is None:
        return truth
    from malaria_cells.data.data_sets import unannotated_ids  # imports all keys of the config, which a run without annotation needs not

    unannotated = unannotated_ids(truth, annotated, truth.labels, "--annotated-labels")
    return replace(truth, images=tuple(replace(p, unannotated=unannotated) for p in truth.images))


def scored_labels(labels: LabelSet, ignore: Sequence[str], label_map: Mapping[str, str]) -> LabelSet:
    """The model's labels, with additional categories of an annotation that are mapped to them or ignored.

    Raises:
        InputError: `ignore` holds a label of the model, or `label_map` maps a category to a name that is not a label of the model.
    """
    for name in ignore:
        if name in labels.names:
            raise InputError(
                f"--ignore-labels: '{name}' is a label of the model and is always scored; per_class.csv has its figures by class. "
                "Name only categories of the annotation that are not labels of the model"
            )
    ignored = tuple(dict.fromkeys((*labels.ignored, *ignore)))
    return replace(labels, ignored=ignored, label_map=tuple(label_map.items()), wording=IN_RUN)


def _without_ignored_images(truth: AnnotationSet, source: Path) -> AnnotationSet:
    ignored = [p.key for p in truth.images if p.whole and p.ignore.all()]
    if not ignored:
        return truth
    log.warning(f"{source}: {number_of(len(ignored), 'image')} with ignored labels, not scored; first: {ignored[0]}")
    rest = truth.subset({p.key for p in truth.images} - set(ignored))
    if not len(rest):
        raise InputError(
            f"--annotations {source}: all its images have ignored labels; leave out --ignore-labels, or map the labels with --label-map"
        )
    return rest
