"""What a two-stage detector is trained on: the proposer's candidates, cut into patches, and the rows of each part."""

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from malaria_cells.base import files
from malaria_cells.base.errors import InputError
from malaria_cells.base.progress import progress
from malaria_cells.config import Config
from malaria_cells.data.annotations import AnnotatedImage
from malaria_cells.data.candidates import Candidates, label_candidates
from malaria_cells.data.dataset import DataSet
from malaria_cells.data.images import read_image
from malaria_cells.data.labels import BACKGROUND
from malaria_cells.data.partial_labels import background_id, class_sets
from malaria_cells.data.patch_store import Cropping, PatchStore, build_patch_store
from malaria_cells.data.stain import normalized
from malaria_cells.fitting.run_state import RunState
from malaria_cells.inference.classifier import infected_classes
from malaria_cells.training.start_model import StartModel

if TYPE_CHECKING:
    from malaria_cells.training.classifier_data import TrainingData


@dataclass(frozen=True)
class PatchesByPart:
    """The patches of a data set, and which of them belong to each part.

    Attributes:
        store: the patches of the classifier.
        refiner_store: the same cells in the same rows in the refiner's input size; None if that is the classifier's.
        rows: int64 (n,), rows of the store by part.
        has_background: whether there is a background class after the labels.
        names: names of the classes.
        is_infected: bool (n_classes,).
    """

    store: PatchStore
    refiner_store: PatchStore | None
    rows: dict[str, np.ndarray]
    has_background: bool
    names: tuple[str, ...]
    is_infected: np.ndarray

    @classmethod
    def cut(cls, config: Config, data: DataSet, proposer: Any) -> Self:
        """Cut the patches of all parts.

        Args:
            config: the recipe.
            data: the data set.
            proposer: the trained proposer, whose candidates are cut beside the annotated cells; None: only these.

        Raises:
            InputError: a label stands for several classes, but there is no background class.
        """
        store, refiner_store = _stores(config, data, {} if proposer is None else _candidates(proposer, data, config))
        has_background = config.background_per_image > 0 and bool((store.class_ids[store.rows_of(data.all_images)] >= store.n_labels).any())
        check_single_cells(has_background, data)
        labels = data.train.labels
        names = (*labels.names, BACKGROUND) if has_background else labels.names
        return cls(store, refiner_store, _rows(store, data, config), has_background, names, infected_classes(labels, len(names)))

    @cached_property
    def training(self) -> "TrainingData":
        """The rows that classifiers are trained on and whose epochs are compared on."""
        from malaria_cells.training.classifier_data import TrainingData  # needs TensorFlow, which the command starts

        return TrainingData(self.store, self.rows["train"], self.rows["validation"], len(self.names), refiner_store=self.refiner_store)

    def class_ids(self, part: str) -> np.ndarray:
        """The class of each row of a part: int64 (n,); from the number of classes on, a label that stands for several."""
        return self.store.class_ids[self.rows[part]]


def check_single_cells(has_background: bool, data: DataSet) -> None:
    """Check that there is a background class if a label stands for several classes, since the ids of such labels follow its id."""
    single = () if data.single_cells is None else data.single_cells.images
    if not has_background and any(p.one_of for p in single):
        raise InputError(
            "background_per_image: a list in label_map of data_sets needs a background class, but there are no background patches; "
            "expected 1 or more and images with room between the boxes, or one label in place of the list"
        )


def trained_proposer(config: Config, data: DataSet, run: RunState, start: StartModel | None) -> Any:
    """Train the proposer, or load it from the run folder if an interrupted run has already trained it; None if none is wanted."""
    from malaria_cells.inference.model_folder import PROPOSER
    from malaria_cells.models.stored.keras_files import load_network
    from malaria_cells.proposals.learned.training import Schedule, train_proposer
    from malaria_cells.proposals.learned.training_images import Preprocessing

    if config.proposals != "learned" or config.background_per_image == 0 or data.train.whole:
        return None
    path = run.folder / PROPOSER
    if not path.is_file():
        from malaria_cells.training.transfer import start_proposer

        print("training the proposer", file=sys.stderr)
        schedule = Schedule(config.proposer_epochs, config.proposer_steps)
        preprocessing = Preprocessing(config.stain_normalization, config.proposer_augmentation)
        model = train_proposer(data.train, schedule, preprocessing, config.random_state, None if start is None else start_proposer(start))
        with files.replacing(path) as temporary:
            model.save(temporary)
        run.record_time()
    return load_network(path)


def _candidates(proposer: Any, data: DataSet, config: Config) -> dict[str, Candidates]:
    """Find candidates in every image and label them by the annotation.

    The cell size of each image is taken from the annotation, so the scale is not estimated as it is at inference.
    """
    from malaria_cells.inference.assembly import proposal_inference_function
    from malaria_cells.proposals import Proposer
    from malaria_cells.proposals.learned.annotated_sizes import annotated_cell_sizes

    network, images = proposal_inference_function(proposer), data.all_images
    background_class_id, sets = len(images.labels), class_sets(data.all_cut)
    sizes = annotated_cell_sizes(images, data.train.median_cell_size)

    def find_in(image: AnnotatedImage, cell_size: float) -> Candidates:
        proposer_at_size = Proposer("learned", cell_size, network=network, follows=False)
        boxes_and_scores = proposer_at_size.candidates(normalized(read_image(image.path), config.stain_normalization))
        return label_candidates(image, *boxes_and_scores, background_id(image, background_class_id, sets))

    sized = zip(images.images, sizes, strict=True)
    return {p.key: find_in(p, size) for p, size in progress(sized, len(images), "finding candidates", "image")}


def _stores(config: Config, data: DataSet, candidates: dict[str, Candidates]) -> tuple[PatchStore, PatchStore | None]:
    """Return the patches of the classifier and, if their size differs, those of the refiner: the same cells in the same rows."""

    def cut(size_hw: tuple[int, int]) -> PatchStore:
        cropping = Cropping(size_hw, config.context, config.background_per_image, config.random_state, config.stain_normalization)
        return build_patch_store(data.all_cut, cropping, Path(config.patch_cache), candidates)

    last = config.classifiers[-1].image_size
    return cut(config.image_size), cut(last) if last != config.image_size else None


def _rows(store: PatchStore, data: DataSet, config: Config) -> dict[str, np.ndarray]:
    rows = {part: part_rows for part, annotations in data.parts.items() if len(part_rows := store.rows_of(annotations))}
    if data.single_cells is not None:
        rows["train"] = np.concatenate([rows["train"], store.rows_of(data.single_cells)])
    # Epochs are compared and probabilities calibrated on proposals, if there are any, since these are what the detector classifies.
    proposed = {part: rows[part][store.proposed[rows[part]]] for part in rows if part != "train"}
    rows |= {part: part_rows for part, part_rows in proposed.items() if len(part_rows)}
    if config.train_size is not None and not data.train.whole:
        rows["train"] = _limited(rows["train"], store, config)
    return rows


def _limited(rows: np.ndarray, store: PatchStore, config: Config) -> np.ndarray:
    """Draw at most `train_size` rows of each class, including background."""
    rng = np.random.default_rng(config.random_state)
    background_ids = [store.n_labels + 1 + k for k, members in enumerate(store.sets) if store.n_labels in members]
    class_ids = np.where(np.isin(store.class_ids[rows], background_ids), store.n_labels, store.class_ids[rows])
    by_class = [rng.permutation(rows[class_ids == c])[: config.train_size] for c in np.unique(class_ids)]
    return np.sort(np.concatenate(by_class))
