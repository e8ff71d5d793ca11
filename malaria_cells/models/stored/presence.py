"""Check that a network file exists."""

from pathlib import Path

from malaria_cells.base.errors import InputError

LFS = b"version https://git-lfs.github.com/spec/"


def check_is_there(path: Path) -> None:
    """Check that a network file exists and is not a Git LFS pointer.

    Raises:
        InputError: the file does not exist, or is a pointer.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with path.open("rb") as file:
        if file.read(len(LFS)) == LFS:
            raise InputError(f"{path}: is a Git LFS pointer, not the file itself; fetch the file with: git lfs pull")
