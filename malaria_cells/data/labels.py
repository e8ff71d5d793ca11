"""Class names in a fixed order, and the meaning of each: infected, red cell, ignored."""

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

BACKGROUND = "background"  # name of the background class, which no label may have
IGNORED = -1  # class id of ignore regions without a class
RED_BLOOD_CELL = SIX_CLASSES[0]
MAX_NAMES = 20  # names listed in one message
MAX_LETTERS = 60  # letters of a name in a message


@dataclass(frozen=True)
class Wording:
    """Names of the keys or options by which labels are set, for the advice in messages.

    Attributes:
        known: the lists of known names, after "neither".
        map_by: template of the setting that maps categories to known names; ``{}`` stands for the pairs.
        ignore_by: template of the setting that ignores categories; ``{}`` stands for the names.
        pair: template of one pair of the map.
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
        ignored: categories of the annotation that are ignore regions, which are neither trained on nor scored.
        infected: those of `names` that count as infected red cells; empty if the data set has none.
        red_cells: those of `names` that are red cells; infected ones always count as red cells too.
        label_map: pairs of a category of the annotation and the label or ignored category it is mapped to.
        wording: names of the keys or options of the running command, for messages.
    """

    names: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    infected: tuple[str, ...] = ()
    red_cells: tuple[str, ...] = ()
    # Neither changes the meaning of class ids, so both are left out of the repr, which patch stores and fingerprints contain.
    label_map: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)
    wording: Wording = field(default=IN_CONFIG, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError("labels: the list is empty; expected at least one class name")
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
        for category, target in self.label_map:
            if target not in (*self.names, *self.ignored):
                where = "label_map" if self.wording is IN_CONFIG else "--label-map"
                raise InputError(
                    f"{where}: '{category}' stands for '{_printable(target)}', which is in neither {self.wording.known}"
                    f"{nearest(target, (*self.names, *self.ignored))}. Expected: {_joined_names((*self.names, *self.ignored))}"
                )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _ids(self) -> dict[str, int]:
        ids = {name: i for i, name in enumerate(self.names)} | dict.fromkeys(self.ignored, IGNORED)
        return ids | {category: ids[meant] for category, meant in self.label_map}

    def class_ids(self, categories: Iterable[str], source: str) -> np.ndarray:
        """Map categories to class ids, with `IGNORED` (-1) for ignore regions; warn of categories that differ in spelling alone.

        Args:
            categories: names as in an annotation file.
            source: name for messages, usually that of the file.

        Returns:
            int64 array (n,).

        Raises:
            InputError: a category is in neither `names` nor `ignored` and not mapped; the message suggests a likely label.
        """
        categories = list(categories)
        counts = Counter(categories)
        unknown = {c: counts[c] for c in sorted(counts.keys() - self._ids.keys())}
        if unknown:
            raise InputError(f"{source}: {self._unknown(unknown, counts)}")
        self._warn_of_doubles(counts, source)
        return np.array([self._ids[c] for c in categories], dtype=np.int64)

    def _unknown(self, unknown: Mapping[str, int], categories: Iterable[str]) -> str:
        known = (*self.names, *self.ignored)
        guesses = {category: guess for category in list(unknown)[:MAX_NAMES] if (guess := likely(category, known)) is not None}
        first = next(iter(unknown))
        number_more = f", as are {len(unknown) - 1} more" if len(unknown) > 1 else ""
        question = f" (did you mean '{guesses[first]}'?)" if first in guesses else ""
        lines = [
            f"category '{_printable(first)}' is in neither {self.wording.known}{number_more}{question}. "
            f"Found: {_joined_names(sorted(set(categories)))}. Expected: {_joined_names(known)}."
        ]
        if guesses:
            pairs = ", ".join(self.wording.pair.format(_printable(category), guess) for category, guess in guesses.items())
            lines.append(f"If they mean the same, add {self.wording.map_by.format(pairs)}.")
        unguessed = ", ".join(_printable(category) for category in list(unknown)[:MAX_NAMES] if category not in guesses)
        if self.wording is IN_CONFIG:
            lines.append("Add it to labels, or to ignore_labels to leave such cells out.")
        else:
            lines.append(f"Add {self.wording.ignore_by.format(unguessed or _printable(first))} to leave such cells out of the scores.")
        return "\n".join(lines)

    def _warn_of_doubles(self, counts: Mapping[str, int], source: str) -> None:
        by_spelling: dict[str, list[str]] = defaultdict(list)
        for category in sorted(counts):
            by_spelling[plain(category)].append(category)
        ids = self._ids
        for spellings in by_spelling.values():
            if len({ids[category] for category in spellings}) > 1:
                commonest = max(spellings, key=lambda category: counts[category])
                listed = ", ".join(f"'{_printable(category)}' ({number_of(counts[category], 'label')})" for category in spellings)
                pairs = ", ".join(self.wording.pair.format(_printable(c), commonest) for c in spellings if c != commonest)
                advice = f"add {self.wording.map_by.format(pairs)}"
                advice = f"leave one in a config's labels and {advice}" if self.wording is IN_CONFIG else advice
                log.warning(f"{source}: {listed} differ in spelling alone and are separate classes; if they mean the same, {advice}")

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
    """Warn of labels that sound infected or like red cells but do not count as such, and of labels none of which counts as infected.

    Args:
        labels: the labels of the data set.
        infected_by_name: whether the infected labels were recognised by their names, not set by the user.
        red_cells_by_name: whether the red-cell labels were recognised by their names, not set by the user.
    """
    sounding = _sounding_infected(labels)
    if infected_by_name and not labels.infected:
        question = f" Is {' or '.join(map(repr, sounding[:MAX_NAMES]))} infected?" if sounding else ""
        log.warning(
            f"labels: none of {_joined_names(labels.names)} counts as infected, so infections are not counted.{question} "
            "Name the infected in infected_labels, or write infected_labels: [] if there are none"
        )
    elif infected_by_name and sounding:
        log.warning(
            f"labels: {_joined_names(labels.infected)} count as infected, {_joined_names(sounding)} not. "
            "Name all infected in infected_labels, or map them to the standard names by label_map"
        )
    if red_cells_by_name and labels.infected and not labels.red_cells:
        red = [n for n in labels.names if n not in labels.infected and means(n, (RED_BLOOD_CELL,)) is not None]
        if red:
            log.warning(
                f"labels: is {' or '.join(map(repr, red))} a red cell? None counts as one but the infected; name it in red_cell_labels"
            )


def warn_of_uncounted(labels: LabelSet, model: str) -> None:
    """Warn if none of a model's labels counts as infected although some sound so.

    Args:
        labels: the labels of the model.
        model: the model's name, for the message.
    """
    sounding = _sounding_infected(labels)
    if not labels.infected and sounding:
        log.warning(
            f"{model}: none of its labels counts as infected, though {' and '.join(map(repr, sounding))} may be meant so: infections and "
            "parasitemia are not counted; they are where the training names infected_labels, or the labels are "
            f"{', '.join(PARASITES)}"
        )


def _sounding_infected(labels: LabelSet) -> list[str]:
    return [n for n in labels.names if n not in labels.infected and means(n, (*PARASITES, "parasitized")) is not None][:MAX_NAMES]


def _joined_names(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(_printable(name) for name in names[:MAX_NAMES]) + more


def _printable(name: str) -> str:
    return name if len(name) <= MAX_LETTERS and name.isprintable() else excerpt(name, MAX_LETTERS)
