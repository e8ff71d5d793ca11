"""Checksums of the network files in a model folder, so that a damaged or replaced file is reported before a library reads it."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from malaria_cells.base.errors import InputError

NETWORKS = ("classifier", "refiner", "second_look", "proposer", "detector")  # names without the suffix of an engine's format


def network_files(folder: Path) -> list[Path]:
    """Return the files of the networks in a model folder, in any engine's format, sorted; a format may be a folder of files."""
    networks = [p for p in folder.iterdir() if p.name.split(".")[0] in NETWORKS and not (p / "model.yaml").exists()]
    return sorted(path for network in networks for path in (network, *network.rglob("*")) if path.is_file())


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each network file by its path relative to the folder, with forward slashes."""
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in network_files(folder)}


def check_checksums(folder: Path, stored: Mapping[str, str], stems: Iterable[str], about: str, left_out: Collection[str] = ()) -> None:
    """Compare network files with their stored checksums; files without a checksum are not compared.

    Args:
        folder: the model folder.
        stored: the checksums, as returned by `checksums`.
        stems: names, without suffix, of the networks that will be used; other networks are not compared.
        about: name of the file that holds the checksums, for error messages.
        left_out: suffixes of files that are not compared, such as those of engines that will not run.

    Raises:
        InputError: a file is missing or differs.
    """
    wanted = set(stems)
    for name, expected in stored.items():
        if name.split("/")[0].split(".")[0] not in wanted or Path(name).suffix in left_out:
            continue
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: no such file, though {about} lists it; copy the whole model folder again")
        if _sha256(path) != expected:
            raise InputError(
                f"{path}: its checksum differs from that in {about}, so it was damaged or replaced; copy the model folder again, or, if "
                f"you changed the file yourself, delete its line under `files` in {about}"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
