"""Split files, which list the images of each part: JSON ``{"train": [names], "test": [names]}``."""

import json
import logging
from pathlib import Path

from malaria_cells.base.errors import InputError, reason
from malaria_cells.base.text import excerpt, number_of
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.annotations.matching import match_names

log = logging.getLogger(__name__)


FORMAT = '{"train": [images], "test": [images]}'  # for messages


def read_parts(path: Path, option: str = "") -> dict[str, list[str]]:
    """The lists of image names in a split file, by part.

    Args:
        path: the file.
        option: the option that names the file, put before its path in errors.

    Raises:
        InputError: the file does not exist or has another format; the message names the file.
    """
    named = f"{option} {path}".strip()
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{named}: expected a file of the format {FORMAT} ({error.strerror})") from None
    except RecursionError:
        raise InputError(f"{named}: nested too deeply; expected {FORMAT}") from None
    except ValueError as error:
        raise InputError(f"{named}: not valid JSON ({reason(error)}); expected {FORMAT}") from None
    if not isinstance(content, dict):
        raise InputError(f"{named}: found {excerpt(content)}; expected {FORMAT}")
    lists = {part: names for part, names in content.items() if isinstance(names, list)}
    for part, names in lists.items():
        wrong = [name for name in names if not isinstance(name, str)]
        if wrong:
            raise InputError(f"{named}: '{part}' holds {excerpt(wrong[0])}; expected names of images")
    return lists


def read_split(path: Path, annotations: AnnotationSet) -> tuple[AnnotationSet, AnnotationSet]:
    """Split a data set by a file ``{"train": [names], "test": [names]}``; a list ``validation`` is added to the training part.

    Names are keys or the ends of paths. Images that are in no list are left out, with a warning.

    Returns:
        The training part and the test part.

    Raises:
        InputError: the file does not exist or has another format, a name matches no image or several, or an image is in both parts.
    """
    lists = read_parts(path)
    for part in ("train", "test"):
        if part not in lists:
            raise InputError(f"{path}: holds no list '{part}'; expected {FORMAT}")
    parts = {"train": [*lists["train"], *lists.get("validation", [])], "test": lists["test"]}
    matched = match_names((name for names in parts.values() for name in names), whole_paths(annotations))
    for name, keys in matched.items():
        if len(keys) != 1:
            problem = "fits no image" if not keys else f"fits several images ({keys[0]}, {keys[1]})"
            raise InputError(f"{path}: '{name}' {problem} of the annotation")
    chosen = {part: {matched[name][0] for name in names} for part, names in parts.items()}
    both = sorted(chosen["train"] & chosen["test"])
    if both:
        raise InputError(f"{path}: '{both[0]}' is in train and in test; an image belongs to one part")
    named = chosen["train"] | chosen["test"]
    unnamed = [p.key for p in annotations.images if p.key not in named]
    if unnamed:
        log.warning(f"{path}: {number_of(len(unnamed), 'annotated image')} left out, since no list names them; first: {unnamed[0]}")
    return annotations.subset(chosen["train"]), annotations.subset(chosen["test"])


def whole_paths(annotations: AnnotationSet) -> dict[str, str]:
    """Absolute paths of the images, by key."""
    return {p.key: p.path.absolute().as_posix() if p.path is not None else p.key for p in annotations.images}
