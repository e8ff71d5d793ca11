"""Photographs that a model was trained on: figures that are taken on them flatter."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from malaria_cells.annotations import AnnotationSet
from malaria_cells.split_file import read_parts
from malaria_cells.text import number_of

log = logging.getLogger(__name__)

SPLIT = "split.json"
SEEN = "seen_before"  # list in a model's split.json: what the models that it began with were trained on
LEARNED = ("train", "validation", SEEN)  # by its thresholds, if not by its weights, a model has learned from validation too


def learned_from(folder: Path) -> list[str]:
    """Names of the photographs that a model, or one that it began with, was trained on or chosen by, as its folder tells them.

    Raises:
        InputError: the folder's list is damaged.
    """
    if not (folder / SPLIT).is_file():
        return []
    parts = read_parts(folder / SPLIT)
    return list(dict.fromkeys(name for part in LEARNED for name in parts.get(part, [])))


def seen_in(folder: Path, keys: Iterable[str]) -> list[str]:
    """Those of some pictures whose files have the name of a photograph that a model, or one that it began with, has learned from.

    Names alone are compared, without folder and suffix: the photographs need not be there any more.

    Args:
        folder: of the model.
        keys: paths of the pictures.

    Raises:
        InputError: see `learned_from`.
    """
    known = {_stem(name) for name in learned_from(folder)}
    return [key for key in keys if _stem(key) in known]


def say_seen(folder: Path, parts: Mapping[str, AnnotationSet]) -> dict[str, dict[str, int]]:
    """Tell which photographs of parts, that figures are taken on, a start model has seen, by the names of their files.

    Args:
        folder: of the start model.
        parts: by name.

    Returns:
        What is noted of it beside figures: under `SEEN` how many such photographs each part has; empty if none has any.

    Raises:
        InputError: see `learned_from`.
    """
    seen = {part: seen_in(folder, [p.key for p in annotations.pictures]) for part, annotations in parts.items()}
    seen = {part: keys for part, keys in seen.items() if keys}
    for part, keys in seen.items():
        log.warning(
            f"start_from: {folder}: was trained on photographs of the names that {number_of(len(keys), 'photograph')} of "
            f"{len(parts[part]):,} of the {part} part have; if they are the same, figures on that part flatter (first: {keys[0]})"
        )
    return {SEEN: {part: len(keys) for part, keys in seen.items()}} if seen else {}


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).stem.casefold()
