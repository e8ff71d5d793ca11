"""Trains the classifier and the refiner of a two-stage detector, and fine-tunes both on train + validation."""

import sys
from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np

from malaria_cells.base.text import number_of
from malaria_cells.config import Config
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.classifier import Cascade, Network, inference_function
from malaria_cells.inference.tta import Refinement
from malaria_cells.training.classifier_data import TrainingData
from malaria_cells.training.fit_classifier import Trained, predict_rows, train_classifier

NAMES = ("classifier", "refiner")
RATE = 0.5  # factor of the learning rate at the start of fine-tuning


def cascade_of(networks: Sequence[Network], config: Config, refinement: Refinement | None = None) -> Cascade:
    """The classifiers of a config for inference.

    Args:
        networks: the classifier and, if the config has one, the refiner.
        config: the recipe.
        refinement: that of the start model; None: that of a new model.
    """
    refiner_size_hw = config.refiner.image_size if config.refiner else None
    return Cascade(*networks, refiner_size_hw=refiner_size_hw, refinement=refinement or Refinement())


def train_classifiers(
    data: TrainingData, is_infected: np.ndarray, config: Config, run: RunState, starts: Sequence[keras.Model | None] = ()
) -> list[Trained]:
    """Train the classifier of a config and, if the config has one, the refiner, with hard-negative mining.

    Args:
        data: patches to train and to validate on.
        is_infected: bool (n_classes,), see `tta.Refinement.needed`.
        config: the recipe.
        run: the run; its parts 0 and 1 hold the states of the classifier and of the refiner.
        starts: for each classifier the network whose weights it starts from, or None.

    Raises:
        InputError: as `train_classifier`.
    """
    trained: list[Trained] = []
    for number, recipe in enumerate(config.classifiers):
        if config.refiner:
            print(f"training the {NAMES[number]}, {recipe.model}", file=sys.stderr)
        recipe_data = _for_refiner(with_hard_examples(data, trained[0], is_infected, recipe)) if trained else data
        trained.append(train_classifier(recipe_data, recipe, run.part(number), starts[number] if starts else None))
    return trained


def _for_refiner(data: TrainingData) -> TrainingData:
    """Return the same rows, with patches of the refiner's input size."""
    return data if data.refiner_store is None else replace(data, store=data.refiner_store)


def with_hard_examples(data: TrainingData, first: Trained, is_infected: np.ndarray, recipe: Config) -> TrainingData:
    """Return the same data, with the first classifier's false positives sampled as a separate class (hard-negative mining).

    At inference the refiner sees only cells that may be infected. On IML-Malaria's validation images a third of them are infected; with
    class-balanced sampling nine in ten would be.

    Args:
        data: patches to train on.
        first: the first classifier.
        is_infected: bool (n_classes,); without an infected class the data are returned as they are.
        recipe: the refiner's recipe; without ``balance: sampling`` the data are returned as they are.
    """
    if recipe.balance != "sampling" or not is_infected.any():
        return data
    may_be_infected = (data.allowed & is_infected).any(axis=1)[data.store.class_ids[data.train_rows]]
    probabilities = predict_rows(Cascade(inference_function(first.model)), data.store, data.train_rows, 1, is_infected)
    suspected = data.refinement.needed(probabilities, is_infected)
    false_positive = suspected & ~may_be_infected
    print(f"{number_of(int(false_positive.sum()), 'hard negative')} (false positives of the first classifier)", file=sys.stderr)
    return replace(data, sampling_groups=np.where(false_positive, data.n_classes, data.drawn_by_label))


def train_further(
    trained: list[Trained], data: TrainingData, is_infected: np.ndarray, more_rows: np.ndarray, config: Config, run: RunState
) -> list[Trained]:
    """Fine-tune classifiers on train + validation, for the fraction `refit` of their epochs, with a cosine learning rate schedule.

    No images are left to compare epochs on, so the weights of the last epoch are taken.

    Args:
        trained: the networks that `train_classifiers` returned; they are not changed.
        data: the patches that they were trained on.
        is_infected: bool (n_classes,), see `tta.Refinement.needed`.
        more_rows: int64 (n,), further rows of the store to train on: those of the validation images.
        config: the recipe; its `refit` is the fraction.
        run: the run; its parts after those of `train_classifiers` hold the states.

    Raises:
        InputError: as `train_classifier`.
    """
    all_data = replace(data, train_rows=np.concatenate([data.train_rows, more_rows]), validation_rows=None)
    fine_tuned = []
    for number, (recipe, before) in enumerate(zip(config.classifiers, trained, strict=True)):
        print(f"fine-tuning {recipe.model} on train + validation", file=sys.stderr)
        changes = {
            "epochs": max(round(config.refit * recipe.epochs), 1),
            "learning_rate": RATE * recipe.learning_rate,
            "schedule": "cosine",
        }
        changed = recipe.model_copy(update=changes | {"early_stopping": None, "kept_weights": "last"})
        recipe_data = _for_refiner(with_hard_examples(all_data, trained[0], is_infected, changed)) if number else all_data
        fine_tuned.append(train_classifier(recipe_data, changed, run.part(len(trained) + number), before.model))
    return fine_tuned
