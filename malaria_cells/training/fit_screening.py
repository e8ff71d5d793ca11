"""Trains a model's screening and chooses, on validation images, which candidates it settles."""

import sys
from dataclasses import dataclass, replace

import keras
import numpy as np
from scipy.stats import norm

from malaria_cells.base.progress import progress
from malaria_cells.config import Config
from malaria_cells.data import boxes
from malaria_cells.data.annotations import AnnotatedImage, AnnotationSet
from malaria_cells.data.boxes import WORKING_CELL_SIZE
from malaria_cells.data.dataset import DataSet
from malaria_cells.data.images import read_image
from malaria_cells.data.labels import LabelSet
from malaria_cells.inference.assembly import proposal_inference_function
from malaria_cells.inference.calibration import fit_platt
from malaria_cells.inference.decision import label_and_score
from malaria_cells.inference.detector import Predictions
from malaria_cells.inference.screening import Screening, background_log_odds
from malaria_cells.inference.two_stage_detector import TwoStageDetector
from malaria_cells.proposals.learned.annotated_sizes import annotated_cell_sizes
from malaria_cells.proposals.learned.prediction import PADDING, to_working_scale
from malaria_cells.proposals.learned.screening_training import ScreenedImage, train_screening
from malaria_cells.proposals.learned.training import Schedule
from malaria_cells.proposals.learned.training_images import padded_for_crops

MAX_LOST = 0.005  # fraction of the cells of a class, which the classifier recognises, that may be settled and so lost
MIN_SETTLED = 0.2  # fraction of the validation candidates; if fewer are settled, the head costs more time than it saves


@dataclass(frozen=True)
class Screened:
    """A trained screening.

    Attributes:
        network: the network of learned proposals with its screening head.
        screening: which candidates it settles.
        predictions: of each validation image, by its key.
    """

    network: keras.Model
    screening: Screening
    predictions: dict[str, Predictions]


def fit_screening(detector: TwoStageDetector, network: keras.Model, data: DataSet, config: Config) -> Screened | None:
    """Train a screening head with the detector's classifiers as its teachers, and choose which candidates it settles.

    Args:
        detector: the detector without screening; its thresholds need not have been chosen.
        network: its network of learned proposals, which is not changed.
        data: training and validation part.
        config: the recipe.

    Returns:
        The screening; None if it would settle too few candidates to be worth its time, which is said.
    """
    print("training the screening", file=sys.stderr)
    common = common_class(data.train)
    images = _screened_images(detector, data.train, common)
    schedule = Schedule(config.screening_epochs, config.proposer_steps)
    trained = train_screening(network, images, schedule, config.random_state)
    proposer = replace(detector.proposer, network=proposal_inference_function(trained))
    validated = _validated(replace(detector, proposer=proposer), data.validation)
    heads = np.concatenate([v.head for v in validated.values()])
    probabilities = np.concatenate([v.probabilities for v in validated.values()])
    class_ids = np.concatenate([v.class_ids for v in validated.values()])
    screening = choose_screening(heads, probabilities, class_ids, detector.labels, common)
    settled = float(screening.settles(heads).mean()) if screening else 0.0
    if screening is None or settled < MIN_SETTLED:
        print(f"the screening settles {settled:.0%} of the candidates, too few for its time; the model has none", file=sys.stderr)
        return None
    print(f"the screening settles {settled:.0%} of the candidates; the classifier is asked about the others", file=sys.stderr)
    return Screened(trained, screening, {key: v.predictions(screening) for key, v in validated.items()})


def common_class(train: AnnotationSet) -> int:
    """The most frequent label of the training part that is not infected; the most frequent one if all are."""
    counts, is_infected = train.class_counts, train.labels.is_infected
    return int((counts if is_infected.all() else np.where(is_infected, -1, counts)).argmax())


def choose_screening(
    heads: np.ndarray, probabilities: np.ndarray, class_ids: np.ndarray, labels: LabelSet, common: int
) -> Screening | None:
    """Choose from what head and classifier say of validation candidates.

    Of the infected cells, and of the cells of each other label but the common one, at most `MAX_LOST` of those that the classifier
    recognises may be settled. Validation images hold few of them, so the head's log odds of "other" are also taken for normally distributed
    in each group: the threshold lies below the quantile of that distribution, too.

    Args:
        heads: output of the head, float32 (n, 3).
        probabilities: class probabilities by the classifiers, float32 (n, n_classes), the background class last.
        class_ids: label of the annotated cell of each candidate, int64 (n,); -1 where there is none.
        labels: the classes.
        common: class id of the common class.

    Returns:
        The screening; None if no candidate can be settled, or if the classifier recognises no cell of the classes that must not be lost,
        the infected ones if there are any, so that nothing tells what would be.
    """
    recognised, _ = label_and_score(probabilities, labels, candidate_threshold=0.5)
    groups = [labels.is_infected] if labels.is_infected.any() else []
    groups += [np.arange(len(labels)) == c for c in range(len(labels)) if c != common and not labels.is_infected[c]]
    groups = [group for group in groups if not group[common]]
    rare = [heads[(class_ids >= 0) & group[class_ids] & group[recognised], 2] for group in groups]
    if groups and not (len(rare[0]) if labels.is_infected.any() else any(map(len, rare))):
        return None
    max_other = min((_limit(other) for other in rare if len(other)), default=1.0)
    settled = heads[:, 2] < max_other
    if not settled.any():
        return None
    given_cell = probabilities[settled, : len(labels)].sum(axis=0, dtype=np.float64)
    slope, offset = fit_platt(background_log_odds(heads[settled]), probabilities[settled, -1])
    return Screening(float(max_other), tuple((given_cell / given_cell.sum()).round(6).tolist()), slope, offset)


def _limit(other: np.ndarray) -> float:
    """The largest threshold below which at most `MAX_LOST` of a group's cells lie, by their number and by a normal distribution."""
    log_odds = np.sort(np.log(other.astype(np.float64)) - np.log1p(-np.minimum(other.astype(np.float64), 1 - 1e-6)))
    by_number = log_odds[int(MAX_LOST * len(log_odds))]
    by_distribution = log_odds.mean() + norm.ppf(MAX_LOST) * log_odds.std() if len(log_odds) > 1 else by_number
    return float(1 / (1 + np.exp(-min(by_number, by_distribution))))


@dataclass(frozen=True)
class _Validated:
    """What head and classifier say of the candidates of a validation image, and the labels of the cells that they match."""

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    head: np.ndarray
    probabilities: np.ndarray
    class_ids: np.ndarray

    def predictions(self, screening: Screening) -> Predictions:
        settled = screening.settles(self.head)
        screened = np.where(settled[:, None], screening.probabilities(self.head), self.probabilities)
        return Predictions(self.boxes_xyxy, screened, self.scores)


def _validated(detector: TwoStageDetector, validation: AnnotationSet) -> dict[str, _Validated]:
    def one(image: AnnotatedImage) -> _Validated:
        prepared = detector.prepared(read_image(image.path))
        found, scores, head = detector.proposer.screened_candidates(prepared)
        if head is None:
            raise ValueError("the network of learned proposals has no screening head")
        return _Validated(found, scores, head, detector.classify(prepared, found), _matched(image, found, scores))

    return {image.key: one(image) for image in progress(validation.images, len(validation), "choosing the screening", "image")}


def _matched(image: AnnotatedImage, found: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Label of the annotated cell that each candidate matches, the best candidate first: int64 (n,), -1 without one."""
    order = np.argsort(-scores, kind="stable")
    matched = np.full(len(found), -1, dtype=np.int64)
    matched[order] = boxes.match(found[order], image.cells_xyxy)
    return np.where(matched >= 0, np.append(image.cell_class_ids, -1)[matched], -1)


def _screened_images(detector: TwoStageDetector, train: AnnotationSet, common: int) -> list[ScreenedImage]:
    """The training images with their candidates at their annotated cell sizes, and what the classifiers say of these."""
    sized = zip(train.images, annotated_cell_sizes(train, train.median_cell_size), strict=True)
    screened = []
    for image, size in progress(sized, len(train), "asking the classifier", "image"):
        prepared = detector.prepared(read_image(image.path))
        found, scores = replace(detector.proposer, cell_size=size, follows=False, views=1).candidates(prepared)
        probabilities = detector.classify(prepared, found)
        class_ids = _matched(image, found, scores)
        small = to_working_scale(prepared, size)
        xyxy = found * np.float32(WORKING_CELL_SIZE / size) + PADDING
        targets = _targets(probabilities, class_ids, common)
        drawn = np.where(class_ids >= 0, class_ids, probabilities.argmax(axis=1) if len(probabilities) else class_ids)
        screened.append(ScreenedImage(padded_for_crops(small), xyxy, targets, drawn, image.data_set, image.weight))
    return screened


def _targets(probabilities: np.ndarray, class_ids: np.ndarray, common: int) -> np.ndarray:
    """Probability of the common class, of background, and of others: float32 (n, 3); see `screening_training`."""
    targets = np.stack([probabilities[:, common], probabilities[:, -1], np.zeros(len(probabilities))], axis=1).astype(np.float32)
    targets[:, 2] = np.clip(1 - targets[:, 0] - targets[:, 1], 0, 1)
    targets[(class_ids >= 0) & (class_ids != common)] = 0, 0, 1
    return targets
