"""Loads the annotated images of the training, validation and test parts that a config describes."""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from malaria_cells.config import Config
from malaria_cells.data.annotations import AnnotationSet, read_categories
from malaria_cells.data.corrections import with_corrections
from malaria_cells.data.data_sets import errors_named, groups_of, joined, members, read_members, split_consistently
from malaria_cells.data.duplicates import same_images
from malaria_cells.data.labels import warn_of_meanings
from malaria_cells.data.leaks import check_apart, check_copies, group_copies
from malaria_cells.data.set_reading import SetAsRead, label_set, load, named_parts, own_parts, set_folder, training_file
from malaria_cells.data.single_cell_sets import separate_single_cells
from malaria_cells.data.splits import draw_images, split_images


@dataclass(frozen=True)
class DataSet:
    """The training, validation and test parts, none of which share a group of images.

    Attributes:
        train: the images that weights are fitted to.
        validation: the images on which the best epoch, calibration and thresholds are chosen.
        test: the images that nothing is chosen on; None where the config asks for no test part.
        single_cells: images of single cells, on which only classifiers are trained; None where there are none, or nothing but them.
    """

    train: AnnotationSet
    validation: AnnotationSet
    test: AnnotationSet | None
    single_cells: AnnotationSet | None = None

    def __post_init__(self) -> None:
        check_apart(self.parts, "the data set")

    @property
    def parts(self) -> dict[str, AnnotationSet]:
        """The parts that exist, by name."""
        by_name = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in by_name.items() if part is not None}

    @property
    def all_parts(self) -> dict[str, AnnotationSet]:
        """The parts and the single cells, by name: all data of a training."""
        return self.parts | ({} if self.single_cells is None else {"single-cell": self.single_cells})

    @property
    def all_images(self) -> AnnotationSet:
        """The images of all parts."""
        images = tuple(p for part in self.parts.values() for p in part.images)
        return replace(self.train, images=tuple(sorted(images, key=lambda p: p.key)))

    @property
    def all_cut(self) -> AnnotationSet:
        """The images of all parts and the single cells: all images that patches are cut from."""
        return joined([self.all_images, self.single_cells], self.train.labels)


def with_labels(config: Config) -> Config:
    """The config; if it has no labels, they are set to the categories in the annotation.

    Raises:
        InputError: as `load_data_set`.
    """
    if config.labels is not None:
        return config
    names: set[str] = set()
    for member in members(config):
        member_config = member.config
        with errors_named(member.name):
            root = set_folder(member_config, member.key)
            categories = read_categories(training_file(member_config, root), root=root, annotation_format=member_config.annotation_format)
        mapped = {member_config.label_map.get(name, name) for name in categories}
        one_of = member.entry.one_of if member.entry is not None else {}
        names |= {name for label in mapped for name in one_of.get(label, [label])}
    return config.model_copy(update={"labels": sorted(names - set(config.ignore_labels))})


def load_data_set(config: Config) -> DataSet:
    """Read and split the data set of a config; several sets are read and split one by one, then joined.

    The test part is the first of these that exists: the images of `test_annotations`; the ``test`` list of `split_file`; the data
    set's own test part (VOC's ImageSets, YOLO's data.yaml); a random fraction `test_size` of the groups. The validation part is
    the data set's own, or drawn from the rest. Copies of one image are one group when parts are drawn, also across data sets.
    `train_size` reduces the training part alone.

    Raises:
        InputError: the data set is absent (the message names the commands that provide one), a group or image is in two parts, or
            a reader rejects the annotation.
    """
    config = with_labels(config)
    labels, config_members = label_set(config), members(config)
    for member in config_members:
        with errors_named(member.name):
            set_folder(member.config, member.key)
    warn_of_meanings(labels, config.infected_labels is None, config.red_cell_labels is None)
    sets, single_cells = separate_single_cells(read_members(config_members, labels), labels)
    sets = _without_copies_apart(sets)
    rest, test = _test_parts(sets, config)
    if config.corrections is not None:
        rest = with_corrections(rest, test, _corrected(config), config.corrections)
        check_apart(named_parts(rest, test), f"corrections: {config.corrections}", "Leave such images out of the corrections")
    draws_test = config.test_size > 0 and any(data_set.test is None for data_set in sets.values())
    train, validation = _validation_parts(rest, sets, config, "do without a test (`test_size: 0`)" if draws_test else "")
    if config.train_size is not None and train.whole:
        train = draw_images(train, config.train_size, config.random_state)
    return DataSet(train, validation, test, single_cells)


def _without_copies_apart(sets: dict[str, SetAsRead]) -> dict[str, SetAsRead]:
    """The data sets, with all copies of an image in one group.

    Raises:
        InputError: copies are in two different parts that data sets define themselves.
    """
    images = [p for data_set in sets.values() for p in data_set.images.images]
    copied = [[images[i].key for i in copies] for copies in same_images(images)]
    labels = next(iter(sets.values())).rest.labels
    by_part: dict[str, list[AnnotationSet]] = defaultdict(list)
    for data_set in sets.values():
        parts = own_parts(data_set.rest)
        if data_set.test is not None or len(parts) > 1:
            for part, annotations in (parts | named_parts(None, data_set.test)).items():
                by_part[part].append(annotations)
    source = next(iter(sets.values())).source if len(sets) == 1 else "data_sets"
    check_copies({part: joined(several, labels) for part, several in by_part.items()}, copied, source)
    if len(sets) == 1:  # the check found no copy across its parts, so only the rest needs common groups
        return {name: replace(data_set, rest=group_copies(data_set.rest, copied)) for name, data_set in sets.items()}
    grouped = group_copies(joined([data_set.images for data_set in sets.values()], labels), copied)
    group_of = {p.key: p.group for p in grouped.images}

    def regrouped(annotations: AnnotationSet) -> AnnotationSet:
        return replace(annotations, images=tuple(replace(p, group=group_of[p.key]) for p in annotations.images))

    return {
        name: replace(data_set, rest=regrouped(data_set.rest), test=None if data_set.test is None else regrouped(data_set.test))
        for name, data_set in sets.items()
    }


def _test_parts(sets: dict[str, SetAsRead], config: Config) -> tuple[AnnotationSet, AnnotationSet | None]:
    """The non-test and test parts of all sets: parts that sets define themselves first, then a fraction of each other set."""
    with_test = [data_set for data_set in sets.values() if data_set.test is not None]
    for_training = {p.group for data_set in with_test for p in data_set.rest.images}
    for_test = {p.group for data_set in with_test if data_set.test is not None for p in data_set.test.images}
    parts: list[tuple[AnnotationSet, AnnotationSet | None]] = []
    for name, data_set in sets.items():
        if data_set.test is not None:
            parts.append((data_set.rest, data_set.test))
            continue
        if config.test_size == 0:  # copies of another set's test images must not be trained on
            parts.append(_without_groups(data_set.rest, for_test))
            continue
        with errors_named(name):
            parts.append(
                split_consistently(
                    data_set.rest, for_training, for_test, partial(split_images, fraction=config.test_size, seed=config.random_state)
                )
            )
    labels = parts[0][0].labels
    tests = [test for _, test in parts if test is not None]
    return joined([rest for rest, _ in parts], labels), joined(tests, labels) if tests else None


def _without_groups(rest: AnnotationSet, groups: set[str]) -> tuple[AnnotationSet, AnnotationSet | None]:
    """The images outside these groups, and the images within them or None."""
    held_out = {p.key for p in rest.images if p.group in groups}
    if not held_out:
        return rest, None
    return rest.subset({p.key for p in rest.images} - held_out), rest.subset(held_out)


def _validation_parts(rest: AnnotationSet, sets: dict[str, SetAsRead], config: Config, advice: str) -> tuple[AnnotationSet, AnnotationSet]:
    """The training and validation parts of all sets: the sets' own parts first, then a fraction of each other set."""
    own_parts_by_set = {name: own_parts(parts_of_set) for name, parts_of_set in (rest.by_data_set() or {"": rest}).items()}
    for_training: set[str] = set()
    for_validation: set[str] = set()
    for name, parts_of_set in own_parts_by_set.items():
        if len(parts_of_set) > 1:
            check_apart(parts_of_set, f"{sets[name].training}, whose own parts count")
            for_training |= groups_of(parts_of_set["train"].images)
            for_validation |= groups_of(parts_of_set["validation"].images)
    split = partial(split_images, fraction=config.validation_size, seed=config.random_state, advice=advice)
    parts = []
    for name, parts_of_set in own_parts_by_set.items():
        if len(parts_of_set) > 1:
            parts.append((parts_of_set["train"], parts_of_set["validation"]))
            continue
        with errors_named(name):
            parts.append(split_consistently(parts_of_set["train"], for_training, for_validation, split))
    return joined([train for train, _ in parts], rest.labels), joined([validation for _, validation in parts], rest.labels)


def _corrected(config: Config) -> AnnotationSet:
    path = Path(str(config.corrections))
    # Corrections usually come from another tool than the data set, so their format is recognised anew.
    return load(config.model_copy(update={"annotation_format": "auto"}), None, path)
