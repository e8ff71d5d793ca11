"""The images that a model is adapted to, their labels among them: the model's, and what is new."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from malaria_cells.base.errors import InputError
from malaria_cells.base.text import excerpt, number_of
from malaria_cells.config import PARASITES, Config, OneSet, load_config, make_config
from malaria_cells.data.annotations import AnnotationSet, found_categories, load_annotations
from malaria_cells.data.dataset import load_data_set, with_labels
from malaria_cells.data.labels import LabelSet, warn_of_meanings
from malaria_cells.data.synonyms import likely, means
from malaria_cells.training.start_model import RATE, StartModel, habits_of, with_start

log = logging.getLogger(__name__)

OLD = "old"  # begins the keys of images that the start model was trained on
YAML = (".yaml", ".yml")
MOST_SAID = 10  # names in a message


@dataclass(frozen=True)
class AdaptRequest:
    """What a person asked for.

    Attributes:
        data: annotated images: a file or a folder.
        model: folder of the model to go on from.
        output: folder of the new model.
        images: folder of the images, where `data` is a file that lies elsewhere.
        format_name: format of the annotation, or ``auto``.
        labels: all class names of the new model; None: the model's and those that are new in the data.
        infected_labels: those that are infected red cells; None: as the model has it, and the usual names of parasites.
        ignore_labels: further categories that are ignore regions.
        label_map: names of the annotation, and the labels that they stand for.
        group: see the key of the configuration.
        old_data: config or folder of images that the model was trained on.
        minutes: that all of it may take.
    """

    data: Path
    model: Path
    output: Path
    images: Path | None = None
    format: str = "auto"
    labels: list[str] | None = None
    infected_labels: list[str] | None = None
    ignore_labels: list[str] = field(default_factory=list)
    label_map: dict[str, str] = field(default_factory=dict)
    group: str | None = None
    old_data: Path | None = None
    minutes: float = 10.0


@dataclass(frozen=True)
class AdaptationImages:
    """What is adapted to.

    Attributes:
        annotated: the images.
        test: what the data set itself calls its test part, which is left alone; or None.
        old: images that the start model was trained on; may be empty.
    """

    annotated: AnnotationSet
    test: AnnotationSet | None
    old: AnnotationSet


def config_of(request: AdaptRequest, start: StartModel) -> Config:
    """The recipe: the start model's, at a lower rate; with the images and all labels.

    Raises:
        InputError: no such data, no label in it, or a label of which it is not clear what it means.
    """
    if not request.data.exists():
        raise InputError(f"{request.data}: no such file or folder; expected annotated images, such as a folder that run.py --review wrote")
    root = request.images or (request.data if request.data.is_dir() else request.data.parent)
    if not root.is_dir():
        raise InputError(f"--images {root}: no such folder of images")
    annotation = request.data if request.data != root else None
    found = load_annotations(request.data, None, root=request.images, annotation_format=request.format, warn=False)
    named = list(zip(found.labels.names, found.class_counts, strict=True))
    # Some formats have a category for ignore regions alone.
    ignored = [name for name, n in named if not n and name not in start.description.labels.names]
    values: dict[str, Any] = {
        "start_from": str(request.model),
        "name": request.output.name,
        "output_models": str(request.output.parent),
        "train_images": str(root),
        "annotations": str(annotation) if annotation else None,
        "annotation_format": request.format,
        "group": request.group,
        "test_size": 0.0,
        "label_map": request.label_map,
        "ignore_labels": list(dict.fromkeys((*start.description.labels.ignored, *request.ignore_labels, *ignored))),
        "labels": labels_for([name for name, n in named if n], request, start.description.labels),
    }
    if request.infected_labels is not None:
        values["infected_labels"] = request.infected_labels
    config = with_start(make_config({key: value for key, value in values.items() if value is not None}, "malaria-cells adapt"))
    habits = habits_of(start)
    return config.model_copy(update=habits | {"learning_rate": RATE * habits["learning_rate"]})


def labels_for(found: list[str], request: AdaptRequest, known: LabelSet) -> list[str]:
    """The labels of the new model.

    Args:
        found: categories of the annotation.
        request: for names that a person gave.
        known: of the start model.

    Raises:
        InputError: a category that may be another writing of a label, or one that is in none of the labels that were named.
    """
    ignored = {*known.ignored, *request.ignore_labels}
    labels = list(request.labels or known.names)
    clash = [name for name in request.ignore_labels if name in labels]
    if clash:
        raise InputError(f"--ignore-labels: '{clash[0]}' is a label of the model; leave it out of --labels too, to let the model forget it")
    if all(means(name, known.names) is None for name in labels):
        raise InputError(
            f"--labels: found {', '.join(excerpt(n) for n in labels[:MOST_SAID])}, none of which is a label of the model "
            f"({', '.join(known.names)}); expected one or more of those, by which the old and the new networks can be compared"
        )
    meant = [request.label_map.get(name, name) for name in found]
    if not [name for name in meant if name not in ignored]:
        raise InputError(f"{request.data}: holds no annotated cell; annotate all cells of a few images")
    new = [name for name in dict.fromkeys(meant) if name not in labels and name not in ignored]
    asked = {name: guess for name in new if (guess := likely(name, (*labels, *sorted(ignored)))) is not None}
    if asked:
        pairs = ",".join(f"{name}={guess}" for name, guess in list(asked.items())[:MOST_SAID])
        every = ",".join(dict.fromkeys((*labels, *new)))
        raise InputError(
            f"{request.data}: {', '.join(excerpt(n) for n in list(asked)[:MOST_SAID])}: no label of the model, but may be another name of "
            f"one. If so, add --label-map '{pairs}'. If it is a class of its own, name all labels: --labels '{every}'. Cells of no "
            f"interest are left out by --ignore-labels"
        )
    if request.labels is not None and new:
        raise InputError(
            f"{request.data}: category {excerpt(new[0])} is not in --labels ({', '.join(labels)}); add it, or leave such cells out by "
            f"--ignore-labels '{','.join(new[:MOST_SAID])}'"
        )
    return labels + new


def images(request: AdaptRequest, config: Config) -> AdaptationImages:
    """Read them.

    Raises:
        InputError: too few, none with a cell, or as the readers find.
    """
    data = load_data_set(config)
    together = tuple(sorted(data.train.images + data.validation.images, key=lambda p: p.key))
    annotated = replace(data.train, images=together)
    if annotated.whole:
        raise InputError(f"{request.data}: its labels are of whole images; a detector is adapted to images whose cells have boxes")
    if not annotated.class_counts.sum():
        raise InputError(f"{request.data}: no annotated cell in {number_of(len(annotated), 'image')}; annotate all cells of a few")
    if data.test is not None:
        log.warning(
            f"{request.data}: {number_of(len(data.test), 'image')} of its own test part left out; "
            "run.py --annotations with --split scores the new model on them"
        )
    old = _old(request.old_data, config, len(annotated)) if request.old_data else ()
    return AdaptationImages(annotated, data.test, replace(annotated, images=old))


def _old(path: Path, config: Config, most: int) -> tuple[Any, ...]:
    """As many old images as there are new ones, with keys of their own; categories that the labels lack are ignore regions."""
    if not path.exists():
        raise InputError(f"--old-data {path}: no such file or folder; name a training's config, or a folder of annotated images")
    own: dict[str, Any] = {"labels": config.labels, "infected_labels": config.infected_labels, "red_cell_labels": config.red_cell_labels}
    if path.is_file() and path.suffix.lower() in YAML:
        theirs = with_labels(load_config(path))
        names = {name: name for name in (*(theirs.labels or ()), *theirs.ignore_labels)} | theirs.label_map
    elif path.is_dir():
        theirs = Config().model_copy(update={"train_images": str(path), "test_size": 0.0})
        names = {name: name for name in found_categories(path)}
    else:
        raise InputError(f"--old-data {path}: expected a training's config (*.yaml), or a folder of annotated images")
    known = set(config.labels or ())
    absent = sorted({meant for meant in names.values() if meant not in known and meant not in config.ignore_labels})
    asked = [name for name in absent if likely(name, sorted(known)) is not None]
    if asked:
        raise InputError(
            f"--old-data {path}: '{asked[0]}' may be another name of '{likely(asked[0], sorted(known))}'; write a config of that data "
            "with a `label_map` that says so, and name the config"
        )
    if absent:
        log.warning(f"--old-data {path}: {', '.join(absent[:MOST_SAID])}: no label of the new model, such cells are left out")
    own |= {"ignore_labels": list(dict.fromkeys((*config.ignore_labels, *absent)))}
    if theirs.data_sets is not None:
        own |= {"data_sets": [_with_labels_alone(entry, known) for entry in theirs.data_sets]}
    data = load_data_set(theirs.model_copy(update=own))
    if data.single_cells is not None:
        single = number_of(len(data.single_cells), "image")
        log.warning(f"--old-data {path}: {single} of single cells left out; a model is adapted with images alone")
    every = data.train.images + data.validation.images
    chosen = sorted(np.random.default_rng(config.random_state).permutation(len(every))[:most].tolist())
    drawn = [every[i] for i in chosen]
    return tuple(replace(p, key=f"{OLD}/{p.key}", group=f"{OLD}/{p.group}", part=None, data_set=OLD) for p in drawn)


def _with_labels_alone(entry: OneSet, known: set[str]) -> OneSet:
    """A data set's entry without labels that the new model lacks; of a list without any, the first stands for an ignore region."""
    label_map: dict[str, str | list[str]] = {}
    for category, meant in entry.label_map.items():
        left = meant if isinstance(meant, str) else [label for label in meant if label in known] or meant[:1]
        label_map[category] = left if isinstance(left, str) or len(left) > 1 else left[0]
    annotated = None if entry.annotated_labels is None else [label for label in entry.annotated_labels if label in known]
    return entry.model_copy(update={"label_map": label_map, "annotated_labels": annotated})


def say_images(found: AdaptationImages, start: StartModel) -> None:
    """Say how many of what there are, which labels are new, and ask about their meaning."""
    annotated, known = found.annotated, start.description.labels
    counts = ", ".join(f"{name} {n:,}" for name, n in zip(annotated.labels.names, annotated.class_counts, strict=True) if n)
    print(f"{number_of(len(annotated), 'image')}, {number_of(int(annotated.class_counts.sum()), 'cell')}: {counts}")
    new = [name for name in annotated.labels.names if name not in known.names]
    if new:
        infected = [name for name in new if name in annotated.labels.infected]
        said = f", {', '.join(infected)} infected" if infected else ", none of them infected" if known.infected else ""
        print(f"new labels: {', '.join(new)}{said}")
        warn_of_meanings(annotated.labels, not set(annotated.labels.infected) - set(PARASITES), True)
    gone = [name for name in known.names if name not in annotated.labels.names]
    if gone:
        print(f"labels that the new model does not have: {', '.join(gone)}")
    if len(found.old.images):
        print(f"{number_of(len(found.old), 'image')} of what the model was trained on, too")
