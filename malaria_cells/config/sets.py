"""The entries of `data_sets`: one laboratory's data set each."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from malaria_cells.config.values import FolderOrFile, Settings

Name = Annotated[str, Field(min_length=1)]


class OneSet(Settings):
    """One data set of several. A key that is left out is as the config has it for all."""

    path: FolderOrFile
    annotations: FolderOrFile | None = None
    format: str | None = None
    group: str | None = None
    split: FolderOrFile | None = None
    label_map: dict[Name, Name] = Field(default_factory=dict)
    annotated_labels: list[Name] | None = None
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    name: Name | None = None

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, value: str | None) -> str | None:
        if value is not None and (value.strip(" .") != value or any(mark in value for mark in "/\\:")):
            raise ValueError("expected a plain name, without slashes, colons, and dots or blanks at its ends")
        return value


def names_of(entries: Sequence[OneSet]) -> list[str]:
    """A name for each entry, all different: its own, or that of its folder, with a number where another has that already.

    Examples:
        >>> names_of([OneSet(path="a/bccd"), OneSet(path="b/bccd"), OneSet(path="c", name="mine")])
        ['bccd', 'bccd2', 'mine']
    """
    taken = {entry.name for entry in entries if entry.name is not None}
    names = []
    for entry in entries:
        name = entry.name if entry.name is not None else _free(_folder_name(entry.path), taken)
        taken.add(name)
        names.append(name)
    return names


def check_names(names: Iterable[str | None]) -> None:
    """See that no name is given twice.

    Raises:
        ValueError: names it.
    """
    given = [name for name in names if name is not None]
    doubled = sorted({name for name in given if given.count(name) > 1})
    if doubled:
        raise ValueError(f"data_sets: the name '{doubled[0]}' is given twice; expected one of its own for each set")


def _folder_name(path: str) -> str:
    written = Path(path).name
    return (Path(path).resolve().name if written in {"", ".", ".."} else written).strip(" .").replace(":", "_").replace("\\", "_") or "set"


def _free(name: str, taken: set[str]) -> str:
    return next(free for n in range(1, len(taken) + 2) if (free := name if n == 1 else f"{name}{n}") not in taken)
