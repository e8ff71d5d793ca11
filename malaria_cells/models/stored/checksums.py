"""Checksums of the networks in a model folder: a file that was damaged or exchanged is named before a library reads it."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from malaria_cells.base.errors import InputError
from malaria_cells.models.stored.saved_model import GRAPH

SUFFIXES = {".keras", ".onnx", ".xml", ".bin", ".tflite"}


def network_files(folder: Path) -> list[Path]:
    """The files of networks in a model folder, those of SavedModels included, sorted."""
    files = [path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file()]
    for graph in folder.glob(f"*/{GRAPH}"):
        if not (graph.parent / "model.yaml").exists():
            files += [path for path in graph.parent.rglob("*") if path.is_file()]
    return sorted(files)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each network's file by its name relative to the folder, with forward slashes."""
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in network_files(folder)}


def check_checksums(folder: Path, stored: Mapping[str, str], stems: Iterable[str], about: str) -> None:
    """Compare the files of networks with their checksums; a file without one is not compared.

    Args:
        folder: the model folder.
        stored: as `checksums` gave them.
        stems: names of the networks that are about to be used, without suffix.
        about: the file that holds the checksums, for the error.

    Raises:
        InputError: a file is missing, or differs.
    """
    wanted = set(stems)
    for name, expected in stored.items():
        if name.split("/")[0].split(".")[0] not in wanted:
            continue
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: no such file, though {about} lists it; copy the model folder again, whole")
        if _sha256(path) != expected:
            raise InputError(
                f"{path}: is not the file that {about} was written for (its checksum differs): it was damaged or exchanged; copy the model "
                f"folder again, or, if you changed the file yourself, delete its line under `files` in {about}"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
