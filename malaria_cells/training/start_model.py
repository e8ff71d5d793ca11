"""The model that a training fine-tunes (`start_from`): which settings and networks are taken from it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.text import excerpt
from malaria_cells.config import PARASITES, Config, load_config
from malaria_cells.config.keys import LONGEST_TERMS
from malaria_cells.config.training_keys import Refiner
from malaria_cells.data.labels import RED_BLOOD_CELL
from malaria_cells.inference.model_description import ABOUT, ModelDescription, file_fingerprint
from malaria_cells.inference.model_folder import PROPOSER
from malaria_cells.inference.model_yaml import load_description

log = logging.getLogger(__name__)

RATE = 0.3  # factor of the default learning rate for fine-tuning
# Keys of the start model's config that also suit other images.
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
REFINER_RATE = 0.001  # learning rate of a refiner before `RATE`, if the model folder has no readable config


@dataclass(frozen=True)
class StartModel:
    """A model folder whose networks another training fine-tunes.

    Attributes:
        folder: the model folder.
        description: its ``model.yaml``.
        fingerprint: hash of ``model.yaml``, which identifies the model.
    """

    folder: Path
    description: ModelDescription
    fingerprint: str

    @property
    def record(self) -> dict[str, str]:
        """Name and fingerprint, which the fine-tuned model stores."""
        return {"name": self.folder.resolve().name, "fingerprint": self.fingerprint}


def find_start(folder: Path, key: str = "start_from") -> StartModel:
    """Check the folder of a start model and read its description; the networks are not loaded yet.

    Args:
        folder: a model folder that training wrote.
        key: config key or option that named the folder, for error messages.

    Raises:
        InputError: the folder is no model folder, or its model cannot be fine-tuned.
    """
    try:
        exists = folder.exists()
    except OSError as error:
        raise InputError(f"{key}: {excerpt(str(folder))}: {reason(error)}; expected a model folder that training wrote") from None
    if not exists:
        raise InputError(f"{key}: {folder}: no such folder; expected a model folder that training wrote, as in `output_models`")
    description, _ = load_description(folder)
    advice = "train on the new images from scratch instead"
    if description.detector != "two_stage":
        raise InputError(f"{key}: {folder} is a model of detector {description.detector}; only two_stage can be fine-tuned: {advice}")
    absent = [file for file in (*description.files, PROPOSER) if not (folder / file).is_file()]
    if absent == [PROPOSER] or description.proposals != "learned":
        raise InputError(f"{key}: {folder} has no network of learned proposals ({PROPOSER}), which fine-tuning needs: {advice}")
    if absent:
        raise InputError(f"{key}: {folder} holds no {absent[0]}; name the folder that training wrote, not an export of it")
    return StartModel(folder, description, file_fingerprint((folder / ABOUT).read_text(encoding="utf-8")))


def start_of(config: Config) -> StartModel | None:
    """Return the model that a config's training fine-tunes, or None.

    Raises:
        InputError: see `find_start`.
    """
    return None if config.start_from is None else find_start(Path(config.start_from))


def with_start(config: Config) -> Config:
    """Return the config with the start model's values for keys that the config does not set: architecture, sizes, labels, thresholds.

    A key counts as set if the YAML file or ``--set`` names it. An unset learning rate becomes `RATE` times the default. If the config asks
    for another classifier than the start model's, the classifier is trained from scratch with its own settings. If no network of the
    start model can be fine-tuned, the config is returned without `start_from`. Both cases are logged.

    Raises:
        InputError: the folder is no model folder, or its model cannot be fine-tuned.
    """
    if config.start_from is not None and config.detector != "two_stage":
        return _without(config, f"`detector: {config.detector}` is another kind of network")
    start = start_of(config)
    if start is None:
        return config
    described, settings = start.description, start.description.settings
    changes: dict[str, Any] = {
        "model": described.model,
        "stain_normalization": described.stain,
        "proposer_tta": described.proposer_tta,
        "nms": settings.nms,
        "nms_iou": settings.nms_iou,
        "score_threshold": settings.score_threshold,
        "ignore_labels": list(described.labels.ignored),
    }
    model = config.model if "model" in config.model_fields_set else described.model
    difference = _difference(config.model_copy(update={"model": model}), described.model)
    if difference is None:
        changes |= {
            "image_size": described.image_size_hw,
            "context": described.context,
            "tta": settings.tta,
            "learning_rate": RATE * config.learning_rate,
        }
    elif config.proposals != "learned" or config.background_per_image == 0:
        without = f"proposals: {config.proposals}" if config.proposals != "learned" else "background_per_image: 0"
        return _without(config, f"`{difference}` asks for another classifier, and `{without}` trains no proposal network")
    else:
        log.warning(
            f"start_from: {start.folder}: only its proposal network is fine-tuned; the classifier is trained from scratch (`{difference}`)"
        )
    changes = {key: value for key, value in changes.items() if key not in config.model_fields_set}
    if difference is None:
        changes["refiner"] = _refiner(config, start)
    changes |= _labels(config, start) | {"terms": _terms(config, start)}
    return config.model_copy(update=changes)


def fine_tuned(config: Config, start: StartModel) -> list[bool]:
    """Return for each classifier of a config (`Config.classifiers`) whether it is fine-tuned; otherwise it is trained from scratch.

    If the first classifier is trained from scratch, so is the refiner.

    Args:
        config: the config that `with_start` returned.
        start: the start model.
    """
    kinds = (start.description.model, start.description.refiner)
    are_same = [_difference(recipe, kind) is None for recipe, kind in zip(config.classifiers, kinds, strict=False)]
    return [is_same and are_same[0] for is_same in are_same]


def _difference(recipe: Config, kind: str | None) -> str | None:
    """Return the config key by which a classifier differs from the start model's, whose architecture is `kind`; None: it does not."""
    if recipe.model != kind:
        return f"model: {recipe.model}"
    if recipe.weights not in (None, "none"):
        return f"weights: {recipe.weights}"
    return "adapt_normalization: true" if recipe.adapt_normalization else None


def _without(config: Config, why: str) -> Config:
    log.warning(f"start_from: {config.start_from} is ignored, since {why}; all networks are trained from scratch")
    return config.model_copy(update={"start_from": None})


def _terms(config: Config, start: StartModel) -> str | None:
    """Return the terms of the config joined with the start model's, since the new weights derive from its weights.

    Raises:
        InputError: the joined terms are longer than `LONGEST_TERMS`.
    """
    start_terms, terms = start.description.terms, config.terms
    if start_terms is None or start_terms in (terms or ""):
        return terms
    if terms is None or start_terms.startswith(f"{terms} "):  # the start model was trained with the same recipe
        return start_terms
    both = f"{terms} {start_terms}"
    if len(both) > LONGEST_TERMS:
        raise InputError(
            f"terms: with those of `start_from: {start.folder}` they have {len(both):,} characters; expected up to "
            f"{LONGEST_TERMS:,}: shorten `terms`"
        )
    return both


def _labels(config: Config, start: StartModel) -> dict[str, Any]:
    """Return the start model's labels, and which of them are infected or red cells, for the keys that the config does not set."""
    known = start.description.labels
    names = config.labels if "labels" in config.model_fields_set and config.labels else list(known.names)
    changes: dict[str, Any] = {"labels": names}
    infected = [n for n in names if n in known.infected or (n in PARASITES and n not in known.names)]
    red_cells = [n for n in names if n in known.red_cells or (n == RED_BLOOD_CELL and n not in known.names)]
    # The keys stay unset if the names alone give the same result, so that ambiguous labels such as Rings are still asked about.
    by_name = config.model_copy(update={"labels": names})
    if config.infected_labels is None and infected != by_name.infected:
        changes["infected_labels"] = infected
    if config.red_cell_labels is None and red_cells != by_name.red_cells:
        changes["red_cell_labels"] = red_cells
    return changes


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
        epochs, rate, augmentation = (
            max(round(recipe.epochs * config.epochs / before.epochs), 1),
            recipe.learning_rate,
            recipe.augmentation,
        )
    return Refiner(
        model=described.refiner,
        epochs=epochs,
        learning_rate=RATE * rate,
        image_size=described.refiner_size_hw,
        augmentation=augmentation,
    )


def _recipe(start: StartModel) -> Config | None:
    """Return the config that the start model was trained with; None if its folder has none that this version can read."""
    try:
        return load_config(start.folder / "config.yaml")
    except InputError:  # the file is missing or of another version; defaults are used then
        return None


def habits_of(start: StartModel) -> dict[str, Any]:
    """Return the values of `HABITS` that the start model was trained with; defaults if its folder has no readable config."""
    config = _recipe(start) or Config()
    return {key: getattr(config, key) for key in HABITS}
