"""Entries of `data_sets`: one data set each, usually of one laboratory."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from malaria_cells.config.values import FolderOrFile, Settings

Name = Annotated[str, Field(min_length=1)]
LONGEST_NAME = 100  # characters of the name of a data set, which is used as a folder name
OR = " or "  # separates the labels of a category that stands for one of several labels


class OneSet(Settings):
    """One of several data sets. Keys that are left out have the value of the corresponding key of the config."""

    path: FolderOrFile
    annotations: FolderOrFile | None = None
    format: str | None = None
    group: str | None = None
    split: FolderOrFile | None = None
    label_map: dict[Name, Name | Annotated[list[Name], Field(min_length=2)]] = Field(default_factory=dict)
    annotated_labels: list[Name] | None = None
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    name: Name | None = None

    @property
    def one_name_each(self) -> dict[str, str]:
        """`label_map` with one name per category; the labels of a list are joined by `OR`."""
        return {category: meant if isinstance(meant, str) else OR.join(meant) for category, meant in self.label_map.items()}

    @property
    def one_of(self) -> Mapping[str, Sequence[str]]:
        """The lists of `label_map` by their joined name in `one_name_each`."""
        return {OR.join(meant): meant for meant in self.label_map.values() if not isinstance(meant, str)}

    @field_validator("label_map")
    @classmethod
    def _lists_are_of_different_labels(cls, value: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
        for category, meant in value.items():
            if not isinstance(meant, str) and len(set(meant)) < len(meant):
                duplicate = next(label for i, label in enumerate(meant) if label in meant[:i])
                raise ValueError(f"'{category}' lists '{duplicate}' twice; expected different labels in the list")
        return value

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, value: str | None) -> str | None:
        if value is not None and (value.strip(" .") != value or any(mark in value for mark in "/\\:")):
            raise ValueError("expected a plain name without slashes and colons, and without dots or spaces at its ends")
        if value is not None and (len(value) > LONGEST_NAME or not value.isprintable()):
            raise ValueError(f"expected up to {LONGEST_NAME} printable characters on one line")
        return value


def names_of(entries: Sequence[OneSet]) -> list[str]:
    """Return a distinct name for each data set: its `name`, or the name of its folder, with a number if that is taken.

    Names are compared without regard to case, like folder names on Windows and macOS.

    Examples:
        >>> names_of([OneSet(path="a/bccd"), OneSet(path="b/bccd"), OneSet(path="c", name="mine")])
        ['bccd', 'bccd2', 'mine']
    """
    taken = {entry.name.casefold() for entry in entries if entry.name is not None}
    names = []
    for entry in entries:
        name = entry.name if entry.name is not None else _free(_folder_name(entry.path), taken)
        taken.add(name.casefold())
        names.append(name)
    return names


def check_names(names: Iterable[str | None]) -> None:
    """Check that all names are distinct, without regard to case.

    Args:
        names: names of the data sets; None is skipped.

    Raises:
        ValueError: a name appears twice.
    """
    first_spellings: dict[str, str] = {}
    for name in names:
        if name is None:
            continue
        if name.casefold() in first_spellings:
            first = first_spellings[name.casefold()]
            other = "" if first == name else f" (also as '{first}')"
            raise ValueError(f"data_sets: the name '{name}' is given twice{other}; expected a different name for each data set")
        first_spellings[name.casefold()] = name


def _folder_name(path: str) -> str:
    written = Path(path).name
    name = Path(path).resolve().name if written in {"", ".", ".."} else written
    plain = "".join(mark if mark.isprintable() and mark not in ":\\" else "_" for mark in name)
    return plain.strip(" .")[: LONGEST_NAME - 4].strip(" .") or "set"  # leaves room for a number


def _free(name: str, taken: set[str]) -> str:
    return next(free for n in range(1, len(taken) + 2) if (free := name if n == 1 else f"{name}{n}").casefold() not in taken)
