"""Images that a model was trained on: figures that are taken on them are too good."""

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.split_file import read_parts

log = logging.getLogger(__name__)

SPLIT = "split.json"
SEEN = "seen_before"  # list in a model's split.json: the images that the models before it were trained on
LEARNED = ("train", "validation", SEEN)  # thresholds are chosen on validation images, so that a model has learned from them too
DISTINCT = 6  # characters of a name, not all of them digits, that hardly two data sets have in common
MOST_ALIKE = 0.5  # fraction of the images from which names such as 12.jpg count as well


def learned_from(folder: Path) -> list[str]:
    """Names of the images that a model, or one that it was fine-tuned from, was trained on, as its folder lists them.

    Raises:
        InputError: the folder's list is damaged.
    """
    return _learned(_lists(folder))


def seen_in(folder: Path, keys: Collection[str]) -> list[str]:
    """Those of some images that have the file name of an image that a model, or one that it was fine-tuned from, was trained on.

    Names are compared without folder and suffix, since the images need not exist any more. Names such as ``12.jpg``, which many data sets
    have, count only if at least half of the images have such a name in common with the model's; names of the model's own test part do not.

    Args:
        folder: of the model.
        keys: paths of the images.

    Raises:
        InputError: see `learned_from`.
    """
    return _among(_known(folder), keys)


def warning_of_seen(model: object, part: str, n_seen: int, n: int) -> str:
    """The sentence for logs and reports.

    Args:
        model: name of the model.
        part: of the images, such as ``test``.
        n_seen: number of its images that the model seems to have been trained on.
        n: number of its images.
    """
    chosen = "; calibration, thresholds and intervals are chosen on them, and are then too confident" if part == "validation" else ""
    return (
        f"{n_seen:,} of {number_of(n, 'image')} of the {part} part have file names of images that {model} was trained on: if they are "
        f"the same images, figures of that part are too good{chosen}"
    )


def say_seen(folder: Path, parts: Mapping[str, AnnotationSet], named: str = "start_from") -> dict[str, dict[str, int]]:
    """Warn of images in parts on which figures are taken that the start model was trained on.

    Args:
        folder: of the start model.
        parts: by name.
        named: the key or option that named the start model.

    Returns:
        What is noted of it beside figures: under `SEEN` the number of such images of each part; empty if no part has any.

    Raises:
        InputError: see `learned_from`.
    """
    known = _known(folder)
    seen = {part: _among(known, [p.key for p in annotations.images]) for part, annotations in parts.items()}
    seen = {part: keys for part, keys in seen.items() if keys}
    for part, keys in seen.items():
        log.warning(f"{named}: {warning_of_seen(folder, part, len(keys), len(parts[part]))} (first: {keys[0]})")
    return {SEEN: {part: len(keys) for part, keys in seen.items()}} if seen else {}


def _lists(folder: Path) -> dict[str, list[str]]:
    return read_parts(folder / SPLIT) if (folder / SPLIT).is_file() else {}


def _learned(lists: Mapping[str, list[str]]) -> list[str]:
    return list(dict.fromkeys(name for part in LEARNED for name in lists.get(part, [])))


def _known(folder: Path) -> set[str]:
    lists = _lists(folder)
    return _stems(_learned(lists)) - _stems(lists.get("test", []))


def _among(known: Collection[str], keys: Collection[str]) -> list[str]:
    same = [key for key in keys if _stem(key) in known]
    return same if len(same) >= MOST_ALIKE * len(keys) else [key for key in same if _is_distinct(_stem(key))]


def _stems(names: Iterable[str]) -> set[str]:
    return {_stem(name) for name in names}


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).stem.casefold()


def _is_distinct(stem: str) -> bool:
    return len(stem) >= DISTINCT and not stem.isdigit()
