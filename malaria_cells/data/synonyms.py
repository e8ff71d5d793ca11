"""Synonyms of class names, for suggestions in messages; a name is never replaced by its synonym without the user's consent."""

import re
from collections.abc import Iterable

from malaria_cells.base.errors import nearest_name

# Each line holds the names of one class as `plain` returns them: lower case, single spaces, no plural.
_SYNONYMS = (
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
    """A name in normalized spelling: lower case, single spaces for hyphens, underscores, points and camel case, singular.

    Examples:
        >>> plain("Red_Blood-Cells"), plain("trophs"), plain("RedBloodCell")
        ('red blood cell', 'troph', 'red blood cell')
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name)
    words = re.sub(r"[\s_\-./]+", " ", apart).strip().casefold().split(" ")
    return " ".join(word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words)


def likely(name: str, known: Iterable[str]) -> str | None:
    """The known name that most likely means the same, or None: an equal spelling, then a synonym, then a similar spelling.

    The name of another class does not count as a misspelling: a leukocyte is not a gametocyte.

    Examples:
        >>> likely("RBC", ["leukocyte", "red blood cell"]), likely("Rings", ["ring"]), likely("trophozoit", ["trophozoite"])
        ('red blood cell', 'ring', 'trophozoite')
        >>> likely("leukocyte", ["gametocyte"])
    """
    known = list(known)
    meaning = means(name, known)
    if meaning is not None or any(plain(name) in synonyms for synonyms in _SYNONYMS):
        return meaning
    return nearest_name(name, known, 0.8)


def means(name: str, known: Iterable[str]) -> str | None:
    """The known name that differs in case and punctuation alone, or is a synonym; or None."""
    by_plain = {plain(k): k for k in reversed(list(known))}
    wanted = plain(name)
    if wanted in by_plain:
        return by_plain[wanted]
    for synonyms in _SYNONYMS:
        if wanted in synonyms:
            return next((by_plain[synonym] for synonym in synonyms if synonym in by_plain), None) or _in_another(wanted, synonyms, by_plain)
    return None


def _in_another(wanted: str, searched: tuple[str, ...], by_plain: dict[str, str]) -> str | None:
    other_lines = (synonyms for synonyms in _SYNONYMS if synonyms is not searched and wanted in synonyms)
    return next((by_plain[synonym] for synonyms in other_lines for synonym in synonyms if synonym in by_plain), None)
