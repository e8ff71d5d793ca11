"""From a configuration to the annotated pictures of the training, validation and test parts."""

from dataclasses import dataclass, replace
from pathlib import Path

from malaria_cells.annotations import AnnotationSet, find_annotation, found_categories, load_annotations
from malaria_cells.config import Config
from malaria_cells.corrections import with_corrections
from malaria_cells.errors import InputError
from malaria_cells.labels import LabelSet
from malaria_cells.splits import draw_pictures, read_split, split_pictures

TRAINING_NAMES = ("training.json", "annotations.json", "_annotations.coco.json", "data.yaml", "train.csv")
TEST_NAMES = ("test.json",)
SPLIT_NAMES = ("split.json",)


@dataclass(frozen=True)
class DataSet:
    """The three parts; no group of pictures is in two of them.

    Attributes:
        train: what weights are fitted to.
        validation: what everything is chosen on: the best pass, calibration, thresholds.
        test: never looked at while choosing; None where the config wants none.
    """

    train: AnnotationSet
    validation: AnnotationSet
    test: AnnotationSet | None

    @property
    def parts(self) -> dict[str, AnnotationSet]:
        """The parts that are there, by name."""
        return {name: part for name, part in vars(self).items() if part is not None}

    @property
    def all_pictures(self) -> AnnotationSet:
        """All parts together."""
        pictures = tuple(p for part in self.parts.values() for p in part.pictures)
        return AnnotationSet(self.train.labels, tuple(sorted(pictures, key=lambda p: p.key)), self.train.oddities)


def label_set(config: Config) -> LabelSet:
    """The config's labels with their meanings; see `with_labels` for a config that leaves them to the data."""
    return LabelSet(tuple(config.labels or ()), tuple(config.ignore_labels), tuple(config.infected), tuple(config.red_cells))


def with_labels(config: Config) -> Config:
    """The config, with the categories found as its labels where it names none.

    Raises:
        InputError: as `load_data_set`.
    """
    if config.labels is not None:
        return config
    root = _root(config)
    found = found_categories(_training_file(config, root), root=root, annotation_format=config.annotation_format)
    return config.model_copy(update={"labels": [name for name in found if name not in config.ignore_labels]})


def load_data_set(config: Config) -> DataSet:
    """Read the data set that a config names and split it.

    The test part is, in this order: the pictures of `test_annotations`; the ``test`` list of `split_file`; what the data
    set itself calls its test part (VOC's ImageSets, YOLO's data.yaml); a random share `test_size` of the groups. The
    validation part is the data set's own, or drawn from the rest.

    Raises:
        InputError: absent data set (names the commands that provide one), or whatever the readers find wrong.
    """
    config = with_labels(config)
    root = _root(config)
    training = _training_file(config, root)
    everything = _load(config, root, training)
    if config.train_size is not None and everything.whole:
        everything = draw_pictures(everything, config.train_size, config.random_state)
    test_file = _file(root, config.test_annotations, TEST_NAMES)
    split_file = _file(root, config.split_file, SPLIT_NAMES)
    test: AnnotationSet | None
    if test_file is not None:
        rest, test = everything, _load_test(config, root, test_file)
        shared = {p.group for p in rest.pictures} & {p.group for p in test.pictures}
        if shared:
            raise InputError(f"{test_file}: '{sorted(shared)[0]}' is in {training} too; a picture or group belongs to one part")
    elif split_file is not None:
        rest, test = read_split(split_file, everything)
    elif any(p.part == "test" for p in everything.pictures):
        rest, test = _part(everything, "train", "validation"), _part(everything, "test")
    elif config.test_size > 0:
        rest, test = split_pictures(everything, config.test_size, config.random_state)
    else:
        rest, test = everything, None
    if config.corrections is not None:
        rest = with_corrections(rest, test, _corrected(config), config.corrections)
    if any(p.part == "validation" for p in rest.pictures):
        return DataSet(_part(rest, "train"), _part(rest, "validation"), test)
    train, validation = split_pictures(rest, config.validation_size, config.random_state)
    return DataSet(train, validation, test)


def _part(annotations: AnnotationSet, *parts: str) -> AnnotationSet:
    """Pictures that the data set itself puts into these parts; those that it puts nowhere are for training."""
    return annotations.subset(p.key for p in annotations.pictures if (p.part or "train") in parts)


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
    found = _file(root, config.annotations, ()) or find_annotation(root, TRAINING_NAMES)
    if found is None:
        raise InputError(
            f"{root}: holds no {', '.join(TRAINING_NAMES)}, no VOC folder and no folder a class.\n"
            "Name the annotation file with `annotations:` in the config or --set annotations=FILE."
        )
    return found


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
    test = _load(config, path, path)
    return replace(test, pictures=tuple(replace(p, key=f"{path.name}/{p.key}", group=f"{path.name}/{p.group}") for p in test.pictures))


def _corrected(config: Config) -> AnnotationSet:
    path = Path(str(config.corrections))
    root = path if path.is_dir() else path.parent
    return _load(config, root, find_annotation(path, TRAINING_NAMES) or path if path.is_dir() else path)


def _load(config: Config, root: Path, path: Path) -> AnnotationSet:
    return load_annotations(
        path,
        label_set(config),
        root=root,
        annotation_format=config.annotation_format,
        group=config.group,
        min_box_size=config.min_box_size,
    )
