"""Portable, distinct file names made from the names of classes and images.

File systems differ in which names are the same: Windows and macOS ignore case, macOS ignores the Unicode normalisation form of a letter,
and Windows drops trailing dots and spaces and reserves some names for devices. Most limit a name to 255 bytes.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from malaria_cells.base.errors import InputError

LONGEST = 250  # bytes of UTF-8 in a name: the limit of most systems, 255, less room for the suffix of a label file
_MAX_SUFFIX_BYTES = 20  # bytes; longer text after the last dot is not treated as a suffix
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?=\.|$)", re.IGNORECASE)
_UNPRINTABLE = {"Cc", "Cs"}  # Unicode categories: control characters and surrogates (bytes of a name that is not UTF-8)


def folded(path: str) -> str:
    r"""Normalise a path for comparison: two paths with the same normalised form may be the same file on some system.

    >>> folded("Ring.PNG") == folded("ring.png"), folded("a\u0308.png") == folded("\u00e4.png"), folded("a. /b") == folded("a/b")
    (True, True, True)
    """
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())
    return "/".join(part.rstrip(". ") or part for part in text.split("/"))


def fitted(name: str, max_bytes: int = LONGEST) -> str:
    """Shorten a file name to at most `max_bytes` bytes: the end of a longer stem is replaced by a checksum of the whole name.

    >>> fitted("a.png"), fitted("a" * 300 + ".png", 30)
    ('a.png', 'aaaaaaaaaaaaaaaaa~f0e62479.png')
    """
    if _length(name) <= max_bytes:
        return name
    stem, suffix = _split(name)
    tail = "~" + hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest() + suffix
    stem = stem[:max_bytes]
    while _length(stem + tail) > max_bytes:
        stem = stem[:-1]
    return stem + tail


def printable(name: str) -> str:
    r"""Replace each control character or invalid byte of a name by an underscore.

    >>> printable("smear\x07 1.png"), printable("caf\udce9.png")
    ('smear_ 1.png', 'caf_.png')
    """
    return "".join("_" if unicodedata.category(c) in _UNPRINTABLE or c in "\ufffe\uffff" else c for c in name)


def stem_of_label(label: str) -> str:
    """Return the file stem for a class: its name, with all but letters, digits, dots and hyphens replaced by underscores.

    >>> stem_of_label("red blood cell"), stem_of_label("P. vivax/ring"), stem_of_label("NUL"), stem_of_label("?"), stem_of_label("..")
    ('red_blood_cell', 'P._vivax_ring', 'NUL_', 'class', 'class')
    """
    stem = re.sub(r"[^\w.-]+", "_", label).lstrip(".")
    if not re.search(r"[^\W_]", stem):
        return "class"
    return _WINDOWS_DEVICES.sub(r"\g<1>_", stem, count=1) if _WINDOWS_DEVICES.match(stem) else stem


def inside(path: str) -> str:
    """Return a relative path unchanged if it stays inside its folder on every operating system.

    Raises:
        InputError: the path is absolute or empty, or contains ``..``.
    """
    parts = re.split(r"[/\\]", path)
    if not path or path.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", path) or ".." in parts or "\0" in path:
        raise InputError(f"'{printable(path)}': leads outside the output folder; name the image by its path within the data set")
    return path


def distinct(
    wanted: Sequence[str],
    files_of: Callable[[str], Iterable[str]] = lambda name: (name,),
    max_bytes: int = LONGEST,
    numbered: str = "{stem}_{number}{suffix}",
) -> list[str]:
    """Make paths distinct, so that no two of them write the same file. A path without a conflict is unchanged.

    Args:
        wanted: relative paths with forward slashes.
        files_of: maps a path to the files that are written for it; by default the path alone.
        max_bytes: maximum length of each part of a path, in bytes of UTF-8.
        numbered: format of the name that replaces a name in conflict.

    Returns:
        One path per entry of `wanted`, in the same order. The result is deterministic. Absolute paths and ``..`` are made relative
        to the output folder.
    """
    cleaned = [_clean(name, max_bytes) for name in wanted]
    taken = _Taken(files_of)
    chosen: list[str | None] = [name if taken.take(name) else None for name in cleaned]
    tried: Counter[str] = Counter()
    for i, name in enumerate(cleaned):
        while chosen[i] is None:
            tried[name] += 1
            candidate = _with_number(name, tried[name] + 1, numbered, max_bytes, taken.has_file_for_folder(name))
            chosen[i] = candidate if taken.take(candidate) else None
    return [name for name in chosen if name is not None]


class _Taken:
    """The files and folders that are needed by the paths chosen so far."""

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


def _clean(path: str, max_bytes: int) -> str:
    path = re.sub(r"^([A-Za-z]):", r"\1_", path.replace("\0", "_"))  # a Windows drive
    parts = [part for part in path.split("/") if part not in {"", "."}]
    return "/".join(fitted("_" if part == ".." else part, max_bytes) for part in parts) or "_"


def _with_number(path: str, number: int, numbered: str, max_bytes: int, in_folder: bool) -> str:
    parts = path.split("/")
    index = 0 if in_folder else -1  # number the first folder if another file has the name of one of the folders
    stem, suffix = _split(parts[index])
    parts[index] = fitted(numbered.format(stem=stem, number=number, suffix=suffix), max_bytes)
    return "/".join(parts)


def _split(name: str) -> tuple[str, str]:
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem.strip(".") and _length(dot + suffix) <= _MAX_SUFFIX_BYTES else (name, "")


def _length(name: str) -> int:
    return len(name.encode("utf-8", "surrogatepass"))
