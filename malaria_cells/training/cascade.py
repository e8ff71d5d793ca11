"""The trainings of a detector's classifiers: of the first classifier, of the second, and of both further with the validation images."""

import sys
from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np

from malaria_cells.base.text import number_of
from malaria_cells.config import Config
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.classifier import inference_function
from malaria_cells.inference.tta import needs_refinement
from malaria_cells.training.fit_classifier import Trained, TrainingData, predict_rows, train_classifier

NAMES = ("classifier", "refiner")
RATE = 0.5  # of the learning rate, where a training further begins


def train_classifiers(
    data: TrainingData, is_infected: np.ndarray, config: Config, run: RunState, starts: Sequence[keras.Model | None] = ()
) -> list[Trained]:
    """Train the classifier that a config names and, if it has a refiner, that one's, which is shown the first one's mistakes.

    Args:
        data: to fit to and to compare epochs on.
        is_infected: bool (n_classes,), see `tta.needs_refinement`.
        config: the recipe.
        run: its parts 0 and 1 are the records of the two.
        starts: for each classifier the network whose weights it begins with, if there is one.

    Raises:
        InputError: as `train_classifier`.
    """
    found: list[Trained] = []
    for number, recipe in enumerate(config.classifiers):
        if config.refiner:
            print(f"training the {NAMES[number]}, {recipe.model}", file=sys.stderr)
        shown = _for_second(with_hard_examples(data, found[0], is_infected, recipe)) if found else data
        found.append(train_classifier(shown, recipe, run.part(number), starts[number] if starts else None))
    return found


def _for_second(data: TrainingData) -> TrainingData:
    """The same rows in the size that a refiner wants."""
    return data if data.refiner_store is None else replace(data, store=data.refiner_store)


def with_hard_examples(data: TrainingData, first: Trained, is_infected: np.ndarray, recipe: Config) -> TrainingData:
    """The same data, with the first classifier's false positives sampled as a separate class (hard-negative mining).

    At inference the second classifier sees only suspicious cells. On IML-Malaria's validation images a third of them are infected; with
    class-balanced sampling nine in ten would be.

    Args:
        data: to fit to.
        first: the first classifier.
        is_infected: bool (n_classes,); without an infected class nothing changes.
        recipe: the recipe of the second; if it does not draw by class nothing changes.
    """
    if recipe.balance != "sampling" or not is_infected.any():
        return data
    may_be_infected = (data.allowed & is_infected).any(axis=1)[data.store.class_ids[data.train_rows]]
    hint = needs_refinement(predict_rows([inference_function(first.model)], data.store, data.train_rows, 1, is_infected), is_infected)
    mistaken = hint & ~may_be_infected
    print(f"{number_of(int(mistaken.sum()), 'example')} that the first classifier suspects wrongly", file=sys.stderr)
    return replace(data, sampling_groups=np.where(mistaken, data.n_classes, data.drawn_by_label))


def train_further(
    trained: list[Trained], data: TrainingData, is_infected: np.ndarray, more_rows: np.ndarray, config: Config, run: RunState
) -> list[Trained]:
    """Train them on, now also with images that choices were made by: for a fraction of their epochs, at a falling rate.

    Cheaper than to begin anew, since what was learnt is kept. There is nothing left to compare epochs on, so the last is taken.

    Args:
        trained: by `train_classifiers`; they stay as they are.
        data: what they were trained on.
        is_infected: bool (n_classes,), see `tta.needs_refinement`.
        more_rows: int64 (n,), rows of its store to fit to as well.
        config: the recipe; its `refit` is the fraction.
        run: its parts after those of `train_classifiers` are the records.

    Raises:
        InputError: as `train_classifier`.
    """
    together = replace(data, train_rows=np.concatenate([data.train_rows, more_rows]), validation_rows=None)
    found = []
    for number, (recipe, before) in enumerate(zip(config.classifiers, trained, strict=True)):
        print(f"training {recipe.model} further, with the validation images", file=sys.stderr)
        changes = {
            "epochs": max(round(config.refit * recipe.epochs), 1),
            "learning_rate": RATE * recipe.learning_rate,
            "schedule": "cosine",
        }
        again = recipe.model_copy(update=changes | {"early_stopping": None, "kept_weights": "last"})
        shown = _for_second(with_hard_examples(together, trained[0], is_infected, again)) if number else together
        found.append(train_classifier(shown, again, run.part(len(trained) + number), before.model))
    return found
