"""Fine-tunes a model on a few annotated images, and measures the result by cross-validation over them.

The networks of a fold are scored only on images that they were not trained on. Afterwards the networks are trained on all images,
so none is lost to validation. Averages of the weights before and after fine-tuning (`transfer.averaged_weights`) forget less than the
weights after it; the fraction of the new weights is chosen on the out-of-fold predictions.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from malaria_cells.base.progress import progress
from malaria_cells.config import Config
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.candidates import Candidates, label_candidates
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import read_image
from malaria_cells.data.partial_labels import background_id, class_sets
from malaria_cells.data.patch_store import Cropping, PatchStore, build_patch_store
from malaria_cells.data.splits import fold_images
from malaria_cells.data.stain import normalized
from malaria_cells.evaluation import cell_figures
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.classifier import infected_classes
from malaria_cells.inference.detector import Predictions
from malaria_cells.inference.model_description import InferenceSettings
from malaria_cells.inference.two_stage_detector import TwoStageDetector
from malaria_cells.proposals import Proposer
from malaria_cells.proposals.learned.training import Schedule, train_proposer
from malaria_cells.proposals.learned.training_images import Preprocessing
from malaria_cells.training.budget import CLASSIFIER_EPOCHS, REFINER_EPOCHS, Budget, Plan
from malaria_cells.training.cascade import cascade_of, train_classifiers
from malaria_cells.training.classifier_data import TrainingData
from malaria_cells.training.exchangeable import Exchangeable
from malaria_cells.training.few_images import FRACTIONS, OutOfFold, nearest_of_best
from malaria_cells.training.fit_classifier import Trained, predict_rows

AP_TOLERANCE = 0.003  # cell AP50; see `few_images.LOSS_TOLERANCE`
MAX_COMPARED = 16  # images that the proposers are compared on
CandidatesAndScores = tuple[np.ndarray, np.ndarray]


@dataclass
class Adaptation:
    """The images, the networks of the start model, and the state of their fine-tuning.

    Attributes:
        images: annotated images.
        old: images that the start model was trained on; they are part of every training and are never scored; may be empty.
        config: the recipe.
        plan: training steps and folds.
        budget: time limit.
        proposer: the network of learned proposals, with the start model's weights.
        classifiers: the networks of the classifier and the refiner, with the start model's weights.
        folder: folder for temporary files.
        inference: tuned values of the start model.
    """

    images: AnnotationSet
    old: AnnotationSet
    config: Config
    plan: Plan
    budget: Budget
    proposer: keras.Model
    classifiers: list[keras.Model]
    folder: Path
    inference: InferenceSettings

    def __post_init__(self) -> None:
        self.centres = Exchangeable(self.proposer, (1, None, None, 3))
        self.networks = [Exchangeable(m, (None, *m.input_shape[1:3], 3)) for m in self.classifiers]
        self.cascade = cascade_of(self.networks, self.config, self.inference.refinement)
        self.candidates: dict[str, CandidatesAndScores] = {}
        self.runs = 0

    @property
    def cell_size(self) -> float:
        """Median longer side of a cell in the images, in pixels."""
        return self.images.median_cell_size

    def trained_proposer(self, images: AnnotationSet, name: str) -> list[np.ndarray]:
        """Train the proposer on images and on the old ones, and return its weights."""
        self.centres.take(self.centres.start, 1)
        all_images = replace(images, images=images.images + self.old.images)
        schedule = Schedule(1, self.budget.steps(name))
        preprocessing = Preprocessing(self.config.stain_normalization, self.config.proposer_augmentation)
        model = train_proposer(all_images, schedule, preprocessing, self.config.random_state, self.proposer)
        return model.get_weights()

    def proposals_out_of_fold(self) -> tuple[float, dict[str, float]]:
        """Find candidates in every image with a proposer that was not trained on it, and store them in `candidates`.

        Returns:
            The fraction of new weights with the best cell AP50, and the cell AP50 by fraction.
        """
        halves = fold_images(self.images, 2, self.config.random_state, split_again=False)
        weights = []
        for number, half in enumerate(halves, start=1):
            print(f"training the proposer without half of the images, {number} of 2", file=sys.stderr)
            weights.append(self.trained_proposer(_without(self.images, half), "proposer fold"))
        compared = [(p, w) for half, w in zip(halves, weights, strict=True) for p in half.images[: -(-MAX_COMPARED // 2)]]
        precision = []
        for fraction in FRACTIONS:
            proposals = [self._candidates(p, w, fraction) for p, w in compared]
            detections = [_as_cells(*pair) for pair in proposals]
            precision.append(cell_figures([p for p, _ in compared], detections, self.images.labels).ap50[0] or 0.0)
        best = nearest_of_best([-value for value in precision], AP_TOLERANCE)
        all_images = [(p, w) for half, w in zip(halves, weights, strict=True) for p in half.images]
        for p, w in progress(all_images, len(all_images), "finding candidates", "image"):
            self.candidates[p.key] = self._candidates(p, w, best)
        self.centres.take(self.centres.start, 1)
        for p in self.old.images:
            self.candidates[p.key] = self._candidates(p, self.centres.start, 0)
        return best, {str(fraction): round(value, 4) for fraction, value in zip(FRACTIONS, precision, strict=True)}

    def _pixels(self, image: AnnotatedImage) -> np.ndarray:
        return normalized(read_image(image.path), self.config.stain_normalization)

    def _candidates(self, image: AnnotatedImage, weights: list[np.ndarray], fraction: float) -> CandidatesAndScores:
        self.centres.take(weights, fraction)
        views, settings = self.config.proposer_tta, self.inference.proposals
        proposer = Proposer("learned", self.cell_size, network=self.centres, views=views, settings=settings)
        return proposer.candidates(self._pixels(image))

    def stores(self) -> tuple[PatchStore, PatchStore | None]:
        """Cut the patches of all images, in the input size of the classifier and, if it differs, in that of the refiner."""
        all_images = replace(self.images, images=tuple(sorted(self.images.images + self.old.images, key=lambda p: p.key)))
        background_class_id, sets = len(all_images.labels), class_sets(all_images)
        labelled: dict[str, Candidates] = {
            p.key: label_candidates(p, *self.candidates[p.key], background_id(p, background_class_id, sets)) for p in all_images.images
        }

        def cut(size_hw: tuple[int, int]) -> PatchStore:
            cropping = Cropping(
                size_hw, self.config.context, self.config.background_per_image, self.config.random_state, self.config.stain_normalization
            )
            return build_patch_store(all_images, cropping, self.folder / "patches", labelled)

        last = self.config.classifiers[-1].image_size
        return cut(self.config.image_size), cut(last) if last != self.config.image_size else None

    def trained_classifiers(self, data: TrainingData, is_infected: np.ndarray, name: str) -> tuple[list[Trained], list[RunState]]:
        """Train the classifiers, and return them and the states of their runs."""
        for network in self.networks:
            network.take(network.start, 1)
        steps = self.budget.steps(name)
        changes: dict[str, Any] = {"epochs": CLASSIFIER_EPOCHS, "steps_per_epoch": steps, "schedule": "cosine", "kept_weights": "last"}
        if self.config.refiner is not None:
            changes["refiner"] = self.config.refiner.model_copy(update={"epochs": REFINER_EPOCHS})
        config = self.config.model_copy(update=changes | {"early_stopping": None})
        self.runs += 1
        run = RunState.start(self.folder / f"run{self.runs}", config)
        trained = train_classifiers(replace(data, refinement=self.inference.refinement), is_infected, config, run, self.classifiers)
        return trained, [run.part(number) for number in range(len(trained))]

    def classifiers_out_of_fold(
        self, stores: tuple[PatchStore, PatchStore | None], n_classes: int, views: int
    ) -> tuple[OutOfFold, list[tuple[AnnotationSet, list[Any]]]]:
        """Classify the candidates of every image with networks that were not trained on it.

        Args:
            stores: patches of all images, see `stores`.
            n_classes: number of classes, including the background class.
            views: number of views averaged for each uncertain patch (test-time augmentation).

        Returns:
            The out-of-fold predictions; and for each fold its images and the weights of its networks.
        """
        store, refiner_store = stores
        is_infected = infected_classes(self.images.labels, n_classes)
        folds = fold_images(self.images, self.plan.folds, self.config.random_state, split_again=False)
        all_rows = np.arange(len(store))
        rows, probabilities, priors, fold_weights = [], [], [], []
        for number, fold in enumerate(folds, start=1):
            print(f"training the classifiers without a part of the images, {number} of {len(folds)}", file=sys.stderr)
            fold_rows = store.rows_of(fold)
            data = TrainingData(store, np.setdiff1d(all_rows, fold_rows), None, n_classes, refiner_store=refiner_store)
            trained, _ = self.trained_classifiers(data, is_infected, "fold")
            weights = [t.model.get_weights() for t in trained]
            scored_rows = fold_rows[store.proposed[fold_rows]] if store.proposed[fold_rows].any() else fold_rows
            by_fraction = []
            for fraction in FRACTIONS:
                self.take_classifiers(weights, fraction)
                by_fraction.append(predict_rows(self.cascade, store, scored_rows, views, is_infected, refiner_store))
            rows.append(scored_rows)
            probabilities.append(by_fraction)
            priors.append(trained[0].training_prior)
            fold_weights.append((fold, weights))
        all_scored_rows = np.concatenate(rows)
        pooled = [np.concatenate([by_fraction[i] for by_fraction in probabilities]) for i in range(len(FRACTIONS))]
        return OutOfFold(store.class_ids[all_scored_rows], pooled, np.mean(priors, axis=0), is_infected), fold_weights

    def take_classifiers(self, weights: list[list[np.ndarray]], fraction: float) -> None:
        """Set the classifiers' weights to averages with `fraction` of new ones."""
        for network, network_weights in zip(self.networks, weights, strict=True):
            network.take(network_weights, fraction)

    def predictions_out_of_fold(
        self, detector: TwoStageDetector, folds: list[tuple[AnnotationSet, list[Any]]], fraction: float
    ) -> dict[str, Predictions]:
        """Predict every image with the networks of its fold, which were not trained on it.

        Args:
            detector: detector that uses the networks of this adaptation.
            folds: see `classifiers_out_of_fold`.
            fraction: fraction of the new weights, 0 to 1.

        Returns:
            Predictions by image key.
        """
        predictions: dict[str, Predictions] = {}
        for fold, weights in folds:
            self.take_classifiers(weights, fraction)
            for p in fold.images:
                candidates, proposal_scores = self.candidates[p.key]
                predictions[p.key] = Predictions(candidates, detector.classify(self._pixels(p), candidates), proposal_scores)
        return predictions


def _without(images: AnnotationSet, left_out: AnnotationSet) -> AnnotationSet:
    return images.subset({p.key for p in images.images} - {p.key for p in left_out.images})


def _as_cells(boxes_xyxy: np.ndarray, proposal_scores: np.ndarray) -> Detections:
    return Detections.from_boxes(boxes_xyxy.reshape(-1, 4), np.zeros(len(proposal_scores)), proposal_scores)
