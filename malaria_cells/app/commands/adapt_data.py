"""The images that a model is adapted to, and the labels of the new model."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt, number_of
from malaria_cells.config import PARASITES, Config, OneSet, load_config, make_config
from malaria_cells.data.annotations import load_annotations, read_categories
from malaria_cells.data.dataset import load_data_set, with_labels
from malaria_cells.data.labels import LabelSet, warn_of_meanings
from malaria_cells.data.synonyms import likely, means
from malaria_cells.training.adaptation_result import AdaptationImages
from malaria_cells.training.start_model import RATE, StartModel, habits_of, with_start

log = logging.getLogger(__name__)

OLD = "old"  # prefix of the keys of the start model's training images
YAML = (".yaml", ".yml")
MAX_NAMES = 10  # names in a message


@dataclass(frozen=True)
class AdaptRequest:
    """The arguments of ``adapt``.

    Attributes:
        data: annotation file or folder of annotated images.
        model: folder of the start model.
        output: folder of the new model.
        images: folder of the images if it is not the folder of the annotation file.
        format_name: name of the annotation's format, or ``auto``.
        labels: all labels of the new model; None: the start model's and new categories of the data.
        infected_labels: labels that are infected red cells; None: the start model's, and new labels with the usual names of parasites.
        ignore_labels: categories to treat as ignore regions, in addition to the start model's.
        label_map: labels by category of the annotation.
        group: how images of one slide are recognised, see the config key.
        old_data: config or folder of the start model's training images.
        minutes: time limit of the whole run.
    """

    data: Path
    model: Path
    output: Path
    images: Path | None = None
    format_name: str = "auto"
    labels: list[str] | None = None
    infected_labels: list[str] | None = None
    ignore_labels: list[str] = field(default_factory=list)
    label_map: dict[str, str] = field(default_factory=dict)
    group: str | None = None
    old_data: Path | None = None
    minutes: float = 10.0


def config_of(request: AdaptRequest, start: StartModel) -> Config:
    """The config: the start model's with a lower learning rate, the new images and all labels.

    Raises:
        InputError: the data do not exist, hold no annotated cell, or have a category that may be another name of a label.
    """
    if not request.data.exists():
        raise InputError(f"{request.data}: no such file or folder; expected annotated images, such as a folder that run.py --review wrote")
    root = request.images or (request.data if request.data.is_dir() else request.data.parent)
    if not root.is_dir():
        raise InputError(f"--images {root}: no such folder; name the folder that holds the images")
    annotation = request.data if request.data != root else None
    annotations = load_annotations(request.data, None, root=request.images, annotation_format=request.format_name, warn=False)
    counts = list(zip(annotations.labels.names, annotations.class_counts, strict=True))
    # Categories without a cell, which some formats have for ignore regions only.
    ignored = [name for name, n in counts if not n and name not in start.description.labels.names]
    values: dict[str, Any] = {
        "start_from": str(request.model),
        "name": request.output.name,
        "output_models": str(request.output.parent),
        "train_images": str(root),
        "annotations": str(annotation) if annotation else None,
        "annotation_format": request.format_name,
        "group": request.group,
        "test_size": 0.0,
        "label_map": request.label_map,
        "ignore_labels": list(dict.fromkeys((*start.description.labels.ignored, *request.ignore_labels, *ignored))),
        "labels": labels_for([name for name, n in counts if n], request, start.description.labels),
    }
    if request.infected_labels is not None:
        values["infected_labels"] = request.infected_labels
    config = with_start(make_config({key: value for key, value in values.items() if value is not None}, "malaria-cells adapt"))
    habits = habits_of(start)
    return config.model_copy(update=habits | {"learning_rate": RATE * habits["learning_rate"]})


def labels_for(categories: list[str], request: AdaptRequest, known: LabelSet) -> list[str]:
    """The labels of the new model.

    Args:
        categories: categories of the annotation that have cells.
        request: labels, label map and ignored labels that the user gave.
        known: labels of the start model.

    Raises:
        InputError: a category may be another name of a label, or is not among the labels that the user gave.
    """
    ignored = {*known.ignored, *request.ignore_labels}
    labels = list(request.labels or known.names)
    clash = [name for name in request.ignore_labels if name in labels]
    if clash:
        raise InputError(f"--ignore-labels: '{clash[0]}' is a label of the model; to remove it, also name all other labels with --labels")
    if all(means(name, known.names) is None for name in labels):
        raise InputError(
            f"--labels: found {', '.join(excerpt(n) for n in labels[:MAX_NAMES])}, none of which is a label of the model "
            f"({', '.join(known.names)}); expected at least one of those, since the old and the new networks are compared on it"
        )
    mapped = [request.label_map.get(name, name) for name in categories]
    if not [name for name in mapped if name not in ignored]:
        raise InputError(f"{request.data}: holds no annotated cell; annotate all cells of a few images")
    new = [name for name in dict.fromkeys(mapped) if name not in labels and name not in ignored]
    synonyms = {name: guess for name in new if (guess := likely(name, (*labels, *sorted(ignored)))) is not None}
    if synonyms:
        pairs = ",".join(f"{name}={guess}" for name, guess in list(synonyms.items())[:MAX_NAMES])
        all_labels = ",".join(dict.fromkeys((*labels, *new)))
        raise InputError(
            f"{request.data}: {', '.join(excerpt(n) for n in list(synonyms)[:MAX_NAMES])}: not a label of the model, but may be another "
            f"name of one. If it is, add --label-map '{pairs}'. If it is a new class, name all labels: --labels '{all_labels}'. To leave "
            "such cells out, use --ignore-labels"
        )
    if request.labels is not None and new:
        raise InputError(
            f"{request.data}: category {excerpt(new[0])} is not in --labels ({', '.join(labels)}); add it, or leave such cells out with "
            f"--ignore-labels '{','.join(new[:MAX_NAMES])}'"
        )
    return labels + new


def load_images(request: AdaptRequest, config: Config) -> AdaptationImages:
    """Load the annotated images, and the start model's training images if the request names them.

    Raises:
        InputError: there are too few images, none has an annotated cell, or the annotation cannot be read.
    """
    data = load_data_set(config)
    images = tuple(sorted(data.train.images + data.validation.images, key=lambda p: p.key))
    annotated = replace(data.train, images=images)
    if annotated.whole:
        raise InputError(f"{request.data}: labels whole images; expected images whose cells are annotated with boxes")
    if not annotated.class_counts.sum():
        raise InputError(f"{request.data}: no annotated cell in {number_of(len(annotated), 'image')}; annotate all cells of a few images")
    if data.test is not None:
        log.warning(
            f"{request.data}: its own test part of {number_of(len(data.test), 'image')} is not used; "
            "run.py with --annotations and --split scores the new model on it"
        )
    old = _old_images(request.old_data, config, len(annotated)) if request.old_data else ()
    return AdaptationImages(annotated, data.test, replace(annotated, images=old))


def _old_images(path: Path, config: Config, max_images: int) -> tuple[Any, ...]:
    """Draw up to `max_images` of the start model's training images.

    Their keys begin with `OLD`. Categories that are no label of the new model become ignore regions.
    """
    if not path.exists():
        raise InputError(f"--old-data {path}: no such file or folder; name the config of a training, or a folder of annotated images")
    changes: dict[str, Any] = {
        "labels": config.labels,
        "infected_labels": config.infected_labels,
        "red_cell_labels": config.red_cell_labels,
    }
    if path.is_file() and path.suffix.lower() in YAML:
        old_config = with_labels(load_config(path))
        label_map = {name: name for name in (*(old_config.labels or ()), *old_config.ignore_labels)} | old_config.label_map
    elif path.is_dir():
        old_config = Config().model_copy(update={"train_images": str(path), "test_size": 0.0})
        label_map = {name: name for name in read_categories(path)}
    else:
        raise InputError(f"--old-data {path}: expected the config of a training (*.yaml), or a folder of annotated images")
    known = set(config.labels or ())
    absent = sorted({label for label in label_map.values() if label not in known and label not in config.ignore_labels})
    synonyms = [name for name in absent if likely(name, sorted(known)) is not None]
    if synonyms:
        raise InputError(
            f"--old-data {path}: '{synonyms[0]}' may be another name of '{likely(synonyms[0], sorted(known))}'; write a config of these "
            "data whose `label_map` says so, and name the config"
        )
    if absent:
        log.warning(f"--old-data {path}: {', '.join(absent[:MAX_NAMES])}: not a label of the new model, such cells are ignored")
    changes |= {"ignore_labels": list(dict.fromkeys((*config.ignore_labels, *absent)))}
    if old_config.data_sets is not None:
        changes |= {"data_sets": [_with_known_labels(entry, known) for entry in old_config.data_sets]}
    data = load_data_set(old_config.model_copy(update=changes))
    if data.single_cells is not None:
        single = number_of(len(data.single_cells), "image")
        log.warning(f"--old-data {path}: {single} of single cells left out; adapt trains on fields of view only")
    images = data.train.images + data.validation.images
    rows = sorted(np.random.default_rng(config.random_state).permutation(len(images))[:max_images].tolist())
    drawn = [images[i] for i in rows]
    return tuple(replace(p, key=f"{OLD}/{p.key}", group=f"{OLD}/{p.group}", part=None, data_set=OLD) for p in drawn)


def _with_known_labels(entry: OneSet, known: set[str]) -> OneSet:
    """A data set's entry without labels that the new model lacks.

    A list in which no label is known is replaced by its first label, which then is an ignore region.
    """
    label_map: dict[str, str | list[str]] = {}
    for category, labels in entry.label_map.items():
        remaining = labels if isinstance(labels, str) else [label for label in labels if label in known] or labels[:1]
        label_map[category] = remaining if isinstance(remaining, str) or len(remaining) > 1 else remaining[0]
    annotated = None if entry.annotated_labels is None else [label for label in entry.annotated_labels if label in known]
    return entry.model_copy(update={"label_map": label_map, "annotated_labels": annotated})


def print_summary(images: AdaptationImages, start: StartModel) -> None:
    """Print the number of images and cells and the new labels, and warn of new labels whose meaning is unclear."""
    annotated, known = images.annotated, start.description.labels
    counts = ", ".join(f"{name} {n:,}" for name, n in zip(annotated.labels.names, annotated.class_counts, strict=True) if n)
    print(f"{number_of(len(annotated), 'image')}, {number_of(int(annotated.class_counts.sum()), 'cell')}: {counts}")
    new = [name for name in annotated.labels.names if name not in known.names]
    if new:
        infected = [name for name in new if name in annotated.labels.infected]
        which_infected = f", {', '.join(infected)} infected" if infected else ", none of them infected" if known.infected else ""
        print(f"new labels: {', '.join(new)}{which_infected}")
        warn_of_meanings(annotated.labels, not set(annotated.labels.infected) - set(PARASITES), True)
    removed = [name for name in known.names if name not in annotated.labels.names]
    if removed:
        print(f"labels of the start model that the new model lacks: {', '.join(removed)}")
    if len(images.old.images):
        print(f"{number_of(len(images.old), 'image')} of the start model's training images are trained on too")
