"""Finds images that a model was trained on, on which scores would be too good."""

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.split_file import read_parts

log = logging.getLogger(__name__)

SPLIT = "split.json"  # file in a model's folder
SEEN = "seen_before"  # key in split.json: the images that the model's start models were trained on
LEARNED = ("train", "validation", SEEN)  # keys in split.json; validation images count, since thresholds are chosen on them
MIN_LETTERS = 6  # characters of a distinctive name, not all of them digits, which two data sets hardly share
MIN_FRACTION = 0.5  # fraction of images with known names from which names that are not distinctive, such as 12.jpg, count as well


def learned_from(folder: Path) -> list[str]:
    """Names of the images that a model or its start models were trained on, as listed in its folder.

    Raises:
        InputError: the folder's split.json is damaged.
    """
    return _learned(_lists(folder))


def seen_in(folder: Path, keys: Collection[str]) -> list[str]:
    """The images whose file name is that of an image on which a model or one of its start models was trained.

    Names are compared without folder and suffix, since the training images need not exist any more. Common names such as ``12.jpg`` count
    only if at least half of the images share a name with the model's. Names of the model's own test part do not count.

    Args:
        folder: folder of the model.
        keys: paths of the images.

    Raises:
        InputError: see `learned_from`.
    """
    return _with_known_name(_known(folder), keys)


def warning_of_seen(model: object, part: str, n_seen: int, n: int) -> str:
    """The warning for logs and reports.

    Args:
        model: name of the model.
        part: name of the part, such as ``test``.
        n_seen: number of the part's images that the model was probably trained on.
        n: number of the part's images.
    """
    chosen = "; calibration, thresholds and intervals are chosen on them, and are then too confident" if part == "validation" else ""
    return (
        f"{n_seen:,} of {number_of(n, 'image')} of the {part} part have file names of images that {model} was trained on: if they are "
        f"the same images, figures of that part are too good{chosen}"
    )


def say_seen(folder: Path, parts: Mapping[str, AnnotationSet], named: str = "start_from") -> dict[str, dict[str, int]]:
    """Warn of images in the scored parts that the start model was trained on.

    Args:
        folder: folder of the start model.
        parts: the scored parts by name.
        named: the key or option that names the start model.

    Returns:
        An entry for the file of scores: under `SEEN`, the number of such images by part; empty if there are none.

    Raises:
        InputError: see `learned_from`.
    """
    known = _known(folder)
    seen = {part: _with_known_name(known, [p.key for p in annotations.images]) for part, annotations in parts.items()}
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


def _with_known_name(known: Collection[str], keys: Collection[str]) -> list[str]:
    matching = [key for key in keys if _stem(key) in known]
    return matching if len(matching) >= MIN_FRACTION * len(keys) else [key for key in matching if _is_distinct(_stem(key))]


def _stems(names: Iterable[str]) -> set[str]:
    return {_stem(name) for name in names}


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).stem.casefold()


def _is_distinct(stem: str) -> bool:
    return len(stem) >= MIN_LETTERS and not stem.isdigit()
