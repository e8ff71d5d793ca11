"""Paths as annotations write them: their components, spellings, and how two of them are compared."""

import re
import unicodedata
from pathlib import PurePosixPath
from urllib.parse import unquote

Parts = tuple[str, ...]
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # file name with the prefix of eight hexadecimal digits that Label Studio gives to uploads


def spellings(name: str) -> list[str]:
    """A name as written, then with URL escapes decoded, without a URL's query, and without the prefix of an upload."""
    spellings = [name, unquote(name)]
    if "://" in name:
        spellings.append(unquote(name.split("?")[0].split("#")[0]))
    uploaded = _UPLOADED.fullmatch(PurePosixPath(name.replace("\\", "/")).name)
    return list(dict.fromkeys([*spellings, *([uploaded[1]] if uploaded else [])]))


def leads_out(name: str) -> bool:
    """Whether a path with forward or backward slashes is absolute, or leads out of its folder by ``..``."""
    return components(name)[1]


def components(name: str) -> tuple[Parts, bool]:
    """The components of a path with forward or backward slashes, and whether it leads out of its folder (see `leads_out`)."""
    pure = PurePosixPath(name.replace("\\", "/"))
    outside, parts = False, list[str]()
    for part in pure.parts:
        if part == "..":
            outside = outside or not parts
            parts = parts[:-1]
        elif part.startswith("/") or (not parts and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:", part)):  # C:, file:, https:
            outside = True
        elif part != ".":
            parts.append(part)
    return tuple(parts), outside


def inner_path(name: str) -> str | None:
    r"""An annotation's path with forward slashes; None if it is empty or leads out of the folder.

    Examples:
        >>> inner_path(r"a\b.png"), inner_path("../b.png"), inner_path("/b.png"), inner_path("a/../b.png")
        ('a/b.png', None, None, 'b.png')
    """
    parts, outside = components(name)
    return None if outside or not parts or "\0" in name else "/".join(parts)


def composed(text: str) -> str:
    """A text in Unicode normal form C, with composed accents, as on Windows and Linux; macOS decomposes them."""
    return unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """A text for comparisons that ignore case and Unicode normal form."""
    return composed(composed(text).casefold())
