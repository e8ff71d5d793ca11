"""Goes on from a trained model with a few annotated images, and measures what comes of it by cross-validation over them.

The networks of a fold never see the images that they are asked about. Afterwards the networks are trained on all of them:
no image is wasted on validation. Weights between those before and after (`transfer.averaged_weights`) forget less than those
after; which fraction of the new ones is taken, the images out of fold decide.
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
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.candidates import Candidates, label_candidates
from malaria_cells.data.images import read_image
from malaria_cells.data.partial_labels import background_id, class_sets
from malaria_cells.data.patches import Cropping, PatchStore, build_patch_store
from malaria_cells.data.splits import fold_images
from malaria_cells.data.stain import normalized
from malaria_cells.evaluation import cell_figures
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.classifier import infected_classes
from malaria_cells.inference.detector import Predictions, TwoStageDetector
from malaria_cells.proposals import Proposer
from malaria_cells.proposals.learned.training import Schedule, train_proposer
from malaria_cells.proposals.learned.training_images import Preprocessing
from malaria_cells.training.budget import CLASSIFIER_EPOCHS, REFINER_EPOCHS, Budget, Plan
from malaria_cells.training.cascade import train_classifiers
from malaria_cells.training.few import FRACTIONS, OutOfFold, nearest_of_best
from malaria_cells.training.fit_classifier import Trained, TrainingData, predict_rows
from malaria_cells.training.transfer import averaged_weights

PROPOSER_BATCH = 8  # crops a step
AP_WORTH = 0.003  # of cell AP50: see `few.WORTH`
MOST_COMPARED = 16  # images in which proposers are compared
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
    """The images, the networks to begin with, and where their trainings are recorded.

    Attributes:
        images: annotated images.
        old: images of what the start model was trained on, in all trainings and never asked about; may be empty.
        config: the recipe.
        plan: of steps.
        budget: of time.
        proposer: the network that finds cells, with the start model's weights.
        classifiers: the networks of the classifiers, with the start model's weights.
        folder: for what is needed while it works.
    """

    images: AnnotationSet
    old: AnnotationSet
    config: Config
    plan: Plan
    budget: Budget
    proposer: keras.Model
    classifiers: list[keras.Model]
    folder: Path

    def __post_init__(self) -> None:
        self.centres = Exchangeable(self.proposer, (1, None, None, 3))
        self.networks = [Exchangeable(m, (None, *m.input_shape[1:3], 3)) for m in self.classifiers]
        self.found: dict[str, Found] = {}
        self.runs = 0

    @property
    def cell_size(self) -> float:
        """Usual longer side of a cell in the images in pixels."""
        return self.images.median_cell_size

    def trained_proposer(self, images: AnnotationSet, name: str) -> list[np.ndarray]:
        """Weights of the proposer after a training on images, and on the old ones."""
        self.centres.take(self.centres.start, 1)
        together = replace(images, images=images.images + self.old.images)
        schedule = Schedule(1, self.budget.steps(name), PROPOSER_BATCH)
        preprocessing = Preprocessing(self.config.stain_normalization, self.config.proposer_augmentation)
        model = train_proposer(together, schedule, preprocessing, self.config.random_state, self.proposer)
        return model.get_weights()

    def proposals_out_of_fold(self) -> tuple[float, dict[str, float]]:
        """Find candidates in every image by a proposer that was not trained on it, and keep them in `found`.

        Returns:
            The fraction of new weights by which cells are found best, and the average precision of cells by fraction.
        """
        halves = fold_images(self.images, 2, self.config.random_state, split_again=False)
        weights = []
        for number, half in enumerate(halves, start=1):
            print(f"training the proposer without half of the images, {number} of 2", file=sys.stderr)
            weights.append(self.trained_proposer(_without(self.images, half), "proposer fold"))
        compared = [(p, w) for half, w in zip(halves, weights, strict=True) for p in half.images[: -(-MOST_COMPARED // 2)]]
        precision = []
        for fraction in FRACTIONS:
            found = [self._candidates(p, w, fraction) for p, w in compared]
            own = [_as_cells(*f) for f in found]
            precision.append(cell_figures([p for p, _ in compared], own, self.images.labels).ap50[0] or 0.0)
        best = nearest_of_best([-value for value in precision], AP_WORTH)
        every = [(p, w) for half, w in zip(halves, weights, strict=True) for p in half.images]
        for p, w in progress(every, len(every), "finding candidates", "image"):
            self.found[p.key] = self._candidates(p, w, best)
        self.centres.take(self.centres.start, 1)
        for p in self.old.images:
            self.found[p.key] = self._candidates(p, self.centres.start, 0)
        return best, {str(fraction): round(value, 4) for fraction, value in zip(FRACTIONS, precision, strict=True)}

    def _pixels(self, image: AnnotatedImage) -> np.ndarray:
        return normalized(read_image(image.path), self.config.stain_normalization)

    def _candidates(self, image: AnnotatedImage, weights: list[np.ndarray], fraction: float) -> Found:
        self.centres.take(weights, fraction)
        find = Proposer("learned", self.cell_size, network=self.centres, views=self.config.proposer_tta)
        return find.candidates(self._pixels(image))

    def stores(self) -> tuple[PatchStore, PatchStore | None]:
        """The patches of all images, as the classifiers want them."""
        together = replace(self.images, images=tuple(sorted(self.images.images + self.old.images, key=lambda p: p.key)))
        background_class_id, sets = len(together.labels), class_sets(together)
        labelled: dict[str, Candidates] = {
            p.key: label_candidates(p, *self.found[p.key], background_id(p, background_class_id, sets)) for p in together.images
        }

        def cut(size_hw: tuple[int, int]) -> PatchStore:
            cropping = Cropping(
                size_hw, self.config.context, self.config.background_per_image, self.config.random_state, self.config.stain_normalization
            )
            return build_patch_store(together, cropping, self.folder / "patches", labelled)

        last = self.config.classifiers[-1].image_size
        return cut(self.config.image_size), cut(last) if last != self.config.image_size else None

    def trained_classifiers(self, data: TrainingData, is_infected: np.ndarray, name: str) -> tuple[list[Trained], list[RunState]]:
        """The classifiers after a training on some rows."""
        for network in self.networks:
            network.take(network.start, 1)
        steps = self.budget.steps(name)
        changes: dict[str, Any] = {"epochs": CLASSIFIER_EPOCHS, "steps_per_epoch": steps, "schedule": "cosine", "kept_weights": "last"}
        if self.config.refiner is not None:
            changes["refiner"] = self.config.refiner.model_copy(update={"epochs": REFINER_EPOCHS})
        config = self.config.model_copy(update=changes | {"early_stopping": None})
        self.runs += 1
        run = RunState.start(self.folder / f"run{self.runs}", config)
        trained = train_classifiers(data, is_infected, config, run, self.classifiers)
        return trained, [run.part(number) for number in range(len(trained))]

    def classifiers_out_of_fold(
        self, stores: tuple[PatchStore, PatchStore | None], n_classes: int, views: int
    ) -> tuple[OutOfFold, list[tuple[AnnotationSet, list[Any]]]]:
        """Classify the candidates of every image by networks that were not trained on it.

        Args:
            stores: of all images.
            n_classes: number of classes, including the background class.
            views: averaged for each patch that is uncertain.

        Returns:
            What they say; and for each fold its images and the weights of its networks.
        """
        store, refiner_store = stores
        is_infected = infected_classes(self.images.labels, n_classes)
        folds = fold_images(self.images, self.plan.folds, self.config.random_state, split_again=False)
        every = np.arange(len(store))
        rows, seen, shown, kept = [], [], [], []
        for number, fold in enumerate(folds, start=1):
            print(f"training the classifiers without a part of the images, {number} of {len(folds)}", file=sys.stderr)
            own = store.rows_of(fold)
            data = TrainingData(store, np.setdiff1d(every, own), None, n_classes, refiner_store=refiner_store)
            trained, _ = self.trained_classifiers(data, is_infected, "fold")
            weights = [t.model.get_weights() for t in trained]
            met = own[store.proposed[own]] if store.proposed[own].any() else own
            by_fraction = []
            for fraction in FRACTIONS:
                self.take_classifiers(weights, fraction)
                by_fraction.append(predict_rows(self.networks, store, met, views, is_infected, refiner_store))
            rows.append(met)
            seen.append(by_fraction)
            shown.append(trained[0].training_prior)
            kept.append((fold, weights))
        together = np.concatenate(rows)
        pooled = [np.concatenate([by_fraction[i] for by_fraction in seen]) for i in range(len(FRACTIONS))]
        return OutOfFold(store.class_ids[together], pooled, np.mean(shown, axis=0), is_infected), kept

    def take_classifiers(self, weights: list[list[np.ndarray]], fraction: float) -> None:
        """Let the classifiers answer by a fraction of new weights."""
        for network, own in zip(self.networks, weights, strict=True):
            network.take(own, fraction)

    def predictions_out_of_fold(
        self, detector: TwoStageDetector, folds: list[tuple[AnnotationSet, list[Any]]], fraction: float
    ) -> dict[str, Predictions]:
        """What each image's own networks, not trained on it, see in it, by its key.

        Args:
            detector: whose classifier's networks are those of this adaptation.
            folds: see `classifiers_out_of_fold`.
            fraction: of the new weights.
        """
        predictions: dict[str, Predictions] = {}
        for fold, weights in folds:
            self.take_classifiers(weights, fraction)
            for p in fold.images:
                candidates, proposal_scores = self.found[p.key]
                predictions[p.key] = Predictions(candidates, detector.classify(self._pixels(p), candidates), proposal_scores)
        return predictions


def _without(images: AnnotationSet, left_out: AnnotationSet) -> AnnotationSet:
    return images.subset({p.key for p in images.images} - {p.key for p in left_out.images})


def _as_cells(boxes_xyxy: np.ndarray, proposal_scores: np.ndarray) -> sv.Detections:
    return sv.Detections(
        xyxy=boxes_xyxy.reshape(-1, 4), confidence=proposal_scores, class_id=np.zeros(len(proposal_scores), dtype=np.int64)
    )
