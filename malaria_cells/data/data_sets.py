"""Several data sets as one: each is read by itself, its name is put before its keys, and its unannotated classes are recorded."""

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
        name: name of the set; empty where the config has `train_images` alone.
        config: the config as if the set were the only one.
        entry: the set's entry in `data_sets`, or None.
    """

    name: str
    config: Config
    entry: OneSet | None = None

    @property
    def key(self) -> str:
        """The key of the config, or of the entry, that names the set's folder."""
        return "train_images" if self.entry is None else "path"


def members(config: Config) -> list[Member]:
    """The data sets of a config: the one in `train_images`, or all in `data_sets`."""
    if config.data_sets is None:
        return [Member("", config)]
    return [Member(name, _alone(config, entry), entry) for name, entry in zip(names_of(config.data_sets), config.data_sets, strict=True)]


def _alone(config: Config, entry: OneSet) -> Config:
    changes = {
        "labels": None if config.labels is None else [*config.labels, *entry.one_of],
        "data_sets": None,
        "train_images": entry.path,
        "annotations": entry.annotations,
        "split_file": entry.split,
        "annotation_format": entry.format or config.annotation_format,
        "group": entry.group or config.group,
        "label_map": config.label_map | entry.one_name_each,
    }
    return config.model_copy(update=changes)


@contextmanager
def errors_named(name: str) -> Iterator[None]:
    """Put the name of a data set in front of the errors raised within."""
    try:
        yield
    except InputError as error:
        raise InputError(f"data_sets: {name}: {error}" if name else str(error)) from None


def read_members(data_sets: Sequence[Member], labels: LabelSet) -> dict[str, SetAsRead]:
    """Read every data set.

    With `data_sets`, keys and groups begin with the set's name, and each image holds its set, the set's weight and the classes that
    are not annotated in the set.

    Args:
        data_sets: the data sets of one config.
        labels: the labels of that config.

    Returns:
        The data sets by name.

    Raises:
        InputError: as `read_set`; `annotated_labels` or `label_map` names an unknown label; `label_map` has a list for a set with boxes.
    """
    sets = {}
    for member in data_sets:
        with errors_named(member.name):
            sets[member.name] = read_set(member.config, member.key)
            if member.entry is not None:
                sets[member.name] = _named(sets[member.name], member.name, member.entry, labels)
    return sets


def _named(read: SetAsRead, name: str, entry: OneSet, labels: LabelSet) -> SetAsRead:
    one_of = _one_of(entry, labels)
    if one_of and not read.images.whole:
        category = next(category for category, meant in entry.label_map.items() if not isinstance(meant, str))
        raise InputError(
            f"label_map: {category} is mapped to a list, which only images of single cells may have; this set has boxes: map to one label"
        )
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
    """Class ids of each list in the entry's label map, in the order of their additional class ids."""
    for meant in entry.one_of.values():
        for label in meant:
            if label not in labels.names:
                raise InputError(
                    f"label_map: '{label}' is not in labels{nearest(label, labels.names)}; labels are {', '.join(labels.names)}"
                )
    return [tuple(labels.names.index(label) for label in meant) for meant in entry.one_of.values()]


def _of_one_class(image: AnnotatedImage, one_of: list[tuple[int, ...]], n_labels: int) -> AnnotatedImage:
    """The image; if its label stands for several classes, with the first one's id and all of them in `one_of`."""
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
    """Class ids of the labels that a data set does not annotate.

    Args:
        annotations: the data set.
        annotated: names of its annotated labels.
        labels: all labels.
        key: the config's key or the option that lists the annotated labels, for errors.

    Raises:
        InputError: a name is not a label, or the data set has cells of a label that is not listed.
    """
    for label in annotated:
        if label not in labels.names:
            raise InputError(f"{key}: '{label}' is not in labels{nearest(label, labels.names)}; labels are {', '.join(labels.names)}")
    unannotated = tuple(i for i, label in enumerate(labels.names) if label not in annotated)
    for i in unannotated:
        if annotations.class_counts[i]:
            cells = number_of(int(annotations.class_counts[i]), "cell")
            raise InputError(f"{key}: '{labels.names[i]}' is missing, but the annotation has {cells} of it; add it")
    return unannotated


def joined(parts: Iterable[AnnotationSet | None], labels: LabelSet) -> AnnotationSet:
    """Concatenate parts of several data sets, sorted by key; a single part is returned unchanged."""
    present = [part for part in parts if part is not None]
    if len(present) == 1:
        return present[0]
    images = sorted((p for part in present for p in part.images), key=lambda p: p.key)
    issues = tuple(dict.fromkeys(line for part in present for line in part.issues))
    read_as = "; ".join(dict.fromkeys(part.read_as for part in present if part.read_as))
    return AnnotationSet(labels, tuple(images), issues, read_as)


def split_consistently(annotations: AnnotationSet, first: set[str], second: set[str], split: Split) -> tuple[AnnotationSet, AnnotationSet]:
    """Split a data set in two, consistently with the groups that other data sets have already placed.

    Args:
        annotations: one data set.
        first: groups placed in the first part; this data set's groups are added in place.
        second: groups placed in the second part; this data set's groups are added in place.
        split: function that splits the images of all other groups.

    Raises:
        InputError: as `split`.
    """
    free = [p for p in annotations.images if p.group not in first and p.group not in second]
    some_placed = len(free) < len(annotations)
    first_keys = [p.key for p in annotations.images if p.group in first]
    second_keys = [p.key for p in annotations.images if p.group in second]
    if some_placed and len({p.group for p in free}) < 2:
        first_keys += [p.key for p in free]
    else:
        halves = split(replace(annotations, images=tuple(free)))
        first_keys += [p.key for p in halves[0].images]
        second_keys += [p.key for p in halves[1].images]
    parts = annotations.subset(first_keys), annotations.subset(second_keys)
    first |= groups_of(parts[0].images)
    second |= groups_of(parts[1].images)
    return parts


def groups_of(images: Iterable[AnnotatedImage]) -> set[str]:
    """The groups of some images."""
    return {p.group for p in images}


def describe_unannotated(annotations: AnnotationSet) -> list[str]:
    """One line for each data set with unannotated classes, naming them."""
    lines = []
    for name, images in annotations.by_data_set().items():
        missing = images.images[0].unannotated
        if missing:
            names = ", ".join(annotations.labels.names[i] for i in missing)
            lines.append(f"{name}: does not annotate {names}: unknown there, not background")
    return lines
