"""The trainings of a detector's classifiers: of the first look, of the second, and of both further with the validation pictures."""

import sys
from dataclasses import replace

import numpy as np

from malaria_cells.config import Config
from malaria_cells.training.classifier import Trained, TrainingData, train_classifier
from malaria_cells.training.unfinished import UnfinishedRun

NAMES = ("first", "second")
RATE = 0.5  # of the learning rate, where a training further begins


def train_looks(data: TrainingData, config: Config, run: UnfinishedRun) -> list[Trained]:
    """Train the classifier that a config names and, if it has a second look, that one's.

    Args:
        data: to fit to and to compare passes on.
        config: the recipe.
        run: its parts 0 and 1 are the records of the two.

    Raises:
        InputError: as `train_classifier`.
    """
    found = []
    for number, look in enumerate(config.looks):
        if config.second_look:
            print(f"training {look.model} for the {NAMES[number]} look", file=sys.stderr)
        found.append(train_classifier(data, look, run.part(number)))
    return found


def train_further(trained: list[Trained], data: TrainingData, more_rows: np.ndarray, config: Config, run: UnfinishedRun) -> list[Trained]:
    """Train them on, now also with pictures that choices were made by: for a share of their passes, at a falling rate.

    Cheaper than to begin anew, since what was learnt is kept. There is nothing left to compare passes on, so the last is taken.

    Args:
        trained: by `train_looks`; they stay as they are.
        data: what they were trained on.
        more_rows: int64 (n,), rows of its store to fit to as well.
        config: the recipe; its `refit` is the share.
        run: its parts after those of `train_looks` are the records.

    Raises:
        InputError: as `train_classifier`.
    """
    together = replace(data, train_rows=np.concatenate([data.train_rows, more_rows]), validation_rows=None)
    found = []
    for number, (look, before) in enumerate(zip(config.looks, trained, strict=True)):
        print(f"training {look.model} further, with the validation pictures", file=sys.stderr)
        changes = {"epochs": max(round(config.refit * look.epochs), 1), "learning_rate": RATE * look.learning_rate, "schedule": "cosine"}
        again = look.model_copy(update=changes | {"early_stopping": None, "kept_weights": "last"})
        found.append(train_classifier(together, again, run.part(len(trained) + number), before.model))
    return found
