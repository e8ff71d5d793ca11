"""Names that people give to one class of cell, for questions: no name is ever taken for another without being told."""

import re
from collections.abc import Iterable

from malaria_cells.base.errors import nearest_name

# Each line is one thing. Compared as `plain` writes them: small letters, single spaces, no plural.
_SAME = (
    ("red blood cell", "rbc", "erythrocyte", "red cell", "uninfected red blood cell", "uninfected rbc", "uninfected", "uninfected cell"),
    ("leukocyte", "leucocyte", "wbc", "white blood cell", "white cell"),
    ("platelet", "thrombocyte", "plt"),
    ("ring", "ring form", "ring stage", "ring trophozoite", "early trophozoite", "immature trophozoite"),
    ("trophozoite", "troph", "tropho", "late trophozoite", "mature trophozoite", "trophozoite stage"),
    ("schizont", "schiz", "schizonte", "schizont stage"),
    ("gametocyte", "gam", "game", "gameto", "gametocyte stage"),
    ("parasitized", "parasitised", "infected", "infected cell", "infected red blood cell", "infected rbc", "irbc", "parasite", "positive"),
    ("uninfected", "healthy", "normal", "negative", "healthy cell", "unparasitized", "unparasitised"),
    ("difficult", "unclear", "uncertain", "unknown"),
)


def plain(name: str) -> str:
    """A name without what people write in several ways: case, hyphens, underscores, spaces, points, the plural.

    Examples:
        >>> plain("Red_Blood-Cells"), plain("trophs"), plain("RedBloodCell")
        ('red blood cell', 'troph', 'red blood cell')
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name)
    words = re.sub(r"[\s_\-./]+", " ", apart).strip().casefold().split(" ")
    return " ".join(word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words)


def likely(name: str, known: Iterable[str]) -> str | None:
    """The known name that most likely means the same, or None: one that is written alike, then a synonym, then a misspelling.

    A usual name of another thing is no misspelling: a leukocyte is not a gametocyte.

    Examples:
        >>> likely("RBC", ["leukocyte", "red blood cell"]), likely("Rings", ["ring"]), likely("trophozoit", ["trophozoite"])
        ('red blood cell', 'ring', 'trophozoite')
        >>> likely("leukocyte", ["gametocyte"])
    """
    known = list(known)
    meaning = means(name, known)
    if meaning is not None or any(plain(name) in same for same in _SAME):
        return meaning
    return nearest_name(name, known, 0.8)


def means(name: str, known: Iterable[str]) -> str | None:
    """The known name that is written alike but for case and punctuation, or is a usual synonym; or None."""
    by_plain = {plain(k): k for k in reversed(list(known))}
    wanted = plain(name)
    if wanted in by_plain:
        return by_plain[wanted]
    for same in _SAME:
        if wanted in same:
            return next((by_plain[other] for other in same if other in by_plain), None) or _in_another(wanted, same, by_plain)
    return None


def _in_another(wanted: str, looked_in: tuple[str, ...], by_plain: dict[str, str]) -> str | None:
    others = (same for same in _SAME if same is not looked_in and wanted in same)
    return next((by_plain[other] for same in others for other in same if other in by_plain), None)
