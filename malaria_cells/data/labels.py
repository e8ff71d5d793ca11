"""Class names in a fixed order, and what each means: infected, red cell, ignored."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from malaria_cells.base.errors import InputError, nearest
from malaria_cells.base.text import excerpt, number_of
from malaria_cells.config import PARASITES, SIX_CLASSES
from malaria_cells.data.synonyms import likely, means, plain

log = logging.getLogger(__name__)

BACKGROUND = "background"
IGNORED = -1
RED_BLOOD_CELL = SIX_CLASSES[0]
MOST_SHOWN = 20  # names in one message
MOST_LETTERS = 60  # of such a name


@dataclass(frozen=True)
class Wording:
    """How a person tells a command about labels, for the advice in messages.

    Attributes:
        known: where the known names stand.
        map_by: what maps a name of the annotation to a known one; ``{}`` stands for the pairs.
        ignore_by: what leaves a category out; ``{}`` stands for the names.
        pair: one entry of the map, of two names.
    """

    known: str
    map_by: str
    ignore_by: str
    pair: str


IN_CONFIG = Wording("labels nor ignore_labels", "label_map: {{{}}}", "ignore_labels: [{}]", "{}: {}")
IN_RUN = Wording("the labels of the model nor ignored", "--label-map '{}'", "--ignore-labels '{}'", "{}={}")


@dataclass(frozen=True)
class LabelSet:
    """The classes of a data set.

    Attributes:
        names: class names; a class id is an index into this tuple.
        ignored: categories of the annotation that are ignore regions: never trained on, neither hit nor miss in scoring.
        infected: those of `names` that count as an infected red cell; empty for data sets without the notion.
        red_cells: those of `names` that are red cells; infected ones always count as red cells too.
        label_map: pairs of a category of the annotation and the name or ignored category that it stands for.
        wording: how the command at work is told about labels.
    """

    names: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    infected: tuple[str, ...] = ()
    red_cells: tuple[str, ...] = ()
    # Neither is part of what the class ids mean: stores and fingerprints, which hold the text of this, stay as they are.
    label_map: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)
    wording: Wording = field(default=IN_CONFIG, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError("labels: found none, expected at least one class name")
        for key in ("names", "ignored"):
            names = getattr(self, key)
            doubled = sorted({n for n in names if names.count(n) > 1})
            if doubled:
                raise InputError(f"{'labels' if key == 'names' else 'ignore_labels'}: '{doubled[0]}' is listed twice; list each name once")
        if BACKGROUND in self.names:
            raise InputError(f"labels: '{BACKGROUND}' is the detector's own background class; use another name")
        both = sorted(set(self.names) & set(self.ignored))
        if both:
            raise InputError(f"ignore_labels: '{both[0]}' is in labels too; a category is either a class or an ignore region")
        for key, names in (("infected_labels", self.infected), ("red_cell_labels", self.red_cells)):
            for name in names:
                if name not in self.names:
                    raise InputError(f"{key}: '{name}' is not in labels{nearest(name, self.names)}; labels are {', '.join(self.names)}")
        self._check_map()

    def _check_map(self) -> None:
        for category, meant in self.label_map:
            if meant not in (*self.names, *self.ignored):
                where = "label_map" if self.wording is IN_CONFIG else "--label-map"
                raise InputError(
                    f"{where}: '{category}' stands for '{_shown(meant)}', which is in neither {self.wording.known}"
                    f"{nearest(meant, (*self.names, *self.ignored))}. Expected: {_listed((*self.names, *self.ignored))}"
                )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _ids(self) -> dict[str, int]:
        ids = {name: i for i, name in enumerate(self.names)} | dict.fromkeys(self.ignored, IGNORED)
        return ids | {category: ids[meant] for category, meant in self.label_map}

    def class_ids(self, categories: Iterable[str], source: str) -> np.ndarray:
        """Map categories to class ids, `IGNORED` (-1) for ignore regions. Categories that differ in writing alone are warned of.

        Args:
            categories: names as found in an annotation file.
            source: what to name in messages, usually the file.

        Returns:
            int64 array (n,).

        Raises:
            InputError: a category is in neither `names` nor `ignored`, and not mapped; a likely meaning is asked for, not assumed.
        """
        categories = list(categories)
        counts = Counter(categories)
        unknown = {c: counts[c] for c in sorted(counts.keys() - self._ids.keys())}
        if unknown:
            raise InputError(f"{source}: {self._unknown(unknown, counts)}")
        self._warn_of_doubles(counts, source)
        return np.array([self._ids[c] for c in categories], dtype=np.int64)

    def _unknown(self, unknown: Mapping[str, int], found: Iterable[str]) -> str:
        known = (*self.names, *self.ignored)
        guesses = {category: guess for category in list(unknown)[:MOST_SHOWN] if (guess := likely(category, known)) is not None}
        first = next(iter(unknown))
        others = f", as are {len(unknown) - 1} more" if len(unknown) > 1 else ""
        asked = f" (did you mean '{guesses[first]}'?)" if first in guesses else ""
        lines = [
            f"category '{_shown(first)}' is in neither {self.wording.known}{others}{asked}. "
            f"Found: {_listed(sorted(set(found)))}. Expected: {_listed(known)}."
        ]
        if guesses:
            pairs = ", ".join(self.wording.pair.format(_shown(category), guess) for category, guess in guesses.items())
            lines.append(f"If they mean the same, add {self.wording.map_by.format(pairs)}.")
        left = ", ".join(_shown(category) for category in list(unknown)[:MOST_SHOWN] if category not in guesses)
        if self.wording is IN_CONFIG:
            lines.append("Add it to labels, or to ignore_labels to leave such cells out.")
        else:
            lines.append(f"Add {self.wording.ignore_by.format(left or _shown(first))} to leave such cells out of the scores.")
        return "\n".join(lines)

    def _warn_of_doubles(self, counts: Mapping[str, int], source: str) -> None:
        alike: dict[str, list[str]] = defaultdict(list)
        for category in sorted(counts):
            alike[plain(category)].append(category)
        ids = self._ids
        for same in alike.values():
            if len({ids[category] for category in same}) > 1:
                usual = max(same, key=lambda category: counts[category])
                said = ", ".join(f"'{_shown(category)}' ({number_of(counts[category], 'label')})" for category in same)
                pairs = ", ".join(self.wording.pair.format(_shown(c), usual) for c in same if c != usual)
                add = f"add {self.wording.map_by.format(pairs)}"
                add = f"leave one in a config's labels and {add}" if self.wording is IN_CONFIG else add
                log.warning(f"{source}: {said} differ only in how they are written and are classes of their own; if they are one, {add}")

    @cached_property
    def is_infected(self) -> np.ndarray:
        """Bool (n_labels,): which class ids are infected red cells."""
        return np.array([n in self.infected for n in self.names], dtype=bool)

    @cached_property
    def is_red_cell(self) -> np.ndarray:
        """Bool (n_labels,): which class ids are red cells, the infected ones included."""
        return np.array([n in self.red_cells for n in self.names], dtype=bool) | self.is_infected

    @cached_property
    def is_healthy_red_cell(self) -> np.ndarray:
        """Bool (n_labels,): which class ids are red cells that are not infected."""
        return self.is_red_cell & ~self.is_infected


def warn_of_meanings(labels: LabelSet, infected_by_name: bool, red_cells_by_name: bool) -> None:
    """Ask about labels whose names sound like a meaning that they do not have, and say where none counts as infected.

    Args:
        labels: of the data set.
        infected_by_name: whether the infected labels are those of the usual names, not named by a person.
        red_cells_by_name: likewise of the red cells.
    """
    sounding = _sounding_infected(labels)
    if infected_by_name and not labels.infected:
        asked = f" Is {' or '.join(map(repr, sounding[:MOST_SHOWN]))} infected?" if sounding else ""
        log.warning(
            f"labels: none of {_listed(labels.names)} counts as infected, so that infections are not counted.{asked} "
            "Name the infected in infected_labels, or write infected_labels: [] if there are none"
        )
    elif infected_by_name and sounding:
        log.warning(
            f"labels: {_listed(labels.infected)} count as infected, {_listed(sounding)} not. Name all infected in infected_labels, "
            "or give them the usual name by label_map"
        )
    if red_cells_by_name and labels.infected and not labels.red_cells:
        red = [n for n in labels.names if n not in labels.infected and means(n, (RED_BLOOD_CELL,)) is not None]
        if red:
            log.warning(
                f"labels: is {' or '.join(map(repr, red))} a red cell? None counts as one but the infected; name it in red_cell_labels"
            )


def warn_of_uncounted(labels: LabelSet, model: str) -> None:
    """Say that a model's labels count none as infected though some sound so.

    Args:
        labels: of the model.
        model: what it is called, for the message.
    """
    sounding = _sounding_infected(labels)
    if not labels.infected and sounding:
        log.warning(
            f"{model}: none of its labels counts as infected, though {' and '.join(map(repr, sounding))} may be meant so: infections and "
            "parasitemia are not counted; they are where the training names infected_labels, or the labels are "
            f"{', '.join(PARASITES)}"
        )


def _sounding_infected(labels: LabelSet) -> list[str]:
    return [n for n in labels.names if n not in labels.infected and means(n, (*PARASITES, "parasitized")) is not None][:MOST_SHOWN]


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(_shown(name) for name in names[:MOST_SHOWN]) + more


def _shown(name: str) -> str:
    return name if len(name) <= MOST_LETTERS and name.isprintable() else excerpt(name, MOST_LETTERS)
