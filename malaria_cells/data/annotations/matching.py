"""Matches a list of image names, which may be relative to another folder, with the images of a data set."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

_IMAGE_FOLDER = "images/"


def match_names(names: Iterable[str], paths: Mapping[str, str]) -> dict[str, list[str]]:
    r"""Find the images that names refer to, in time linear in the numbers of names and images.

    A name that is an image's key refers to that image. Any other name refers to the images whose paths end with it (in whole
    components), except those that a longer name of the list matches as well. An absolute path, or one below ``images/``, that matches no
    image is tried again without its first folders, removing as few as possible.

    Args:
        names: names of images, with any slashes and in any Unicode normal form.
        paths: complete paths of the images by their keys; each path ends with its key.

    Returns:
        The keys of the matching images for each name: an empty list without a match, two or more keys if the name is ambiguous.

    Examples:
        >>> match_names(["1.jpg", "sub\\1.jpg", "2.jpg"], {"1.jpg": "/data/1.jpg", "sub/1.jpg": "/data/sub/1.jpg"})
        {'1.jpg': ['1.jpg'], 'sub\\1.jpg': ['sub/1.jpg'], '2.jpg': []}
    """
    by_plain: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_plain[_plain(name)].append(name)
    keys = {_plain(key): key for key in paths}
    matches: dict[str, list[str]] = {wanted: [keys[wanted]] for wanted in by_plain if wanted in keys}
    exact = set(matches)
    for plain, key in keys.items():
        if plain not in exact:
            end = next((end for end in _ends(_plain(paths[key])) if end in by_plain), None)
            if end is not None and end not in exact:
                matches.setdefault(end, []).append(key)
    missing = [wanted for wanted in by_plain if wanted not in matches and (wanted.startswith(("/", _IMAGE_FOLDER)) or wanted[1:2] == ":")]
    if missing:
        _match_ends(missing, paths, matches)
    return {name: matches.get(wanted, []) for wanted, names in by_plain.items() for name in names}


def _match_ends(missing: list[str], paths: Mapping[str, str], matches: dict[str, list[str]]) -> None:
    """Add the keys whose longest possible end matches each missing name to `matches`."""
    by_end: dict[str, list[str]] = defaultdict(list)
    for key in paths:
        for end in _ends(_plain(key)):
            by_end[end].append(key)
    for wanted in missing:
        matching = next((by_end[end] for end in _ends(wanted) if end in by_end), None)
        if matching is not None:
            matches[wanted] = matching


def _plain(name: str) -> str:
    name = unicodedata.normalize("NFC", name.replace("\\", "/"))
    while name.startswith("./"):
        name = name[2:]
    return name


def _ends(path: str) -> list[str]:
    """The path and its endings in whole components, the longest first."""
    parts = [part for part in PurePosixPath(path).parts if part != "/"]
    whole = [path] if path.startswith("/") else []
    return [*whole, *("/".join(parts[start:]) for start in range(len(parts)))]
