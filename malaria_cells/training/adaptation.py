"""Goes on from a trained model with a few annotated photographs, and measures what comes of it by cross-validation over them.

The networks of a fold never see the photographs that they are asked about. Afterwards the networks are trained on all of them:
no photograph is wasted on validation. Weights between those before and after (`transfer.averaged_weights`) forget less than those
after; which fraction of the new ones is taken, the photographs out of fold decide.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import supervision as sv
import tensorflow as tf

from malaria_cells.base.progress import progress
from malaria_cells.config import Config
from malaria_cells.data.annotations import AnnotationSet, Picture
from malaria_cells.data.candidates import Candidates, label_candidates
from malaria_cells.data.images import read_picture
from malaria_cells.data.partial_labels import background_id, class_sets
from malaria_cells.data.patches import Cropping, PatchStore, build_patch_store
from malaria_cells.data.splits import fold_pictures
from malaria_cells.data.stain import normalized
from malaria_cells.evaluation import cell_figures
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.classifier import infected_classes
from malaria_cells.inference.detector import Predictions, TwoStageDetector
from malaria_cells.proposals import Proposer
from malaria_cells.proposals.learned.training import Schedule, train_proposer
from malaria_cells.proposals.learned.training_images import Preprocessing
from malaria_cells.training.budget import FIRST_EPOCHS, SECOND_EPOCHS, Budget, Plan
from malaria_cells.training.cascade import train_looks
from malaria_cells.training.few import FRACTIONS, OutOfFold, nearest_of_best
from malaria_cells.training.fit_classifier import Trained, TrainingData, predict_rows
from malaria_cells.training.transfer import averaged_weights

PROPOSER_BATCH = 8  # crops a step
AP_WORTH = 0.003  # of cell AP50: see `few.WORTH`
MOST_COMPARED = 16  # photographs in which proposers are compared
Found = tuple[np.ndarray, np.ndarray]


class Exchangeable:
    """A network as one graph, whose weights can be exchanged without another graph being made.

    Args:
        model: a Keras model; its weights are changed by `take`.
        shape: of its input; None where a size is free.
    """

    def __init__(self, model: keras.Model, shape: tuple[int | None, ...]):
        self.model = model
        self.start = model.get_weights()
        self._graph = tf.function(
            lambda pixels: model(tf.cast(pixels, tf.float32), training=False), input_signature=[tf.TensorSpec(shape, tf.uint8)]
        )

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """The answer to uint8 pixels."""
        return np.asarray(self._graph(tf.constant(pixels)))

    def take(self, weights: list[np.ndarray], fraction: float) -> None:
        """Answer by weights between those that it began with and others, of which `fraction` is taken."""
        self.model.set_weights(averaged_weights(self.start, weights, fraction))


@dataclass
class Adaptation:
    """The photographs, the networks to begin with, and where their trainings are recorded.

    Attributes:
        pictures: annotated photographs.
        old: photographs of what the start model was trained on, in all trainings and never asked about; may be empty.
        config: the recipe.
        plan: of steps.
        budget: of time.
        proposer: the network that finds cells, with the start model's weights.
        looks: the networks of the classifiers, with the start model's weights.
        folder: for what is needed while it works.
    """

    pictures: AnnotationSet
    old: AnnotationSet
    config: Config
    plan: Plan
    budget: Budget
    proposer: keras.Model
    looks: list[keras.Model]
    folder: Path

    def __post_init__(self) -> None:
        self.centres = Exchangeable(self.proposer, (1, None, None, 3))
        self.networks = [Exchangeable(m, (None, *m.input_shape[1:3], 3)) for m in self.looks]
        self.found: dict[str, Found] = {}
        self.runs = 0

    @property
    def cell_size(self) -> float:
        """Usual longer side of a cell in the photographs in pixels."""
        return self.pictures.median_cell_size

    def trained_proposer(self, pictures: AnnotationSet, name: str) -> list[np.ndarray]:
        """Weights of the proposer after a training on photographs, and on the old ones."""
        self.centres.take(self.centres.start, 1)
        together = replace(pictures, pictures=pictures.pictures + self.old.pictures)
        schedule = Schedule(1, self.budget.steps(name), PROPOSER_BATCH)
        preprocessing = Preprocessing(self.config.stain_normalization, self.config.proposer_augmentation)
        model = train_proposer(together, schedule, preprocessing, self.config.random_state, self.proposer)
        return model.get_weights()

    def proposals_out_of_fold(self) -> tuple[float, dict[str, float]]:
        """Find candidates in every photograph by a proposer that was not trained on it, and keep them in `found`.

        Returns:
            The fraction of new weights by which cells are found best, and the average precision of cells by fraction.
        """
        halves = fold_pictures(self.pictures, 2, self.config.random_state, split_again=False)
        weights = []
        for number, half in enumerate(halves, start=1):
            print(f"training the proposer without half of the photographs, {number} of 2", file=sys.stderr)
            weights.append(self.trained_proposer(_without(self.pictures, half), "proposer fold"))
        compared = [(p, w) for half, w in zip(halves, weights, strict=True) for p in half.pictures[: -(-MOST_COMPARED // 2)]]
        precision = []
        for fraction in FRACTIONS:
            found = [self._candidates(p, w, fraction) for p, w in compared]
            own = [_as_cells(*f) for f in found]
            precision.append(cell_figures([p for p, _ in compared], own, self.pictures.labels).ap50[0] or 0.0)
        best = nearest_of_best([-value for value in precision], AP_WORTH)
        every = [(p, w) for half, w in zip(halves, weights, strict=True) for p in half.pictures]
        for p, w in progress(every, len(every), "finding candidates", "image"):
            self.found[p.key] = self._candidates(p, w, best)
        self.centres.take(self.centres.start, 1)
        for p in self.old.pictures:
            self.found[p.key] = self._candidates(p, self.centres.start, 0)
        return best, {str(fraction): round(value, 4) for fraction, value in zip(FRACTIONS, precision, strict=True)}

    def _pixels(self, picture: Picture) -> np.ndarray:
        return normalized(read_picture(picture.path), self.config.stain_normalization)

    def _candidates(self, picture: Picture, weights: list[np.ndarray], fraction: float) -> Found:
        self.centres.take(weights, fraction)
        find = Proposer("learned", self.cell_size, network=self.centres, views=self.config.proposer_tta)
        return find.candidates(self._pixels(picture))

    def stores(self) -> tuple[PatchStore, PatchStore | None]:
        """The patches of all photographs, as the looks want them."""
        together = replace(self.pictures, pictures=tuple(sorted(self.pictures.pictures + self.old.pictures, key=lambda p: p.key)))
        background_class_id, sets = len(together.labels), class_sets(together)
        labelled: dict[str, Candidates] = {
            p.key: label_candidates(p, *self.found[p.key], background_id(p, background_class_id, sets)) for p in together.pictures
        }

        def cut(size_hw: tuple[int, int]) -> PatchStore:
            cropping = Cropping(
                size_hw, self.config.context, self.config.background_per_image, self.config.random_state, self.config.stain_normalization
            )
            return build_patch_store(together, cropping, self.folder / "patches", labelled)

        last = self.config.looks[-1].image_size
        return cut(self.config.image_size), cut(last) if last != self.config.image_size else None

    def trained_looks(self, data: TrainingData, is_infected: np.ndarray, name: str) -> tuple[list[Trained], list[RunState]]:
        """The classifiers after a training on some rows."""
        for network in self.networks:
            network.take(network.start, 1)
        steps = self.budget.steps(name)
        changes: dict[str, Any] = {"epochs": FIRST_EPOCHS, "steps_per_epoch": steps, "schedule": "cosine", "kept_weights": "last"}
        if self.config.second_look is not None:
            changes["second_look"] = self.config.second_look.model_copy(update={"epochs": SECOND_EPOCHS})
        config = self.config.model_copy(update=changes | {"early_stopping": None})
        self.runs += 1
        run = RunState.start(self.folder / f"run{self.runs}", config)
        trained = train_looks(data, is_infected, config, run, self.looks)
        return trained, [run.part(number) for number in range(len(trained))]

    def looks_out_of_fold(
        self, stores: tuple[PatchStore, PatchStore | None], n_classes: int, views: int
    ) -> tuple[OutOfFold, list[tuple[AnnotationSet, list[Any]]]]:
        """Classify the candidates of every photograph by networks that were not trained on it.

        Args:
            stores: of all photographs.
            n_classes: number of classes, including the background class.
            views: averaged for each patch that is uncertain.

        Returns:
            What they say; and for each fold its photographs and the weights of its networks.
        """
        store, refiner_store = stores
        is_infected = infected_classes(self.pictures.labels, n_classes)
        folds = fold_pictures(self.pictures, self.plan.folds, self.config.random_state, split_again=False)
        every = np.arange(len(store))
        rows, seen, shown, kept = [], [], [], []
        for number, fold in enumerate(folds, start=1):
            print(f"training the classifiers without a part of the photographs, {number} of {len(folds)}", file=sys.stderr)
            own = store.rows_of(fold)
            data = TrainingData(store, np.setdiff1d(every, own), None, n_classes, refiner_store=refiner_store)
            trained, _ = self.trained_looks(data, is_infected, "fold")
            weights = [t.model.get_weights() for t in trained]
            met = own[store.proposed[own]] if store.proposed[own].any() else own
            by_fraction = []
            for fraction in FRACTIONS:
                self.take_looks(weights, fraction)
                by_fraction.append(predict_rows(self.networks, store, met, views, is_infected, refiner_store))
            rows.append(met)
            seen.append(by_fraction)
            shown.append(trained[0].training_prior)
            kept.append((fold, weights))
        together = np.concatenate(rows)
        pooled = [np.concatenate([by_fraction[i] for by_fraction in seen]) for i in range(len(FRACTIONS))]
        return OutOfFold(store.class_ids[together], pooled, np.mean(shown, axis=0), is_infected), kept

    def take_looks(self, weights: list[list[np.ndarray]], fraction: float) -> None:
        """Let the classifiers answer by a fraction of new weights."""
        for network, own in zip(self.networks, weights, strict=True):
            network.take(own, fraction)

    def predictions_out_of_fold(
        self, detector: TwoStageDetector, folds: list[tuple[AnnotationSet, list[Any]]], fraction: float
    ) -> dict[str, Predictions]:
        """What each photograph's own networks, not trained on it, see in it, by its key.

        Args:
            detector: whose classifier's networks are those of this adaptation.
            folds: see `looks_out_of_fold`.
            fraction: of the new weights.
        """
        predictions: dict[str, Predictions] = {}
        for fold, weights in folds:
            self.take_looks(weights, fraction)
            for p in fold.pictures:
                candidates, proposal_scores = self.found[p.key]
                predictions[p.key] = Predictions(candidates, detector.classify(self._pixels(p), candidates), proposal_scores)
        return predictions


def _without(pictures: AnnotationSet, left_out: AnnotationSet) -> AnnotationSet:
    return pictures.subset({p.key for p in pictures.pictures} - {p.key for p in left_out.pictures})


def _as_cells(boxes_xyxy: np.ndarray, proposal_scores: np.ndarray) -> sv.Detections:
    return sv.Detections(
        xyxy=boxes_xyxy.reshape(-1, 4), confidence=proposal_scores, class_id=np.zeros(len(proposal_scores), dtype=np.int64)
    )
