"""A record of what a training was begun with, to see on resume whether it is still the same."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from malaria_cells.base import files
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.data.dataset import DataSet


def data_record(data: DataSet) -> dict[str, Any]:
    """Hashes of annotation and files, and the keys of the images, by part; JSON-ready.

    Reads every image's file once.
    """
    return {name: _of_part(part) for name, part in data.all_parts.items()}


def _of_part(part: AnnotationSet) -> dict[str, Any]:
    digest = hashlib.blake2b(digest_size=16)
    with ThreadPoolExecutor() as pool:
        for content in pool.map(files.file_hash, (p.path for p in part.images)):
            digest.update(content)
    return {"annotation": part.fingerprint, "files": digest.hexdigest(), "images": [p.key for p in part.images]}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Say for each part of two records what of it is another; an empty list where nothing is.

    Examples:
        >>> old = {"train": {"annotation": "a", "files": "b", "images": ["1.jpg", "2.jpg"]}}
        >>> new = {"train": {"annotation": "c", "files": "d", "images": ["1.jpg", "3.jpg", "4.jpg"]}}
        >>> differences(old, new)
        ['the train part has 2 new images (3.jpg ..) and lacks 1 image (2.jpg)']
        >>> differences(old, old)
        []
    """
    told = ((name, _difference(before.get(name), now.get(name))) for name in sorted(before.keys() | now.keys(), reverse=True))
    return [f"the {name} part {difference}" for name, difference in told if difference]


def _difference(before: dict[str, Any] | None, now: dict[str, Any] | None) -> str:
    if before is None or now is None:
        return "is new" if before is None else "is no longer there"
    new = sorted(set(now["images"]) - set(before["images"]))
    gone = sorted(set(before["images"]) - set(now["images"]))
    moved = [f"has {_named(new, 'new image')}"] if new else []
    moved += [f"lacks {_named(gone, 'image')}"] if gone else []
    if moved:
        return " and ".join(moved)
    changed = [what for key, what in (("annotation", "annotation"), ("files", "image files")) if before[key] != now[key]]
    return f"has other {' and '.join(changed)}" if changed else ""


def _named(keys: list[str], what: str) -> str:
    return f"{number_of(len(keys), what)} ({keys[0]}{' ..' if len(keys) > 1 else ''})"
