"""Reads one data set from its folder, with its test part if there is one."""

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

SPLIT_NAMES = ("split.json",)  # names of a split file that is used without being set in the config


@dataclass(frozen=True)
class SetAsRead:
    """One data set, with the parts that it or a file beside it defines.

    Attributes:
        rest: all images outside the test part; the data set's own validation part is included.
        test: the test part, or None if nothing defines one.
        source: the file or folder that defines the parts, for errors.
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
    """The config's labels with their meanings; `with_labels` fills in the labels of a config without any."""
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
        config: config of one data set.
        key: the config's key of the folder, for errors.

    Raises:
        InputError: the folder does not exist, a group is in two parts, or a reader rejects the annotation.
    """
    root = set_folder(config, key)
    training = training_file(config, root)
    rest, test, source = _named_test(config, root, training)
    check_apart(named_parts(rest, test), source)
    return SetAsRead(rest, test, source, training)


def _named_test(config: Config, root: Path, training: Path) -> tuple[AnnotationSet, AnnotationSet | None, str]:
    """The images outside the test part, the test part or None, and the source that defines it."""
    annotations = load(config, root, training)
    test_file = _file(root, config.test_annotations, TEST_NAMES)
    if test_file is not None:
        if config.split_file is not None:
            unused = Path(str(_file(root, config.split_file, ())))
            read_parts(unused)  # so that a wrong file name is reported even though the file is not used
            log.warning(
                f"{unused} is not used, since {test_file} defines the test part; remove split_file from the config or move {test_file} away"
            )
        return _without_own_test(annotations, test_file), _load_test(config, root, test_file), f"{test_file} beside {training}"
    split_file = _file(root, config.split_file, SPLIT_NAMES)
    if split_file is not None:
        rest, test = read_split(split_file, annotations)
        return _for_training(rest, split_file), test, str(split_file)
    if _own_test(annotations):
        return _part(annotations, "train", "validation"), _part(annotations, "test"), f"{training}, whose own parts count"
    return annotations, None, f"{training}, whose own parts count"


def named_parts(rest: AnnotationSet | None, test: AnnotationSet | None) -> dict[str, AnnotationSet]:
    """The given parts by name, without those that are None."""
    return {name: part for name, part in (("train", rest), ("test", test)) if part is not None}


def own_parts(annotations: AnnotationSet) -> dict[str, AnnotationSet]:
    """The data set's own training and validation part; if it has no validation part, all images as the training part."""
    if not any(p.part == "validation" for p in annotations.images):
        return {"train": annotations}
    return {name: _part(annotations, name) for name in ("train", "validation")}


def _part(annotations: AnnotationSet, *parts: str) -> AnnotationSet:
    """The images in these of the data set's own parts; images without a part belong to the training part."""
    return annotations.subset(p.key for p in annotations.images if (p.part or "train") in parts)


def _own_test(annotations: AnnotationSet) -> list[str]:
    """Keys of the images in the data set's own test part."""
    return [p.key for p in annotations.images if p.part == "test"]


def _without_own_test(annotations: AnnotationSet, named: Path) -> AnnotationSet:
    """The training images if `named` defines the test part: the data set's own test part is left out, too."""
    test_keys = _own_test(annotations)
    if test_keys:
        log.warning(
            f"{named} is the test part: {number_of(len(test_keys), 'image')} of the data set's own test part "
            f"left out of training; first: {test_keys[0]}"
        )
    return _part(annotations, "train", "validation")


def _for_training(rest: AnnotationSet, split_file: Path) -> AnnotationSet:
    """The training images of a split file, which overrides the data set's own parts."""
    test_keys = _own_test(rest)
    if test_keys:
        log.warning(
            f"{split_file}: its training list is used although it has {number_of(len(test_keys), 'image')} "
            f"of the data set's own test part; first: {test_keys[0]}"
        )
    return replace(rest, images=tuple(replace(p, part=None) if p.part == "test" else p for p in rest.images))


def set_folder(config: Config, key: str = "train_images") -> Path:
    """The folder of a data set; if `train_images` lists several, the first that exists.

    Raises:
        InputError: no folder exists; the message names the commands that provide one.
    """
    candidates = [config.train_images] if isinstance(config.train_images, str) else config.train_images
    for candidate in candidates:
        if Path(candidate).is_dir():
            return Path(candidate)
    for candidate in candidates:
        if Path(candidate).is_file():
            raise InputError(
                f"{key}: {candidate} is a file; give the data set's folder here, and the file in `annotations` if it is the annotation"
            )
    raise InputError(
        f"{key}: no such folder: {', '.join(candidates)}.\n"
        "Fetch the data with `bash download.sh` (other sets by their name: `bash download.sh --list`), "
        "or render a small sample with `bash download.sh sample`."
    )


def training_file(config: Config, root: Path) -> Path:
    """The annotation file of the data set in folder `root`, or the folder itself if no file is named."""
    # If the annotations of training and test lie side by side under their usual names, these two are used without a search.
    default_names = TRAINING_NAMES if _file(root, None, TEST_NAMES) is not None else ()
    return _file(root, config.annotations, default_names) or root


def _file(root: Path, named: str | None, default_names: tuple[str, ...]) -> Path | None:
    if named is not None:
        path = Path(named)
        # The path may be relative to the data set's folder or to the working directory.
        return path if path.exists() or not (root / named).exists() else root / named
    return next((root / name for name in default_names if (root / name).is_file()), None)


def _load_test(config: Config, root: Path, path: Path) -> AnnotationSet:
    if not path.is_dir():
        return load(config, root, path)
    # Images of a separate test folder may have the names of training images; the folder's name in the key distinguishes them.
    test = load(config, path, _file(path, None, TEST_NAMES) or path)
    images = tuple(replace(p, key=f"{path.name}/{p.key}", group=group_below(path.name, p)) for p in test.images)
    return replace(test, images=images)


def load(config: Config, root: Path | None, path: Path) -> AnnotationSet:
    """Read an annotation with the labels, format, grouping and minimum box size of a config."""
    return load_annotations(
        path,
        label_set(config),
        root=root,
        annotation_format=config.annotation_format,
        group=config.group,
        min_box_size=config.min_box_size,
    )
