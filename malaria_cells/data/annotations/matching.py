"""Which images a list of names means, where the list was written with another folder in mind."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

_OWN_FOLDER = "images/"


def match_names(names: Iterable[str], paths: Mapping[str, str]) -> dict[str, list[str]]:
    r"""Find the images that names stand for; the time it takes grows with the number of either, not with their product.

    A name that is an image's key stands for that one. Else it stands for the images whose paths end with it in whole components,
    but for those of which a longer name of the list is the end. A name of an absolute path, or below ``images/``, that fits nothing
    is tried again without its first folders, the fewest possible.

    Args:
        names: with any slashes, composed letters or not.
        paths: whole paths of the images by their keys, which end with the keys.

    Returns:
        Keys by name, as many lists as there are names: empty where nothing fits, two or more keys where it is ambiguous.

    Examples:
        >>> match_names(["1.jpg", "sub\\1.jpg", "2.jpg"], {"1.jpg": "/data/1.jpg", "sub/1.jpg": "/data/sub/1.jpg"})
        {'1.jpg': ['1.jpg'], 'sub\\1.jpg': ['sub/1.jpg'], '2.jpg': []}
    """
    by_plain: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_plain[_plain(name)].append(name)
    keys = {_plain(key): key for key in paths}
    found: dict[str, list[str]] = {wanted: [keys[wanted]] for wanted in by_plain if wanted in keys}
    exact = set(found)
    for plain, key in keys.items():
        if plain not in exact:
            end = next((end for end in _ends(_plain(paths[key])) if end in by_plain), None)
            if end is not None and end not in exact:
                found.setdefault(end, []).append(key)
    missing = [wanted for wanted in by_plain if wanted not in found and (wanted.startswith(("/", _OWN_FOLDER)) or wanted[1:2] == ":")]
    if missing:
        _match_ends(missing, paths, found)
    return {name: found.get(wanted, []) for wanted, names in by_plain.items() for name in names}


def _match_ends(missing: list[str], paths: Mapping[str, str], found: dict[str, list[str]]) -> None:
    by_end: dict[str, list[str]] = defaultdict(list)
    for key in paths:
        for end in _ends(_plain(key)):
            by_end[end].append(key)
    for wanted in missing:
        fitting = next((by_end[end] for end in _ends(wanted) if end in by_end), None)
        if fitting is not None:
            found[wanted] = fitting


def _plain(name: str) -> str:
    name = unicodedata.normalize("NFC", name.replace("\\", "/"))
    while name.startswith("./"):
        name = name[2:]
    return name


def _ends(path: str) -> list[str]:
    """The path and its ends of whole components, the longest first."""
    parts = [part for part in PurePosixPath(path).parts if part != "/"]
    whole = [path] if path.startswith("/") else []
    return [*whole, *("/".join(parts[start:]) for start in range(len(parts)))]
