"""The model that a training fine-tunes (`start_from`): what is taken from it, and what is trained from scratch."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.text import excerpt
from malaria_cells.config import PARASITES, Config, load_config
from malaria_cells.config.keys import LONGEST_TERMS, Refiner
from malaria_cells.data.labels import RED_BLOOD_CELL
from malaria_cells.inference.model_description import ABOUT, ModelDescription, file_fingerprint, load_description
from malaria_cells.inference.model_folder import PROPOSER

log = logging.getLogger(__name__)

RATE = 0.3  # of the usual learning rate, where a training goes on from a model
# Settings of a recipe that hold for other images too.
HABITS: tuple[str, ...] = (
    "augmentation",
    "label_smoothing",
    "loss",
    "focal_alpha",
    "focal_gamma",
    "balance",
    "sampling_power",
    "dropout",
    "optimizer",
)
HABITS += ("proposer_augmentation", "background_per_image", "batch_size", "min_box_size", "precision", "learning_rate")
REFINER_RATE = 0.001  # learning rate of a refiner whose model folder does not say how it was trained


@dataclass(frozen=True)
class StartModel:
    """A model folder whose networks another training begins with.

    Attributes:
        folder: where it is.
        description: its ``model.yaml``.
        fingerprint: hash of that file, by which the model is known.
    """

    folder: Path
    description: ModelDescription
    fingerprint: str

    @property
    def record(self) -> dict[str, str]:
        """What the model that is made of it keeps of it."""
        return {"name": self.folder.resolve().name, "fingerprint": self.fingerprint}


def find_start(folder: Path, key: str = "start_from") -> StartModel:
    """Look at the folder of a model to begin with; its networks are not loaded yet.

    Args:
        folder: as training writes it.
        key: the setting or option that named it, for errors.

    Raises:
        InputError: no model folder, or one of a kind that no training can go on from.
    """
    try:
        is_there = folder.exists()
    except OSError as error:
        raise InputError(f"{key}: {excerpt(str(folder))}: {reason(error)}; expected a model folder, as training writes one") from None
    if not is_there:
        raise InputError(f"{key}: {folder}: no such folder; expected a model folder, as training writes one below `output_models`")
    description, _ = load_description(folder)
    other = "train it on the new images from the beginning instead"
    if description.detector != "two_stage":
        raise InputError(f"{key}: {folder} is a model of detector {description.detector}; a training goes on from two_stage alone: {other}")
    absent = [file for file in (*description.files, PROPOSER) if not (folder / file).is_file()]
    if absent == [PROPOSER] or description.proposals != "learned":
        raise InputError(f"{key}: {folder} has no network that finds cells ({PROPOSER}, of `proposals: learned`) to go on from: {other}")
    if absent:
        raise InputError(f"{key}: {folder} holds no {absent[0]}; name the folder that training wrote, not an export of it")
    return StartModel(folder, description, file_fingerprint((folder / ABOUT).read_text(encoding="utf-8")))


def start_of(config: Config) -> StartModel | None:
    """The model that a config's training begins with, or None.

    Raises:
        InputError: see `find_start`.
    """
    return None if config.start_from is None else find_start(Path(config.start_from))


def with_start(config: Config) -> Config:
    """The config, with the start model's own values of what the config does not set: architecture, sizes, labels, decisions.

    Only what a YAML or ``--set`` names counts as set. If the learning rate is not set it is `RATE` of the default. If the config asks for
    another classifier than the start model's, that is trained from scratch with its own settings. If nothing of the start model can be
    fine-tuned, the config is returned without it. Both are logged.

    Raises:
        InputError: no such model.
    """
    if config.start_from is not None and config.detector != "two_stage":
        return _without(config, f"`detector: {config.detector}` is another kind of network")
    start = start_of(config)
    if start is None:
        return config
    described, settings = start.description, start.description.settings
    own: dict[str, Any] = {
        "model": described.model,
        "stain_normalization": described.stain,
        "proposer_tta": described.proposer_tta,
        "nms": settings.nms,
        "nms_iou": settings.nms_iou,
        "score_threshold": settings.score_threshold,
        "ignore_labels": list(described.labels.ignored),
    }
    model = config.model if "model" in config.model_fields_set else described.model
    another = _difference(config.model_copy(update={"model": model}), described.model)
    if another is None:
        own |= {
            "image_size": described.image_size_hw,
            "context": described.context,
            "tta": settings.tta,
            "learning_rate": RATE * config.learning_rate,
        }
    elif config.proposals != "learned" or config.background_per_image == 0:
        without = f"proposals: {config.proposals}" if config.proposals != "learned" else "background_per_image: 0"
        return _without(config, f"`{another}` asks for another classifier, and `{without}` trains no proposal network")
    else:
        log.warning(
            f"start_from: {start.folder}: only its proposal network is fine-tuned; the classifier is trained from scratch (`{another}`)"
        )
    own = {key: value for key, value in own.items() if key not in config.model_fields_set}
    if another is None:
        own["refiner"] = _refiner(config, start)
    own |= _labels(config, start) | {"terms": _terms(config, start)}
    return config.model_copy(update=own)


def fine_tuned(config: Config, start: StartModel) -> list[bool]:
    """For each classifier of a config (`Config.classifiers`), whether it is fine-tuned; else it is trained from scratch.

    Beside a first classifier that is trained from scratch the second one is, too.

    Args:
        config: as `with_start` returns it.
        start: the start model.
    """
    kinds = (start.description.model, start.description.refiner)
    same = [_difference(recipe, kind) is None for recipe, kind in zip(config.classifiers, kinds, strict=False)]
    return [each and same[0] for each in same]


def _difference(recipe: Config, kind: str | None) -> str | None:
    """The setting by which a classifier is another one than the start model's, of the architecture `kind`; None: it is the same."""
    if recipe.model != kind:
        return f"model: {recipe.model}"
    if recipe.weights not in (None, "none"):
        return f"weights: {recipe.weights}"
    return "adapt_normalization: true" if recipe.adapt_normalization else None


def _without(config: Config, why: str) -> Config:
    log.warning(f"start_from: {config.start_from} is ignored, since {why}; all networks are trained from scratch")
    return config.model_copy(update={"start_from": None})


def _terms(config: Config, start: StartModel) -> str | None:
    """The terms of the config and of the start model, whose weights go on in the new one's.

    Raises:
        InputError: together they are longer than the folder's own config may have them.
    """
    theirs, own = start.description.terms, config.terms
    if theirs is None or theirs in (own or ""):
        return own
    if own is None or theirs.startswith(f"{own} "):  # such as the same recipe's, of which the start model was made
        return theirs
    both = f"{own} {theirs}"
    if len(both) > LONGEST_TERMS:
        raise InputError(
            f"terms: with those of `start_from: {start.folder}`, which go on, they have {len(both):,} characters; expected up to "
            f"{LONGEST_TERMS:,} together: shorten `terms`"
        )
    return both


def _labels(config: Config, start: StartModel) -> dict[str, Any]:
    """The labels where none are set, and the meaning that a label has in the start model where no other is set."""
    known = start.description.labels
    named = config.labels if "labels" in config.model_fields_set and config.labels else list(known.names)
    own: dict[str, Any] = {"labels": named}
    infected = [n for n in named if n in known.infected or (n in PARASITES and n not in known.names)]
    red_cells = [n for n in named if n in known.red_cells or (n == RED_BLOOD_CELL and n not in known.names)]
    # What names say by themselves stays unset, so that labels that may mean an infected cell (Rings) are asked about.
    usual = config.model_copy(update={"labels": named})
    if config.infected_labels is None and infected != usual.infected:
        own["infected_labels"] = infected
    if config.red_cell_labels is None and red_cells != usual.red_cells:
        own["red_cell_labels"] = red_cells
    return own


def _refiner(config: Config, start: StartModel) -> Refiner | None:
    described = start.description
    if "refiner" in config.model_fields_set:
        recipe = config.refiner
        if recipe is None or recipe.model != described.refiner or recipe.image_size is not None:
            return recipe
        return recipe.model_copy(update={"image_size": described.refiner_size_hw})
    if described.refiner is None:
        return None
    before = _recipe(start)
    epochs, rate, augmentation = config.epochs, REFINER_RATE, None
    if before is not None and before.refiner is not None:
        recipe = before.refiner
        epochs, rate, augmentation = max(round(recipe.epochs * config.epochs / before.epochs), 1), recipe.learning_rate, recipe.augmentation
    return Refiner(
        model=described.refiner,
        epochs=epochs,
        learning_rate=RATE * rate,
        image_size=described.refiner_size_hw,
        augmentation=augmentation,
    )


def _recipe(start: StartModel) -> Config | None:
    """The config that the start model was trained by, if its folder has one that this version reads."""
    try:
        return load_config(start.folder / "config.yaml")
    except InputError:  # a folder may lack it, or be of another version; the usual values serve then
        return None


def habits_of(start: StartModel) -> dict[str, Any]:
    """How the start model was trained, `HABITS` of a config: as far as its folder tells it, else as usual."""
    before = _recipe(start) or Config()
    return {key: getattr(before, key) for key in HABITS}
