"""Record of the data a training started with, compared on resume."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from malaria_cells.base import files
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.dataset import DataSet


def data_record(data: DataSet) -> dict[str, Any]:
    """Hashes of the annotation and image files, and the keys of the images, by part; JSON-serialisable.

    Reads every image file once.
    """
    return {name: _of_part(part) for name, part in data.all_parts.items()}


def _of_part(part: AnnotationSet) -> dict[str, Any]:
    digest = hashlib.blake2b(digest_size=16)
    with ThreadPoolExecutor() as pool:
        for content in pool.map(files.file_hash, (p.path for p in part.images)):
            digest.update(content)
    return {"annotation": part.fingerprint, "files": digest.hexdigest(), "images": [p.key for p in part.images]}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Describe how each part differs between two records; an empty list if none does.

    Examples:
        >>> old = {"train": {"annotation": "a", "files": "b", "images": ["1.jpg", "2.jpg"]}}
        >>> new = {"train": {"annotation": "c", "files": "d", "images": ["1.jpg", "3.jpg", "4.jpg"]}}
        >>> differences(old, new)
        ['the train part has 2 new images (3.jpg ..) and lacks 1 image (2.jpg)']
        >>> differences(old, old)
        []
    """
    described = ((name, _difference(before.get(name), now.get(name))) for name in sorted(before.keys() | now.keys(), reverse=True))
    return [f"the {name} part {difference}" for name, difference in described if difference]


def _difference(before: dict[str, Any] | None, now: dict[str, Any] | None) -> str:
    if before is None or now is None:
        return "is new" if before is None else "is no longer there"
    new = sorted(set(now["images"]) - set(before["images"]))
    missing = sorted(set(before["images"]) - set(now["images"]))
    changes = [f"has {_named(new, 'new image')}"] if new else []
    changes += [f"lacks {_named(missing, 'image')}"] if missing else []
    if changes:
        return " and ".join(changes)
    changed = [what for key, what in (("annotation", "annotation"), ("files", "image files")) if before[key] != now[key]]
    return f"has other {' and '.join(changed)}" if changed else ""


def _named(keys: list[str], what: str) -> str:
    return f"{number_of(len(keys), what)} ({keys[0]}{' ..' if len(keys) > 1 else ''})"
