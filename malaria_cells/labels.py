"""Class names in a fixed order, and what each means: infected, red cell, ignored."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from malaria_cells.errors import InputError, nearest

BACKGROUND = "background"
IGNORED = -1


@dataclass(frozen=True)
class LabelSet:
    """The classes of a data set.

    Attributes:
        names: class names; a class id is an index into this tuple.
        ignored: categories of the annotation that are ignore regions: never trained on, neither hit nor miss in scoring.
        infected: those of `names` that count as an infected red cell; empty for data sets without the notion.
        red_cells: those of `names` that are red cells; infected ones always count as red cells too.
    """

    names: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    infected: tuple[str, ...] = ()
    red_cells: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError("labels: found none, expected at least one class name")
        for key in ("names", "ignored"):
            names = getattr(self, key)
            doubled = sorted({n for n in names if names.count(n) > 1})
            if doubled:
                raise InputError(f"{'labels' if key == 'names' else 'ignore_labels'}: '{doubled[0]}' is listed twice; list each name once")
        if BACKGROUND in self.names:
            raise InputError(f"labels: '{BACKGROUND}' is the detector's own reject class; use another name")
        both = sorted(set(self.names) & set(self.ignored))
        if both:
            raise InputError(f"ignore_labels: '{both[0]}' is in labels too; a category is either a class or an ignore region")
        for key, names in (("infected_labels", self.infected), ("red_cell_labels", self.red_cells)):
            for name in names:
                if name not in self.names:
                    raise InputError(f"{key}: '{name}' is not in labels{nearest(name, self.names)}; labels are {', '.join(self.names)}")

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _ids(self) -> dict[str, int]:
        ids = {name: i for i, name in enumerate(self.names)}
        return ids | dict.fromkeys(self.ignored, IGNORED)

    def class_ids(self, categories: Iterable[str], source: str) -> np.ndarray:
        """Map categories to class ids, `IGNORED` (-1) for ignore regions.

        Args:
            categories: names as found in an annotation file.
            source: what to name in the error, usually the file.

        Returns:
            int64 array (n,).

        Raises:
            InputError: a category is in neither `names` nor `ignored`.
        """
        categories = list(categories)
        unknown = sorted(set(categories) - self._ids.keys())
        if unknown:
            raise InputError(
                f"{source}: category '{unknown[0]}' is in neither labels nor ignore_labels{nearest(unknown[0], self._ids)}. "
                f"Found: {', '.join(sorted(set(categories)))}. Expected: {', '.join(self._ids)}. "
                f"Add it to labels, or to ignore_labels to leave such cells out."
            )
        return np.array([self._ids[c] for c in categories], dtype=np.int64)

    @cached_property
    def is_infected(self) -> np.ndarray:
        """Bool (n_labels,): which class ids are infected red cells."""
        return np.array([n in self.infected for n in self.names], dtype=bool)

    @cached_property
    def is_red_cell(self) -> np.ndarray:
        """Bool (n_labels,): which class ids are red cells, the infected ones included."""
        return np.array([n in self.red_cells for n in self.names], dtype=bool) | self.is_infected
