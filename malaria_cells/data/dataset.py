"""From a configuration to the annotated images of the training, validation and test parts."""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from malaria_cells.config import Config
from malaria_cells.data.annotations import AnnotationSet, found_categories
from malaria_cells.data.corrections import with_corrections
from malaria_cells.data.data_sets import errors_named, groups_of, joined, members, read_members, split_beside
from malaria_cells.data.duplicates import same_images
from malaria_cells.data.labels import warn_of_meanings
from malaria_cells.data.leaks import check_apart, check_copies, together
from malaria_cells.data.set_reading import SetAsRead, beside, label_set, load, own_parts, set_folder, training_file
from malaria_cells.data.single_cell_sets import parted
from malaria_cells.data.splits import draw_images, split_images


@dataclass(frozen=True)
class DataSet:
    """The three parts; no group of images is in two of them, however they were split.

    Attributes:
        train: what weights are fitted to.
        validation: what everything is chosen on: the best epoch, calibration, thresholds.
        test: never looked at while choosing; None where the config wants none.
        single_cells: images of single cells, which teach classifiers alone beside images; None: none, or there is nothing else.
    """

    train: AnnotationSet
    validation: AnnotationSet
    test: AnnotationSet | None
    single_cells: AnnotationSet | None = None

    def __post_init__(self) -> None:
        check_apart(self.parts, "the data set")

    @property
    def parts(self) -> dict[str, AnnotationSet]:
        """The parts that are there, by name."""
        by_name = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in by_name.items() if part is not None}

    @property
    def all_parts(self) -> dict[str, AnnotationSet]:
        """The parts and the single cells, by name: all that a training is begun with."""
        return self.parts | ({} if self.single_cells is None else {"single-cell": self.single_cells})

    @property
    def all_images(self) -> AnnotationSet:
        """All parts together."""
        images = tuple(p for part in self.parts.values() for p in part.images)
        return replace(self.train, images=tuple(sorted(images, key=lambda p: p.key)))

    @property
    def all_cut(self) -> AnnotationSet:
        """All parts and the single cells: all that patches are cut from."""
        return joined([self.all_images, self.single_cells], self.train.labels)


def with_labels(config: Config) -> Config:
    """The config, with the categories found as its labels where it names none.

    Raises:
        InputError: as `load_data_set`.
    """
    if config.labels is not None:
        return config
    names: set[str] = set()
    for member in members(config):
        own = member.config
        with errors_named(member.name):
            root = set_folder(own, member.key)
            found = found_categories(training_file(own, root), root=root, annotation_format=own.annotation_format)
        meant = {own.label_map.get(name, name) for name in found}
        one_of = member.entry.one_of if member.entry is not None else {}
        names |= {name for label in meant for name in one_of.get(label, [label])}
    return config.model_copy(update={"labels": sorted(names - set(config.ignore_labels))})


def load_data_set(config: Config) -> DataSet:
    """Read the data set that a config names and split it; of several sets each by itself, and then they are joined.

    The test part is, in this order: the images of `test_annotations`; the ``test`` list of `split_file`; what the data
    set itself calls its test part (VOC's ImageSets, YOLO's data.yaml); a random fraction `test_size` of the groups. The
    validation part is the data set's own, or drawn from the rest. Copies of one image count as one group where parts are drawn,
    in whatever set they are. `train_size` thins the training part alone.

    Raises:
        InputError: absent data set (names the commands that provide one), a group or image on two sides, or whatever the
            readers find wrong.
    """
    config = with_labels(config)
    labels, found = label_set(config), members(config)
    for member in found:
        with errors_named(member.name):
            set_folder(member.config, member.key)
    warn_of_meanings(labels, config.infected_labels is None, config.red_cell_labels is None)
    sets, single_cells = parted(read_members(found, labels), labels)
    sets = _without_copies_apart(sets)
    rest, test = _test_parts(sets, config)
    if config.corrections is not None:
        rest = with_corrections(rest, test, _corrected(config), config.corrections)
        check_apart(beside(rest, test), f"corrections: {config.corrections}", "Leave such images out of the corrections")
    drawn = config.test_size > 0 and any(own.test is None for own in sets.values())
    train, validation = _validation_parts(rest, sets, config, "do without a test (`test_size: 0`)" if drawn else "")
    if config.train_size is not None and train.whole:
        train = draw_images(train, config.train_size, config.random_state)
    return DataSet(train, validation, test, single_cells)


def _without_copies_apart(sets: dict[str, SetAsRead]) -> dict[str, SetAsRead]:
    """The sets, with one group for all copies of an image.

    Raises:
        InputError: copies are in two parts that sets name.
    """
    images = [p for own in sets.values() for p in own.images.images]
    copied = [[images[i].key for i in copies] for copies in same_images(images)]
    labels = next(iter(sets.values())).rest.labels
    by_part: dict[str, list[AnnotationSet]] = defaultdict(list)
    for own in sets.values():
        parts = own_parts(own.rest)
        if own.test is not None or len(parts) > 1:
            for part, annotations in (parts | beside(None, own.test)).items():
                by_part[part].append(annotations)
    source = next(iter(sets.values())).source if len(sets) == 1 else "data_sets"
    check_copies({part: joined(several, labels) for part, several in by_part.items()}, copied, source)
    if len(sets) == 1:  # no copy of an image of the test part is in the rest, whose groups alone matter then
        return {name: replace(own, rest=together(own.rest, copied)) for name, own in sets.items()}
    grouped = together(joined([own.images for own in sets.values()], labels), copied)
    group_of = {p.key: p.group for p in grouped.images}

    def regrouped(annotations: AnnotationSet) -> AnnotationSet:
        return replace(annotations, images=tuple(replace(p, group=group_of[p.key]) for p in annotations.images))

    return {
        name: replace(own, rest=regrouped(own.rest), test=None if own.test is None else regrouped(own.test)) for name, own in sets.items()
    }


def _test_parts(sets: dict[str, SetAsRead], config: Config) -> tuple[AnnotationSet, AnnotationSet | None]:
    """What may be trained on and the test part of all sets: first those that sets name, then a fraction of each other set."""
    named = [own for own in sets.values() if own.test is not None]
    for_training = {p.group for own in named for p in own.rest.images}
    for_test = {p.group for own in named if own.test is not None for p in own.test.images}
    parts: list[tuple[AnnotationSet, AnnotationSet | None]] = []
    for name, own in sets.items():
        if own.test is not None:
            parts.append((own.rest, own.test))
            continue
        if config.test_size == 0:  # copies of what another set tests on are no training images
            parts.append(_without_groups(own.rest, for_test))
            continue
        with errors_named(name):
            parts.append(
                split_beside(own.rest, for_training, for_test, partial(split_images, fraction=config.test_size, seed=config.random_state))
            )
    labels = parts[0][0].labels
    tests = [test for _, test in parts if test is not None]
    return joined([rest for rest, _ in parts], labels), joined(tests, labels) if tests else None


def _without_groups(rest: AnnotationSet, groups: set[str]) -> tuple[AnnotationSet, AnnotationSet | None]:
    """The images of other groups, and those of these groups, or None where there are none."""
    held_out = {p.key for p in rest.images if p.group in groups}
    if not held_out:
        return rest, None
    return rest.subset({p.key for p in rest.images} - held_out), rest.subset(held_out)


def _validation_parts(rest: AnnotationSet, sets: dict[str, SetAsRead], config: Config, advice: str) -> tuple[AnnotationSet, AnnotationSet]:
    """The training and validation part of all sets: first those that sets have of their own, then a fraction of each other set."""
    by_set = {name: own_parts(own) for name, own in (rest.by_data_set() or {"": rest}).items()}
    for_training: set[str] = set()
    for_validation: set[str] = set()
    for name, own in by_set.items():
        if len(own) > 1:
            check_apart(own, f"{sets[name].training}, whose own parts count")
            for_training |= groups_of(own["train"].images)
            for_validation |= groups_of(own["validation"].images)
    split = partial(split_images, fraction=config.validation_size, seed=config.random_state, advice=advice)
    parts = []
    for name, own in by_set.items():
        if len(own) > 1:
            parts.append((own["train"], own["validation"]))
            continue
        with errors_named(name):
            parts.append(split_beside(own["train"], for_training, for_validation, split))
    return joined([train for train, _ in parts], rest.labels), joined([validation for _, validation in parts], rest.labels)


def _corrected(config: Config) -> AnnotationSet:
    path = Path(str(config.corrections))
    # Corrections come from another tool than the data set, most often.
    return load(config.model_copy(update={"annotation_format": "auto"}), None, path)
