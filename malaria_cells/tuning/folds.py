"""Folds of the training and validation images: which images each training holds out, and its model scored on them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malaria_cells.base.errors import InputError
from malaria_cells.base.progress import progress
from malaria_cells.config import Config
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.dataset import DataSet
from malaria_cells.data.splits import fold_images, split_images
from malaria_cells.evaluation import detection_metrics
from malaria_cells.fitting import run_folders
from malaria_cells.inference.model_description import ABOUT, file_fingerprint
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.model_yaml import load_description
from malaria_cells.results.training_report import write_training_files
from malaria_cells.training.train_model import Reporter, train_data_set


@dataclass(frozen=True)
class Fold:
    """A training of cross-validation.

    Attributes:
        name: name of the model folder.
        config: the recipe; its `output_models` is the folder of all folds.
        parts: the parts; the test part is the fold.
    """

    name: str
    config: Config
    parts: DataSet

    @property
    def folder(self) -> Path:
        """The model folder."""
        return Path(self.config.output_models) / self.name

    @property
    def held_out(self) -> AnnotationSet:
        """The images of the fold."""
        if self.parts.test is None:
            raise ValueError(f"{self.name} holds out no images")
        return self.parts.test


def images_to_fold(data: DataSet) -> AnnotationSet:
    """The images of a data set that are not in its test part."""
    return data.all_images.subset({p.key for part in (data.train, data.validation) for p in part.images})


def parts_of_folds(data: DataSet, folds: int, config: Config) -> list[DataSet]:
    """Divide the training and validation images into folds, and draw a validation part from the images outside each fold.

    Args:
        data: the data set; its test part is left alone.
        folds: number of folds.
        config: the recipe, whose seed and `validation_size` are used.

    Returns:
        The parts of each training; the test part is the fold.

    Raises:
        InputError: there are too few groups of images.
    """
    images = images_to_fold(data)
    parts = []
    for held_out in fold_images(images, folds, config.random_state):
        rest = images.subset({p.key for p in images.images} - {p.key for p in held_out.images})
        train, validation = split_images(rest, config.validation_size, config.random_state)
        parts.append(DataSet(train, validation, held_out, data.single_cells))
    return parts


def folds_of(config: Config, all_parts: list[DataSet]) -> list[Fold]:
    """The folds of a config, from the parts of each."""
    names = [f"fold{number}" for number in range(1, len(all_parts) + 1)]
    return [Fold(name, config.model_copy(update={"name": name}), parts) for name, parts in zip(names, all_parts, strict=True)]


def trained_and_scored(fold: Fold, report: Reporter = write_training_files) -> dict[str, Any]:
    """Train the model of a fold, unless it was trained before, and return its metrics on the fold.

    A training that was interrupted goes on, if it was one of this config and these images.

    Args:
        fold: the training.
        report: function that writes the report of the training.

    Raises:
        InputError: the config or the data are invalid, or the folder holds another model.
    """
    if not is_trained(fold.folder, fold.config, fold.parts):
        is_begun = run_folders.is_there(run_folders.folder_of(fold.folder.parent, fold.name))
        try:
            train_data_set(fold.name, fold.config, fold.parts, resume=is_begun, report=report)
        except run_folders.ResumeError:
            train_data_set(fold.name, fold.config, fold.parts, resume=False, report=report)
    return _score(fold.folder, fold.held_out)


def is_trained(folder: Path, config: Config, parts: DataSet) -> bool:
    """Whether the folder holds the model of this config and these images.

    Raises:
        InputError: the folder holds another model.
    """
    if not (folder / ABOUT).is_file():
        return False
    fingerprints = load_description(folder)[0].fingerprints
    expected = {"config": file_fingerprint(config.to_yaml())} | {part: images.fingerprint for part, images in parts.all_parts.items()}
    if any(fingerprints.get(key) != value for key, value in expected.items()):
        raise InputError(f"{folder}: holds a model of another config or other images; choose another --output, or remove the folder")
    print(f"{folder}: trained before")
    return True


def _score(folder: Path, held_out: AnnotationSet) -> dict[str, Any]:
    detector, description = load_detector(folder)
    if not description.has_background:
        return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["test"]
    images = list(held_out.images)
    detections = [detector.detect(p.path) for p in progress(images, len(images), "detecting", "image")]
    return detection_metrics(images, detections, held_out.labels, None).to_json()
