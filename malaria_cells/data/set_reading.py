"""From one data set's place to its images: what may be trained on, and the test part where anything names one."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.config import Config
from malaria_cells.data.annotations import AnnotationSet, load_annotations
from malaria_cells.data.annotations.recognition import TEST_NAMES, TRAINING_NAMES
from malaria_cells.data.corrections import group_below
from malaria_cells.data.labels import LabelSet
from malaria_cells.data.leaks import check_apart
from malaria_cells.data.split_file import read_parts, read_split

log = logging.getLogger(__name__)

SPLIT_NAMES = ("split.json",)


@dataclass(frozen=True)
class SetAsRead:
    """One data set, with the parts that it, or a file beside it, names.

    Attributes:
        rest: the images that may be trained on, those of a validation part of its own among them.
        test: the test part, or None where nothing names one.
        source: what named the parts, for errors.
        training: the annotation file or folder, for errors.
    """

    rest: AnnotationSet
    test: AnnotationSet | None
    source: str
    training: Path

    @property
    def images(self) -> AnnotationSet:
        """All images."""
        return self.rest if self.test is None else replace(self.rest, images=(*self.rest.images, *self.test.images))


def label_set(config: Config) -> LabelSet:
    """The config's labels with their meanings; see `with_labels` for a config that leaves them to the data."""
    return LabelSet(
        tuple(config.labels or ()),
        tuple(config.ignore_labels),
        tuple(config.infected),
        tuple(config.red_cells),
        tuple(config.label_map.items()),
    )


def read_set(config: Config, key: str = "train_images") -> SetAsRead:
    """Read the data set in a config's `train_images`.

    Args:
        config: of one data set.
        key: what the config calls the folder, for errors.

    Raises:
        InputError: no such folder, a group on two sides, or whatever the readers find wrong.
    """
    root = set_folder(config, key)
    training = training_file(config, root)
    rest, test, source = _named_test(config, root, training)
    check_apart(beside(rest, test), source)
    return SetAsRead(rest, test, source, training)


def _named_test(config: Config, root: Path, training: Path) -> tuple[AnnotationSet, AnnotationSet | None, str]:
    """The images that may be trained on, the test part where anything names one, and what did."""
    everything = load(config, root, training)
    test_file = _file(root, config.test_annotations, TEST_NAMES)
    if test_file is not None:
        if config.split_file is not None:
            unused = Path(str(_file(root, config.split_file, ())))
            read_parts(unused)  # a name with a typo is no less wrong for not being needed
            log.warning(f"{unused} is not used, since {test_file} names the test part; leave it out of the config, or move the other away")
        return _without_own_test(everything, test_file), _load_test(config, root, test_file), f"{test_file} beside {training}"
    split_file = _file(root, config.split_file, SPLIT_NAMES)
    if split_file is not None:
        rest, test = read_split(split_file, everything)
        return _for_training(rest, split_file), test, str(split_file)
    if _own_test(everything):
        return _part(everything, "train", "validation"), _part(everything, "test"), f"{training}, whose own parts count"
    return everything, None, f"{training}, whose own parts count"


def beside(rest: AnnotationSet | None, test: AnnotationSet | None) -> dict[str, AnnotationSet]:
    """The two as parts by name, as far as they are there."""
    return {name: part for name, part in (("train", rest), ("test", test)) if part is not None}


def own_parts(annotations: AnnotationSet) -> dict[str, AnnotationSet]:
    """Training and validation where the data set itself says which is which; else all in one."""
    if not any(p.part == "validation" for p in annotations.images):
        return {"train": annotations}
    return {name: _part(annotations, name) for name in ("train", "validation")}


def _part(annotations: AnnotationSet, *parts: str) -> AnnotationSet:
    """Images that the data set itself puts into these parts; those that it puts nowhere are for training."""
    return annotations.subset(p.key for p in annotations.images if (p.part or "train") in parts)


def _own_test(annotations: AnnotationSet) -> list[str]:
    """The images that the data set itself puts into its test part."""
    return [p.key for p in annotations.images if p.part == "test"]


def _without_own_test(everything: AnnotationSet, named: Path) -> AnnotationSet:
    """What may be trained on where the test part is another than the data set's own: not its own test part either."""
    own = _own_test(everything)
    if own:
        log.warning(
            f"{named} is the test part: {number_of(len(own), 'image')} of the part that the data set itself calls test "
            f"left out of training; first: {own[0]}"
        )
    return _part(everything, "train", "validation")


def _for_training(rest: AnnotationSet, split_file: Path) -> AnnotationSet:
    """What a split file puts into training, whatever the data set itself calls it."""
    own = _own_test(rest)
    if own:
        log.warning(
            f"{split_file}: its list for training counts, which has {number_of(len(own), 'image')} "
            f"of the part that the data set itself calls test; first: {own[0]}"
        )
    return replace(rest, images=tuple(replace(p, part=None) if p.part == "test" else p for p in rest.images))


def set_folder(config: Config, key: str = "train_images") -> Path:
    """The folder of a data set: of several that `train_images` lists, the first that exists.

    Raises:
        InputError: none exists; names the commands that provide one.
    """
    candidates = [config.train_images] if isinstance(config.train_images, str) else config.train_images
    for candidate in candidates:
        if Path(candidate).is_dir():
            return Path(candidate)
    for candidate in candidates:
        if Path(candidate).is_file():
            raise InputError(f"{key}: {candidate} is a file; name the folder of the data set, and the file, if need be, as `annotations`")
    raise InputError(
        f"{key}: no such folder: {', '.join(candidates)}.\n"
        "Fetch the data with `bash download.sh` (other sets by their name: `bash download.sh --list`), "
        "or render a small sample with `bash download.sh sample`."
    )


def training_file(config: Config, root: Path) -> Path:
    """The annotation file of a data set in the folder `root`, or the folder where none is named."""
    # Where the test's annotation lies beside the training's, each by its usual name, both are meant and no other is looked for.
    usual = TRAINING_NAMES if _file(root, None, TEST_NAMES) is not None else ()
    return _file(root, config.annotations, usual) or root


def _file(root: Path, named: str | None, usual: tuple[str, ...]) -> Path | None:
    if named is not None:
        path = Path(named)
        # Beside the images, or from here: both are what people write.
        return path if path.exists() or not (root / named).exists() else root / named
    return next((root / name for name in usual if (root / name).is_file()), None)


def _load_test(config: Config, root: Path, path: Path) -> AnnotationSet:
    if not path.is_dir():
        return load(config, root, path)
    # A folder of its own has names of its own, which may be those of training images: the folder's name keeps them apart.
    test = load(config, path, _file(path, None, TEST_NAMES) or path)
    named = tuple(replace(p, key=f"{path.name}/{p.key}", group=group_below(path.name, p)) for p in test.images)
    return replace(test, images=named)


def load(config: Config, root: Path | None, path: Path) -> AnnotationSet:
    """Read an annotation as a config says: its labels, format, groups and smallest boxes."""
    return load_annotations(
        path,
        label_set(config),
        root=root,
        annotation_format=config.annotation_format,
        group=config.group,
        min_box_size=config.min_box_size,
    )
