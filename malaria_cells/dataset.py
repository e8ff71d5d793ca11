"""From a configuration to the annotated pictures of the training, validation and test parts."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from malaria_cells.annotations import AnnotationSet, Picture, found_categories, load_annotations
from malaria_cells.annotations.recognition import TEST_NAMES, TRAINING_NAMES
from malaria_cells.config import Config
from malaria_cells.copies import same_photographs
from malaria_cells.corrections import group_below, with_corrections
from malaria_cells.errors import InputError
from malaria_cells.labels import LabelSet, warn_of_meanings
from malaria_cells.leaks import check_apart, check_copies, together
from malaria_cells.split_file import read_split
from malaria_cells.splits import draw_pictures, split_pictures
from malaria_cells.wording import number_of

log = logging.getLogger(__name__)

SPLIT_NAMES = ("split.json",)


@dataclass(frozen=True)
class DataSet:
    """The three parts; no group of pictures is in two of them, however they were split.

    Attributes:
        train: what weights are fitted to.
        validation: what everything is chosen on: the best pass, calibration, thresholds.
        test: never looked at while choosing; None where the config wants none.
    """

    train: AnnotationSet
    validation: AnnotationSet
    test: AnnotationSet | None

    def __post_init__(self) -> None:
        check_apart(self.parts, "the data set")

    @property
    def parts(self) -> dict[str, AnnotationSet]:
        """The parts that are there, by name."""
        return {name: part for name, part in vars(self).items() if part is not None}

    @property
    def all_pictures(self) -> AnnotationSet:
        """All parts together."""
        pictures = tuple(p for part in self.parts.values() for p in part.pictures)
        return replace(self.train, pictures=tuple(sorted(pictures, key=lambda p: p.key)))


def label_set(config: Config) -> LabelSet:
    """The config's labels with their meanings; see `with_labels` for a config that leaves them to the data."""
    return LabelSet(
        tuple(config.labels or ()),
        tuple(config.ignore_labels),
        tuple(config.infected),
        tuple(config.red_cells),
        tuple(config.label_map.items()),
    )


def with_labels(config: Config) -> Config:
    """The config, with the categories found as its labels where it names none.

    Raises:
        InputError: as `load_data_set`.
    """
    if config.labels is not None:
        return config
    root = _root(config)
    found = found_categories(_training_file(config, root), root=root, annotation_format=config.annotation_format)
    names = sorted({config.label_map.get(name, name) for name in found} - set(config.ignore_labels))
    return config.model_copy(update={"labels": names})


def load_data_set(config: Config) -> DataSet:
    """Read the data set that a config names and split it.

    The test part is, in this order: the pictures of `test_annotations`; the ``test`` list of `split_file`; what the data
    set itself calls its test part (VOC's ImageSets, YOLO's data.yaml); a random share `test_size` of the groups. The
    validation part is the data set's own, or drawn from the rest. Copies of one photograph count as one group where parts are drawn.
    `train_size` thins the training part alone.

    Raises:
        InputError: absent data set (names the commands that provide one), a group or photograph on two sides, or whatever the
            readers find wrong.
    """
    config = with_labels(config)
    root = _root(config)
    training = _training_file(config, root)
    warn_of_meanings(label_set(config), config.infected_labels is None, config.red_cell_labels is None)
    rest, test, source = _named_test(config, root, training)
    check_apart(_beside(rest, test), source)
    photographs = _same_photographs(rest.pictures + (test.pictures if test is not None else ()))
    check_copies(_own_parts(rest) | _beside(None, test), photographs, source)
    rest = together(rest, photographs)
    advice = ""
    if test is None and config.test_size > 0:
        advice = "do without a test (`test_size: 0`)"
        rest, test = split_pictures(rest, config.test_size, config.random_state)
    if config.corrections is not None:
        rest = with_corrections(rest, test, _corrected(config), config.corrections)
        check_apart(_beside(rest, test), f"corrections: {config.corrections}", "Leave such pictures out of the corrections")
    own = _own_parts(rest)
    if len(own) > 1:
        check_apart(own, f"{training}, whose own parts count")
        train, validation = own["train"], own["validation"]
    else:
        train, validation = split_pictures(rest, config.validation_size, config.random_state, advice)
    if config.train_size is not None and train.whole:
        train = draw_pictures(train, config.train_size, config.random_state)
    return DataSet(train, validation, test)


def _named_test(config: Config, root: Path, training: Path) -> tuple[AnnotationSet, AnnotationSet | None, str]:
    """The pictures that may be trained on, the test part where anything names one, and what did."""
    everything = _load(config, root, training)
    test_file = _file(root, config.test_annotations, TEST_NAMES)
    if test_file is not None:
        return _without_own_test(everything, test_file), _load_test(config, root, test_file), f"{test_file} beside {training}"
    split_file = _file(root, config.split_file, SPLIT_NAMES)
    if split_file is not None:
        rest, test = read_split(split_file, everything)
        return _for_training(rest, split_file), test, str(split_file)
    if _own_test(everything):
        return _part(everything, "train", "validation"), _part(everything, "test"), f"{training}, whose own parts count"
    return everything, None, f"{training}, whose own parts count"


def _beside(rest: AnnotationSet | None, test: AnnotationSet | None) -> dict[str, AnnotationSet]:
    return {name: part for name, part in (("train", rest), ("test", test)) if part is not None}


def _own_parts(annotations: AnnotationSet) -> dict[str, AnnotationSet]:
    """Training and validation where the data set itself says which is which; else all in one."""
    if not any(p.part == "validation" for p in annotations.pictures):
        return {"train": annotations}
    return {name: _part(annotations, name) for name in ("train", "validation")}


def _part(annotations: AnnotationSet, *parts: str) -> AnnotationSet:
    """Pictures that the data set itself puts into these parts; those that it puts nowhere are for training."""
    return annotations.subset(p.key for p in annotations.pictures if (p.part or "train") in parts)


def _own_test(annotations: AnnotationSet) -> list[str]:
    """The pictures that the data set itself puts into its test part."""
    return [p.key for p in annotations.pictures if p.part == "test"]


def _without_own_test(everything: AnnotationSet, named: Path) -> AnnotationSet:
    """What may be trained on where the test part is another than the data set's own: not its own test part either."""
    own = _own_test(everything)
    if own:
        log.warning(
            f"{named} is the test part: {number_of(len(own), 'picture')} of the part that the data set itself calls test "
            f"left out of training; first: {own[0]}"
        )
    return _part(everything, "train", "validation")


def _for_training(rest: AnnotationSet, split_file: Path) -> AnnotationSet:
    """What a split file puts into training, whatever the data set itself calls it."""
    own = _own_test(rest)
    if own:
        log.warning(
            f"{split_file}: its list for training counts, which has {number_of(len(own), 'picture')} "
            f"of the part that the data set itself calls test; first: {own[0]}"
        )
    return replace(rest, pictures=tuple(replace(p, part=None) if p.part == "test" else p for p in rest.pictures))


def _same_photographs(pictures: Sequence[Picture]) -> list[list[str]]:
    return [[pictures[i].key for i in copies] for copies in same_photographs(pictures)]


def _root(config: Config) -> Path:
    candidates = [config.train_images] if isinstance(config.train_images, str) else config.train_images
    for candidate in candidates:
        if Path(candidate).is_dir():
            return Path(candidate)
    for candidate in candidates:
        if Path(candidate).is_file():
            raise InputError(
                f"train_images: {candidate} is a file; name the folder of the data set, and the file, if need be, as `annotations`"
            )
    raise InputError(
        f"train_images: no such folder: {', '.join(candidates)}.\n"
        "Fetch the data with `bash download.sh` (other sets by their name: `bash download.sh --list`), "
        "or render a small sample with `bash download.sh sample`."
    )


def _training_file(config: Config, root: Path) -> Path:
    # Where the test's annotation lies beside the training's, each by its usual name, both are meant and no other is looked for.
    usual = TRAINING_NAMES if _file(root, None, TEST_NAMES) is not None else ()
    return _file(root, config.annotations, usual) or root


def _file(root: Path, named: str | None, usual: tuple[str, ...]) -> Path | None:
    if named is not None:
        path = Path(named)
        # Beside the pictures, or from here: both are what people write.
        return path if path.exists() or not (root / named).exists() else root / named
    return next((root / name for name in usual if (root / name).is_file()), None)


def _load_test(config: Config, root: Path, path: Path) -> AnnotationSet:
    if not path.is_dir():
        return _load(config, root, path)
    # A folder of its own has names of its own, which may be those of training pictures: the folder's name keeps them apart.
    test = _load(config, path, _file(path, None, TEST_NAMES) or path)
    named = tuple(replace(p, key=f"{path.name}/{p.key}", group=group_below(path.name, p)) for p in test.pictures)
    return replace(test, pictures=named)


def _corrected(config: Config) -> AnnotationSet:
    path = Path(str(config.corrections))
    # Corrections come from another tool than the data set, most often.
    return _load(config.model_copy(update={"annotation_format": "auto"}), None, path)


def _load(config: Config, root: Path | None, path: Path) -> AnnotationSet:
    return load_annotations(
        path,
        label_set(config),
        root=root,
        annotation_format=config.annotation_format,
        group=config.group,
        min_box_size=config.min_box_size,
    )
