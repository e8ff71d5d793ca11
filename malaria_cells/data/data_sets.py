"""Several data sets as one: each read by itself, its images named after it, and what its annotators did not mark said."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from malaria_cells.base.errors import InputError, nearest
from malaria_cells.base.text import number_of
from malaria_cells.config import Config, OneSet, names_of
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.set_reading import SetAsRead, read_set

Split = Callable[[AnnotationSet], tuple[AnnotationSet, AnnotationSet]]


@dataclass(frozen=True)
class Member:
    """One of the data sets of a config.

    Attributes:
        name: of the set; empty where the config has `train_images` alone.
        config: as if the set were the only one.
        entry: of `data_sets`, or None.
    """

    name: str
    config: Config
    entry: OneSet | None = None

    @property
    def key(self) -> str:
        """Where the config names the set's folder."""
        return "train_images" if self.entry is None else "path"


def members(config: Config) -> list[Member]:
    """The data sets of a config: that in `train_images`, or those in `data_sets`."""
    if config.data_sets is None:
        return [Member("", config)]
    return [Member(name, _alone(config, entry), entry) for name, entry in zip(names_of(config.data_sets), config.data_sets, strict=True)]


def _alone(config: Config, entry: OneSet) -> Config:
    own = {
        "labels": None if config.labels is None else [*config.labels, *entry.one_of],
        "data_sets": None,
        "train_images": entry.path,
        "annotations": entry.annotations,
        "split_file": entry.split,
        "annotation_format": entry.format or config.annotation_format,
        "group": entry.group or config.group,
        "label_map": config.label_map | entry.one_name_each,
    }
    return config.model_copy(update=own)


@contextmanager
def errors_named(name: str) -> Iterator[None]:
    """Say in front of an error which data set it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"data_sets: {name}: {error}" if name else str(error)) from None


def read_members(found: Sequence[Member], labels: LabelSet) -> dict[str, SetAsRead]:
    """Read every data set, by its name.

    Of several, keys and groups begin with the set's name, and the images know the set, its weight and the classes that were not
    annotated in it.

    Args:
        found: of one config.
        labels: of that config.

    Raises:
        InputError: as `read_set`; `annotated_labels` or `label_map` names what is no label; a list in `label_map` of a set with boxes.
    """
    read = {}
    for member in found:
        with errors_named(member.name):
            read[member.name] = read_set(member.config, member.key)
            if member.entry is not None:
                read[member.name] = _named(read[member.name], member.name, member.entry, labels)
    return read


def _named(read: SetAsRead, name: str, entry: OneSet, labels: LabelSet) -> SetAsRead:
    one_of = _one_of(entry, labels)
    if one_of and not read.images.whole:
        category = next(category for category, meant in entry.label_map.items() if not isinstance(meant, str))
        raise InputError(f"label_map: {category} is a list, which is for images of single cells; these have boxes: map to one label")
    unannotated = _unannotated(read.images, entry, labels)

    def renamed(annotations: AnnotationSet) -> AnnotationSet:
        images = tuple(
            replace(
                _of_one_class(p, one_of, len(labels)),
                key=f"{name}/{p.key}",
                group=f"{name}/{p.group}",
                data_set=name,
                unannotated=unannotated,
                weight=float(entry.weight),
            )
            for p in annotations.images
        )
        return replace(annotations, labels=labels, images=images)

    return replace(read, rest=renamed(read.rest), test=None if read.test is None else renamed(read.test))


def _one_of(entry: OneSet, labels: LabelSet) -> list[tuple[int, ...]]:
    """Class ids of each of the entry's lists, in the order in which its names follow those of the labels."""
    for meant in entry.one_of.values():
        for label in meant:
            if label not in labels.names:
                raise InputError(
                    f"label_map: '{label}' is not in labels{nearest(label, labels.names)}; labels are {', '.join(labels.names)}"
                )
    return [tuple(labels.names.index(label) for label in meant) for meant in entry.one_of.values()]


def _of_one_class(image: AnnotatedImage, one_of: list[tuple[int, ...]], n_labels: int) -> AnnotatedImage:
    """An image of a single cell whose label stands for several classes: it has the id of the first, and knows the others."""
    ids = image.class_ids
    if not len(ids) or ids[0] < n_labels:
        return image
    classes = one_of[int(ids[0]) - n_labels]
    return replace(image, class_ids=np.full_like(ids, classes[0]), one_of=classes)


def _unannotated(annotations: AnnotationSet, entry: OneSet, labels: LabelSet) -> tuple[int, ...]:
    if entry.annotated_labels is not None:
        return unannotated_ids(annotations, entry.annotated_labels, labels, "annotated_labels")
    return () if annotations.whole else tuple(np.flatnonzero(annotations.class_counts == 0).tolist())


def unannotated_ids(annotations: AnnotationSet, annotated: Sequence[str], labels: LabelSet, key: str) -> tuple[int, ...]:
    """Ids of the labels that are not among those said to be annotated.

    Args:
        annotations: what they are said of.
        annotated: names of labels.
        labels: all labels.
        key: how a person said it, for errors.

    Raises:
        InputError: one is no label, or a label of which there are cells is not among them.
    """
    for label in annotated:
        if label not in labels.names:
            raise InputError(f"{key}: '{label}' is not in labels{nearest(label, labels.names)}; labels are {', '.join(labels.names)}")
    unannotated = tuple(i for i, label in enumerate(labels.names) if label not in annotated)
    for i in unannotated:
        if annotations.class_counts[i]:
            cells = number_of(int(annotations.class_counts[i]), "cell")
            raise InputError(f"{key}: '{labels.names[i]}' is missing, of which the annotation has {cells}; add it")
    return unannotated


def joined(parts: Iterable[AnnotationSet | None], labels: LabelSet) -> AnnotationSet:
    """Parts of several data sets as one, in the order of their keys; a single one stays as it is."""
    there = [part for part in parts if part is not None]
    if len(there) == 1:
        return there[0]
    images = sorted((p for part in there for p in part.images), key=lambda p: p.key)
    issues = tuple(dict.fromkeys(line for part in there for line in part.issues))
    read_as = "; ".join(dict.fromkeys(part.read_as for part in there if part.read_as))
    return AnnotationSet(labels, tuple(images), issues, read_as)


def split_beside(annotations: AnnotationSet, first: set[str], second: set[str], split: Split) -> tuple[AnnotationSet, AnnotationSet]:
    """Part a data set in two, where groups that it shares with other sets are in a part already.

    Args:
        annotations: of one data set.
        first: groups that are in the first part; those that are put there are added.
        second: likewise of the second part.
        split: parts the images of all other groups.

    Raises:
        InputError: as `split`.
    """
    free = [p for p in annotations.images if p.group not in first and p.group not in second]
    placed = len(free) < len(annotations)
    kept = [p.key for p in annotations.images if p.group in first]
    held_out = [p.key for p in annotations.images if p.group in second]
    if placed and len({p.group for p in free}) < 2:
        kept += [p.key for p in free]
    else:
        halves = split(replace(annotations, images=tuple(free)))
        kept += [p.key for p in halves[0].images]
        held_out += [p.key for p in halves[1].images]
    parts = annotations.subset(kept), annotations.subset(held_out)
    first |= groups_of(parts[0].images)
    second |= groups_of(parts[1].images)
    return parts


def groups_of(images: Iterable[AnnotatedImage]) -> set[str]:
    """The groups of images."""
    return {p.group for p in images}


def said_of_unannotated(annotations: AnnotationSet) -> list[str]:
    """A line for each data set that lacks classes: which its annotators did not mark."""
    lines = []
    for name, own in annotations.by_data_set().items():
        missing = own.images[0].unannotated
        if missing:
            said = ", ".join(annotations.labels.names[i] for i in missing)
            lines.append(f"{name}: does not annotate {said}: unknown there, not background")
    return lines
