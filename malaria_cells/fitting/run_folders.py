"""Where unfinished runs are: the folder of a run, the backup of an earlier one, and which of them can be resumed."""

from pathlib import Path

from malaria_cells.base import files
from malaria_cells.base.errors import InputError

FINISHED = "finished"
STATE = "state.json"
ENDING, BACKUP = ".unfinished", ".before"


class ResumeError(InputError):
    """Raised if a run cannot be resumed; the message ends with the advice to start a new run."""


def folder_of(output_models: Path, name: str) -> Path:
    """Return the folder of the unfinished run with a given name."""
    return output_models / f".{name}{ENDING}"


def places(output_models: Path, name: str) -> tuple[Path, Path]:
    """Return the folder of the unfinished run with a given name, and the folder of the backup of an earlier run."""
    folder = folder_of(output_models, name)
    return folder, backup_of(folder)


def by_age(output_models: Path) -> list[str]:
    """Return the names of the unfinished runs, the most recently changed first."""
    folders = {p.with_name(p.name.removesuffix(BACKUP)): p for end in (BACKUP, "") for p in output_models.glob(f".*{ENDING}{end}")}
    newest_first = sorted(folders, key=lambda p: max(f.stat().st_mtime for f in (folders[p], *folders[p].rglob(STATE))), reverse=True)
    return [p.name[1 : -len(ENDING)] for p in newest_first]


def is_there(folder: Path) -> bool:
    """Whether there is a run to resume, in its folder or in its backup."""
    return folder.exists() or backup_of(folder).exists()


def is_finished(folder: Path, model_file: Path) -> bool:
    """Whether a run had written its model and was killed before it removed its folder.

    Args:
        folder: folder of the run.
        model_file: the model file that was passed to `RunState.mark_finished`, at its final path.
    """
    marker = folder / FINISHED
    return marker.is_file() and model_file.is_file() and marker.read_text(encoding="utf-8") == files.file_hash(model_file).hex()


def backup_of(folder: Path) -> Path:
    """Return the folder that an earlier run of the same name is moved to until the new run finishes."""
    return folder.with_name(f"{folder.name}{BACKUP}")
