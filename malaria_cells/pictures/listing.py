"""The pictures of a folder or a pattern."""

import glob
from pathlib import Path

from malaria_cells.errors import InputError
from malaria_cells.pictures.names import SUFFIXES, is_picture
from malaria_cells.pictures.walking import walk_files


def list_pictures(where: str | Path) -> tuple[Path, list[str]]:
    """Find the pictures of one file, a directory (recursively) or a glob.

    Args:
        where: a path, or a pattern with ``*``, ``?`` or ``[``; ``**`` crosses folders.

    Returns:
        The folder that keys are relative to, and the sorted keys (relative paths with forward slashes).

    Raises:
        InputError: nothing is there, or nothing of it is a picture.
    """
    path = Path(where)
    if path.is_dir():
        root, found = path, [p for p in walk_files(path) if is_picture(p)]
    elif path.is_file():
        return path.parent, [path.name]
    elif glob.has_magic(str(where)):
        parts = path.parts
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        root = Path(*parts[:fixed])
        found = [p for p in map(Path, glob.glob(str(where), recursive=True)) if p.is_file() and is_picture(p)]
    else:
        raise InputError(f"{where}: no such picture or directory")
    if not found:
        raise InputError(f"{where}: found no picture; expected files ending in {', '.join(sorted(SUFFIXES))}")
    return root, sorted(p.relative_to(root).as_posix() for p in found)
