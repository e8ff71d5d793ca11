"""Names of files made from other names: of classes, of images. No two become one, on any system.

Some systems compare names without regard to case, and all Apple's without regard to the Unicode form of a letter; Windows
drops dots and spaces at the end and keeps some names for its devices; no system takes more than 255 bytes.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from malaria_cells.base.errors import InputError

LONGEST = 250  # bytes of UTF-8: 255 are the limit of most systems, less what the ending of a label file may add
_LONGEST_SUFFIX = 20  # bytes; a longer one is no suffix but a sentence with a full stop in it
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?=\.|$)", re.IGNORECASE)
_UNPRINTABLE = {"Cc", "Cs"}  # Unicode categories: control characters, and bytes of a name that is not UTF-8


def folded(path: str) -> str:
    r"""The form in which two paths are compared: those with the same form may be one file on some system.

    >>> folded("Ring.PNG") == folded("ring.png"), folded("a\u0308.png") == folded("\u00e4.png"), folded("a. /b") == folded("a/b")
    (True, True, True)
    """
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())
    return "/".join(part.rstrip(". ") or part for part in text.split("/"))


def fitted(name: str, longest: int = LONGEST) -> str:
    """A file's name of at most `longest` bytes; a longer one loses its end, for which a checksum of the whole name stands.

    >>> fitted("a.png"), fitted("a" * 300 + ".png", 30)
    ('a.png', 'aaaaaaaaaaaaaaaaa~f0e62479.png')
    """
    if _length(name) <= longest:
        return name
    stem, suffix = _split(name)
    tail = "~" + hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest() + suffix
    stem = stem[:longest]
    while _length(stem + tail) > longest:
        stem = stem[:-1]
    return stem + tail


def printable(name: str) -> str:
    r"""A name without characters that no other program takes: each becomes an underscore.

    >>> printable("smear\x07 1.png"), printable("caf\udce9.png")
    ('smear_ 1.png', 'caf_.png')
    """
    return "".join("_" if unicodedata.category(c) in _UNPRINTABLE or c in "\ufffe\uffff" else c for c in name)


def stem_of_label(label: str) -> str:
    """The stem of a file about a class: its name, with an underscore for whatever is no letter, digit, dot or hyphen.

    >>> stem_of_label("red blood cell"), stem_of_label("P. vivax/ring"), stem_of_label("NUL"), stem_of_label("?"), stem_of_label("..")
    ('red_blood_cell', 'P._vivax_ring', 'NUL_', 'class', 'class')
    """
    stem = re.sub(r"[^\w.-]+", "_", label).lstrip(".")
    if not re.search(r"[^\W_]", stem):
        return "class"
    return _WINDOWS_DEVICES.sub(r"\g<1>_", stem, count=1) if _WINDOWS_DEVICES.match(stem) else stem


def inside(path: str) -> str:
    """The path itself, where it leads to a place below the folder that it is relative to, on every system.

    Raises:
        InputError: it is absolute, empty, or goes up by ``..``.
    """
    parts = re.split(r"[/\\]", path)
    if not path or path.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", path) or ".." in parts or "\0" in path:
        raise InputError(f"'{printable(path)}': leads outside the folder that is written; name the image by its path below the data set")
    return path


def distinct(
    wanted: Sequence[str],
    files_of: Callable[[str], Iterable[str]] = lambda name: (name,),
    longest: int = LONGEST,
    numbered: str = "{stem}_{number}{suffix}",
) -> list[str]:
    """A path for each of `wanted`, so that no two write the same file; one that is free is kept as it is.

    Args:
        wanted: relative paths with forward slashes.
        files_of: the files that are written for a path; by default the path alone.
        longest: bytes of each part of a path.
        numbered: how a path is told apart from an earlier one.

    Returns:
        As many paths, in the same order, the same for the same list. ``..`` and absolute paths are brought inside.
    """
    cleaned = [_clean(name, longest) for name in wanted]
    taken = _Taken(files_of)
    chosen: list[str | None] = [name if taken.take(name) else None for name in cleaned]
    tried: Counter[str] = Counter()
    for i, name in enumerate(cleaned):
        while chosen[i] is None:
            tried[name] += 1
            candidate = _with_number(name, tried[name] + 1, numbered, longest, taken.has_file_for_folder(name))
            chosen[i] = candidate if taken.take(candidate) else None
    return [name for name in chosen if name is not None]


class _Taken:
    """The files and folders that the paths chosen so far need."""

    def __init__(self, files_of: Callable[[str], Iterable[str]]):
        self._files_of = files_of
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def has_file_for_folder(self, name: str) -> bool:
        return bool(self._needed(name)[1] & self._files)

    def _needed(self, name: str) -> tuple[set[str], set[str]]:
        files = {folded(file) for file in self._files_of(name)}
        return files, {"/".join(parts[:i]) for parts in (file.split("/") for file in files) for i in range(1, len(parts))}

    def take(self, name: str) -> bool:
        files, folders = self._needed(name)
        if files & (self._files | folders) or files & self._folders or folders & self._files:
            return False
        self._files |= files
        self._folders |= folders
        return True


def _clean(path: str, longest: int) -> str:
    path = re.sub(r"^([A-Za-z]):", r"\1_", path.replace("\0", "_"))  # a drive of Windows
    parts = [part for part in path.split("/") if part not in {"", "."}]
    return "/".join(fitted("_" if part == ".." else part, longest) for part in parts) or "_"


def _with_number(path: str, number: int, numbered: str, longest: int, in_folder: bool) -> str:
    parts = path.split("/")
    place = 0 if in_folder else -1  # the first folder, where a file has the name of one of the folders
    stem, suffix = _split(parts[place])
    parts[place] = fitted(numbered.format(stem=stem, number=number, suffix=suffix), longest)
    return "/".join(parts)


def _split(name: str) -> tuple[str, str]:
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem.strip(".") and _length(dot + suffix) <= _LONGEST_SUFFIX else (name, "")


def _length(name: str) -> int:
    return len(name.encode("utf-8", "surrogatepass"))
